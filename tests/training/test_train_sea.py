"""An aggregator that learns: gradients, cached blocks, steps against loops, killed runs, what it finds."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.encoders.hashing import HashingEncoder
from unabridged.encoders.load import load_encoder
from unabridged.encoders.sea.aggregators import KINDS, Aggregator
from unabridged.encoders.sea.encoder import SeaEncoder
from unabridged.errors import CorpusError, ShapeError, UsageError, ValidationError
from unabridged.eval.measures import evaluate
from unabridged.training.loop import Schedule
from unabridged.training.pairs import Pair, Source
from unabridged.training.retriever import Drawing, Objective
from unabridged.training.sea.blocks import block_vectors
from unabridged.training.sea.data import collect
from unabridged.training.sea.formulas import aggregate, softmax, start
from unabridged.training.sea.judge import Judge
from unabridged.training.sea.shelf import BlockShelf
from unabridged.training.sea.task import SeaTask
from unabridged.training.sea.tower import AggregatorTower
from unabridged.training.sea.train import Judging, Plan, Shape, train_sea
from unabridged.training.shelf import rows_of

BASE = HashingEncoder(48, 8)
NOISE = [f"w{n}" for n in range(60)]
TOPICS = [f"t{n}" for n in range(40)]


def drawn(count, seed):
    """Questions of three topics; of a document's four blocks the one that begins with KEY is about them."""
    chance = np.random.default_rng(seed)
    for _ in range(count):
        topics = chance.choice(TOPICS, 3, replace=False)
        blocks = [" ".join(chance.choice(NOISE + TOPICS, 7)).capitalize() + "." for _ in range(3)]
        blocks.insert(int(chance.integers(4)), f"Key key {' '.join(topics)} {topics[0]} {topics[1]} {topics[2]}.")
        yield Pair(" ".join(topics), (" ".join(blocks),))


def write_pairs(path, count=256, seed=1):
    rows = [{"query": pair.query, "positive": pair.positives[0]} for pair in drawn(count, seed)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def a_plan(out, **changes):
    plan = Plan(
        BASE, out, shape=Shape("attention"), drawing=Drawing(32, 0, cached=False), judging=Judging(40, every=10),
        schedule=Schedule(epochs=6, lr=0.3, warmup_steps=4, checkpoint_steps=7),
    )  # fmt: skip
    return replace(plan, **changes)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return Source(write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl"))


@pytest.fixture(scope="module")
def data():
    rows = [
        Pair("t1 t2", (text(1), text(2)), (text(3), text(4))),
        Pair("t3", (text(3),), (text(1),)),
        Pair("t5 t6", (text(5),)),
    ]
    return collect(rows)


def text(seed):
    return next(iter(drawn(1, seed))).positives[0]


@pytest.fixture(scope="module")
def cached(data, tmp_path_factory):
    return block_vectors(data, SeaEncoder(BASE, Aggregator("mean")), tmp_path_factory.mktemp("blocks"))


PARAMETERS = [{"weight": (48,), "bias": (1,)}, {"hidden": (5, 48), "output": (5,)}]


@pytest.mark.parametrize("shapes", PARAMETERS, ids=["one", "two"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_twin_with_gradients_equals_the_aggregator_and_its_gradient_is_right(kind, shapes):
    chance = np.random.default_rng(3)
    parameters = {name: chance.standard_normal(shape) for name, shape in shapes.items()} if KINDS[kind] else {}
    blocks = chance.standard_normal((9, 48))
    offsets = np.array([0, 1, 5, 9])
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in parameters.items()}
    found = aggregate(kind, tensors, torch.tensor(blocks), offsets)
    plain = {name: value.astype(np.float32) for name, value in parameters.items()}
    wanted = Aggregator(kind, plain)(blocks.astype(np.float32), offsets)
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-4, atol=1e-5)
    given = torch.tensor(blocks, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda own, *values: aggregate(kind, dict(zip(tensors, values, strict=True)), own, offsets),
        (given, *tensors.values()),
        atol=1e-5,
    )


def test_a_softmax_of_owners_is_that_of_each_and_survives_large_scores():
    values, owners = torch.tensor([1e4, 1e4 - 1, 3.0, -1e9, 5.0]), torch.tensor([0, 0, 1, 1, 2])
    found = softmax(values, torch.tensor([2, 2, 1]), owners)
    wanted = torch.zeros(5)
    for owner in range(3):
        wanted[owners == owner] = torch.softmax(values[owners == owner], 0)
    torch.testing.assert_close(found, wanted)


def test_a_document_without_blocks_and_a_start_that_cannot_be_are_refused():
    with pytest.raises(ShapeError, match="at least one block"):
        aggregate("mean", {}, torch.zeros(1, 3), np.array([0, 0, 1]))
    for arguments, said in (
        (("mean", 1, 4, 2, 0), "one that learns is|learns is one of attention"),
        (("attention", 3, 4, 2, 0), "1 or 2 layers"),
        (("attention", 2, 4, 0, 0), "hidden=0"),
    ):
        with pytest.raises(UsageError, match=said):
            start(*arguments)


def test_an_untrained_aggregator_weighs_blocks_nearly_the_same():
    blocks = np.random.default_rng(0).standard_normal((6, 384)).astype(np.float32)
    blocks /= np.linalg.norm(blocks, axis=1, keepdims=True)
    for layers in (1, 2):
        weights = start("attention", layers, 384, 128, 0).aggregate(blocks, np.array([0, 6])).weights
        np.testing.assert_allclose(weights, 1 / 6, atol=0.02)


def test_held_out_pairs_are_the_same_in_any_order_and_their_questions_teach_nothing():
    pairs = [*drawn(50, 7), Pair("same", ("one",)), Pair("same", ("other",))]
    one, other = collect(pairs, 10), collect(pairs[::-1], 10)
    asked = [sorted(found.texts[row] for row in found.held_queries) for found in (one, other)]
    assert asked[0] == asked[1]
    assert not set(asked[0]) & {one.texts[row] for row in one.queries}
    held = sum(pair.query in asked[0] for pair in pairs)
    assert (len(one.held_queries), len(one.queries)) == (10, 52 - held)
    read = {pair.positives[0] for pair in pairs if pair.query not in asked[0]}
    assert {one.texts[row] for row in one.candidates} == read | {one.texts[row] for row in one.held_positives[0]}
    assert not len(collect(pairs).candidates)
    judged = collect(pairs, 0, [Pair("new", ("one", "fresh"))], ["one", "two"])
    assert sorted(judged.texts[row] for row in judged.candidates) == ["fresh", "one", "two"]
    with pytest.raises(UsageError, match="leaves nothing to learn from"):
        collect(pairs, 52)
    with pytest.raises(UsageError, match="Hold out some pairs"):
        collect(pairs, 3, pairs[:1])
    with pytest.raises(CorpusError, match="no pair"):
        collect([])


def test_cached_blocks_are_those_of_the_encoder_in_every_text(data, cached):
    for row, own in enumerate(data.texts):
        rows = slice(cached.offsets[row], cached.offsets[row + 1])
        if data.roles[row]:
            read = BASE.encode_documents([own])
            np.testing.assert_array_equal(cached.vectors[rows], read.segments)
            assert cached.tokens[rows].tolist() == read.tokens.tolist()
        else:
            np.testing.assert_array_equal(cached.vectors[rows], BASE.encode_queries([own]))
    assert cached.counts.max() == 4
    rows, offsets = cached.rows(np.array([4, 0]))
    np.testing.assert_array_equal(rows[offsets[0] : offsets[1]], np.arange(*cached.offsets[4:6]))
    assert rows[offsets[1] :].tolist() == [0]


class Stopped(Exception):
    """A kill, as far as the code can tell."""


def test_caching_goes_on_where_it_was_killed_even_in_the_middle_of_a_write(tmp_path, monkeypatch):
    monkeypatch.setattr("unabridged.training.sea.blocks.PART", 16)
    data = collect(drawn(40, 3))
    whole = block_vectors(data, SeaEncoder(BASE, Aggregator("mean")), tmp_path / "whole")
    seen = []

    def stop(event):
        seen.append(event)
        if len(seen) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        block_vectors(data, SeaEncoder(BASE, Aggregator("mean")), tmp_path / "killed", stop)
    for path in (tmp_path / "killed").iterdir():
        if path.suffix != ".json":
            with path.open("ab") as file:
                file.write(b"half a block")
    encoded = []
    counting = HashingEncoder(48, 8)

    def encode(texts, **options):
        encoded.extend(texts)
        return BASE.encode_documents(texts, **options)

    monkeypatch.setattr(counting, "encode_documents", encode)
    again = block_vectors(data, SeaEncoder(counting, Aggregator("mean")), tmp_path / "killed")
    np.testing.assert_array_equal(again.vectors, whole.vectors)
    np.testing.assert_array_equal(again.offsets, whole.offsets)
    np.testing.assert_array_equal(again.tokens, whole.tokens)
    assert 0 < len(encoded) < 40
    names = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert names == {path.name: path.read_bytes() for path in (tmp_path / "killed").iterdir()}


def naive_loss(task, vectors, pairs, right, candidates, *, dot, teacher):
    """InfoNCE and the distance from best blocks by loops; ``vectors`` is a table by text."""
    aim, shelf = task.objective, task.shelf

    def score(a, b):
        value = float(vectors[a] @ vectors[b])
        return value if dot else value / float(np.linalg.norm(vectors[a]) * np.linalg.norm(vectors[b]))

    total = 0.0
    for pair, answer in zip(pairs, right, strict=True):
        known = set(rows_of(shelf.positives, pair).tolist())
        query = shelf.queries[pair]
        others = [c for c in candidates if c == answer or c not in known]
        powers = {c: math.exp(score(query, c) / aim.temperature) for c in others}
        total -= math.log(powers[answer] / sum(powers.values())) / len(pairs)
        if aim.scores:
            shares = []
            for table in (score, teacher):
                own = [math.exp(table(query, c) / aim.teacher_temperature) for c in candidates]
                shares.append([power / sum(own) for power in own])
            total += aim.scores * sum(q * math.log(q / p) for p, q in zip(*shares, strict=True)) / len(pairs)
    return total


@pytest.mark.parametrize("dot", [False, True], ids=["cosine", "dot"])
@pytest.mark.parametrize("scores", [0.0, 2.0])
def test_a_step_is_the_sum_that_loops_give(data, cached, dot, scores):
    begin = Aggregator("attention_plus_mean", {"weight": np.linspace(-3, 3, 48, dtype=np.float32), "bias": np.ones(1, np.float32)})  # fmt: skip  # noqa: E501
    aim = Objective(scores=scores, temperature=1.0 if dot else 0.2, teacher_temperature=0.3)
    task = SeaTask(
        AggregatorTower(begin, cached.vectors), BlockShelf.of(data, cached.offsets), aim,
        Drawing(3, 0, 2, cached=False), cached if scores else None, dot=dot,
    )  # fmt: skip
    (rows,) = task.batches(0)
    chance = np.random.default_rng([0, 2, 0, 0])
    right = [int(chance.choice(rows_of(task.shelf.positives, pair))) for pair in rows]
    candidates = sorted({*right, *task._wrong(rows, chance).tolist()})
    table = begin(np.asarray(cached.vectors), cached.offsets).astype(np.float64)

    def best(query, found):
        asked = cached.vectors[cached.offsets[query]]
        return max(float(asked @ cached.vectors[row]) for row in range(*cached.offsets[found : found + 2]))

    wanted = naive_loss(task, table, rows.tolist(), right, candidates, dot=dot, teacher=best)
    found = task.loss(0, 0, rows)
    assert found.item() == pytest.approx(wanted, rel=1e-4)
    found.backward()
    assert task.parameters["weight"].grad.abs().max() > 0


def test_ranks_are_those_of_the_measures_and_best_blocks_those_of_a_loop(tmp_path):
    data = collect(drawn(60, 11), 20)
    blocks = block_vectors(data, SeaEncoder(BASE, Aggregator("mean")), tmp_path)
    judge = Judge(data, blocks)
    found = judge.aggregated(Aggregator("mean"))
    sea = SeaEncoder(BASE, Aggregator("mean"))
    texts = [data.texts[row] for row in judge.candidates]
    documents = sea.encode_documents(texts)
    asked = sea.encode_queries([data.texts[row] for row in data.held_queries])
    names = [str(row) for row in judge.candidates]
    qrels = {str(e): {str(row): 1 for row in rows_of(data.held_positives, e)} for e in range(len(data.held_queries))}
    run = {str(e): dict(zip(names, row.tolist(), strict=True)) for e, row in enumerate(asked @ documents.documents.T)}
    measured = evaluate(run, qrels, ["RR"])
    assert found.mean() == pytest.approx(float(measured.means[0]), abs=1e-6)
    each = asked @ documents.segments.T
    best = [
        {name: float(row[a:b].max()) for name, (a, b) in zip(names, itertools.pairwise(documents.offsets), strict=True)}
        for row in each
    ]
    measured = evaluate({str(e): one for e, one in enumerate(best)}, qrels, ["RR"])
    baselines = judge.baselines()
    assert baselines["best block"].mean() == pytest.approx(float(measured.means[0]), abs=1e-6)
    pieces = [slice(a, b) for a, b in itertools.pairwise(documents.offsets)]
    whole = np.array([documents.tokens[own] @ documents.segments[own] for own in pieces])
    scores = asked @ (whole / np.linalg.norm(whole, axis=1, keepdims=True)).T
    run = {str(e): dict(zip(names, row.tolist(), strict=True)) for e, row in enumerate(scores)}
    assert baselines["mean by tokens"].mean() == pytest.approx(float(evaluate(run, qrels, ["RR"]).means[0]), abs=1e-6)
    assert judge.long.all()
    with pytest.raises(CorpusError, match="no held-out question"):
        Judge(collect(drawn(3, 1)), blocks)


def test_a_wrong_answer_with_the_same_score_is_counted_first(tmp_path):
    data = collect([Pair("t9", ("T9.",)), Pair("other", ("T9!", "w1"))], 0, [Pair("t9 ", ("T9.",))], ["T9!", "w1 w2"])
    judge = Judge(data, block_vectors(data, SeaEncoder(BASE, Aggregator("mean")), tmp_path))
    assert judge.aggregated(Aggregator("mean")).tolist() == [0.5]


@pytest.mark.parametrize("layers", [1, 2])
def test_it_learns_which_block_tells_what_a_document_is_about(source, tmp_path, layers):
    shape = Shape("attention", layers, 8)
    report = train_sea(a_plan(tmp_path / "out", shape=shape), [source])
    assert report.last_loss < 0.8 * report.first_loss
    assert report.score["long"] > report.baselines["mean of blocks"]["long"] + 0.05
    assert report.evaluations[0][0] == 0
    assert report.counts["candidates"] == report.counts["documents"] == 256
    encoder = load_encoder(tmp_path / "out")
    assert encoder.passport.facts["aggregator"]["layers"] == layers
    pair = next(iter(drawn(1, 99)))
    read = encoder.encode_documents(list(pair.positives))
    weights = encoder.block_weights(read.segments, read.offsets)
    start_of = [pair.positives[0][a:b].strip().split()[0] for a, b in read.spans]
    assert start_of[int(weights.argmax())] == "Key"
    card = (tmp_path / "out" / "README.md").read_text()
    for said in (f"{report.score['long']:.4f}", source.described()["files"]["pairs.jsonl"], "mean of blocks"):
        assert said in card
    assert str(tmp_path) not in card
    text = (tmp_path / "out" / "unabridged_sea.json").read_text()
    assert str(tmp_path) not in text


def test_what_is_kept_is_the_best_evaluation_and_what_is_written_is_what_was_judged(source, tmp_path):
    plan = a_plan(tmp_path / "out", schedule=Schedule(epochs=4, lr=30.0, warmup_steps=0))
    report = train_sea(plan, [source])
    best = max(value for _, value in report.evaluations)
    assert report.score["long"] == pytest.approx(best)
    assert report.kept_step != report.evaluations[-1][0] or best == report.evaluations[-1][1]
    last = train_sea(replace(plan, out=tmp_path / "last", judging=replace(plan.judging, keep="last")), [source])
    assert last.kept_step is None
    assert last.score["long"] == pytest.approx(last.evaluations[-1][1])


def test_a_run_that_was_stopped_anywhere_ends_with_the_bytes_of_one_that_was_not(source, tmp_path):
    aim = Objective(scores=1.0)

    def run(out, listener=None):
        plan = a_plan(out, objective=aim, schedule=Schedule(steps=12, lr=0.1, warmup_steps=2, checkpoint_steps=5))
        return train_sea(replace(plan, judging=Judging(40, every=4)), [source], BASE, listener)

    whole = run(tmp_path / "whole")
    for stage, number in (("encode", 1), ("train", 3), ("train", 9), ("train", 12)):
        out = tmp_path / f"{stage}{number}"
        events = []

        def stop(event, stage=stage, number=number, events=events):
            events.append(event.stage)
            if events.count(stage) == number and event.stage == stage:
                raise Stopped

        with pytest.raises(Stopped):
            run(out, stop)
        assert not out.exists()
        again = run(out)
        assert again.losses == whole.losses
        assert again.evaluations == whole.evaluations
        for path in sorted(path for path in out.rglob("*") if path.is_file()):
            assert path.read_bytes() == (tmp_path / "whole" / path.relative_to(out)).read_bytes(), path.name


def test_an_encoder_that_learns_too_is_saved_with_its_aggregator_and_gives_the_judged_ranks(
    bert_folder, source, tmp_path
):
    base = load_encoder(bert_folder, device="cpu", max_tokens=40)
    plan = a_plan(
        tmp_path / "out", base=base, full=True, shape=Shape("attention_plus_mean"),
        drawing=Drawing(8, 0, chunk_tokens=600), schedule=Schedule(steps=6, lr=2e-3, warmup_steps=1),
        judging=Judging(16, every=3),
    )  # fmt: skip
    small = Source(write_pairs(tmp_path / "small.jsonl", 48))
    report = train_sea(plan, [small])
    encoder = load_encoder(tmp_path / "out", device="cpu")
    assert encoder.passport.facts["base"]["weights"] != base.passport.facts["weights"]
    assert encoder.passport.facts["base"]["window"] == 40
    assert encoder.base.passport.facts["prompts"] == base.passport.facts["prompts"]
    data = collect(small, 16)
    asked = encoder.encode_queries([data.texts[row] for row in data.held_queries])
    found = encoder.encode_documents([data.texts[row] for row in data.candidates]).documents
    ranks = []
    for e, scores in enumerate(asked @ found.T):
        right = np.flatnonzero(np.isin(data.candidates, rows_of(data.held_positives, e)))
        ranks.append(1 / (1 + (scores > scores[right].max() + 1e-6).sum()))
    assert np.mean(ranks) == pytest.approx(report.score["all"], abs=0.02)
    assert report.counts["questions_cut"] == 0
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    assert load_encoder(moved, device="cpu").passport.fingerprint == encoder.passport.fingerprint


def test_vectors_of_full_training_before_a_step_are_those_of_the_encoder(bert_folder, tmp_path):
    from unabridged.training.sea.full import FullTower, check_trainable, token_blocks

    base = check_trainable(load_encoder(bert_folder, device="cpu", max_tokens=40))
    data = collect(drawn(4, 2))
    tokens = token_blocks(data, base)
    begin = start("attention", 1, base.dim, 8, 0)
    tower = FullTower(base, begin, tokens)
    shelf = BlockShelf.of(data, tokens.offsets, tokens.sizes)
    rows = np.arange(len(data))
    found = tower.vectors(*shelf.packed(rows))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    sea = SeaEncoder(base, begin)
    for row, own in enumerate(data.texts):
        wanted = sea.encode_documents([own]).documents[0] if data.roles[row] else sea.encode_queries([own])[0]
        np.testing.assert_allclose(found[row], wanted, atol=2e-5)
    documents = data.roles == 1
    assert tokens.content == int(base.count_tokens([t for t, d in zip(data.texts, documents, strict=True) if d]).sum())
    assert shelf.lengths.tolist() == tokens.sizes.tolist()


def test_only_questions_longer_than_a_window_are_counted_as_cut_not_those_with_comments_left_out(bert_folder):
    from unabridged.training.sea.full import check_trainable, token_blocks

    pytest.importorskip("tree_sitter_python")
    code = "def f(a):\n    # why\n    return a\n"
    for question, cut in ((code, 0), (code * 40, 1)):
        data = collect([Pair(question, (code,))])
        for comments in (True, False):
            base = check_trainable(
                load_encoder(bert_folder, device="cpu", split="syntax", language="python", comments=comments)
            )
            assert token_blocks(data, base).cut == cut


def test_gradients_of_full_training_reach_every_parameter_and_do_not_depend_on_chunks(bert_folder):
    from unabridged.training.sea.full import FullTower, check_trainable, token_blocks

    base = check_trainable(load_encoder(bert_folder, device="cpu", max_tokens=40))
    data = collect(drawn(4, 2))
    tokens = token_blocks(data, base)
    found = []
    for chunk in (10_000, 90):
        tower = FullTower(base, start("attention", 2, base.dim, 4, 0), tokens)
        task = SeaTask(
            tower, BlockShelf.of(data, tokens.offsets, tokens.sizes), Objective(), Drawing(4, 0, chunk_tokens=chunk)
        )
        task.loss(0, 0, task.batches(0)[0]).backward()
        found.append({name: value.grad for name, value in task.parameters.items()})
    unused = {name for name, value in found[0].items() if value is None or not value.abs().max() > 0}
    assert all("key.bias" in name for name in unused), unused  # softmax does not see what all keys share
    for name in set(found[0]) - unused:
        torch.testing.assert_close(found[1][name], found[0][name], rtol=1e-3, atol=1e-5)


def test_parts_that_do_not_fit_are_refused(source, bert_folder, tmp_path):
    with pytest.raises(UsageError, match="no transformer encoder"):
        train_sea(a_plan(tmp_path / "out", full=True), [source])
    late = load_encoder(bert_folder, device="cpu", late_tokens=9)
    with pytest.raises(UsageError, match="late chunking"):
        train_sea(a_plan(tmp_path / "out", base=late, full=True), [source])
    with pytest.raises(UsageError, match="learns is one of"):
        train_sea(a_plan(tmp_path / "out2", shape=Shape("max")), [source])
    with pytest.raises(UsageError, match="leave vectors at 0"):
        train_sea(a_plan(tmp_path / "out3", objective=Objective(vectors=1.0)), [source], BASE)
    with pytest.raises(UsageError, match="there is none"):
        train_sea(a_plan(tmp_path / "out4", objective=Objective(scores=1.0)), [source])
    with pytest.raises(UsageError, match="keep='first'"):
        Judging(keep="first")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    with pytest.raises(UsageError, match="exists already"):
        train_sea(a_plan(tmp_path / "there"), [source])


def test_another_run_in_the_same_place_is_refused(source, tmp_path):
    def stop(event):
        if event.stage == "train":
            raise Stopped

    plan = a_plan(tmp_path / "out", schedule=Schedule(steps=9, checkpoint_steps=1))
    with pytest.raises(Stopped):
        train_sea(plan, [source], listener=stop)
    for changes, name in (
        ({"shape": Shape("attention_plus_mean")}, "kind"),
        ({"dot": True}, "similarity"),
        ({"base": HashingEncoder(48, 9)}, "base"),
    ):
        with pytest.raises(ValidationError, match=f"unfinished training with .*{name}="):
            train_sea(replace(plan, **changes), [source])


def test_the_command_trains_judges_by_a_set_and_says_what_it_found(bert_folder, tmp_path):
    pairs = write_pairs(tmp_path / "pairs.jsonl", 64)
    folder = tmp_path / "set"
    (folder / "qrels").mkdir(parents=True)
    held = list(drawn(12, 77))
    lines = {"corpus": [pair.positives[0] for pair in held], "queries": [pair.query for pair in held]}
    for name, texts in lines.items():
        rows = [json.dumps({"_id": str(n), "text": text, "title": ""}) + "\n" for n, text in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("".join(rows))
    judged = ["query-id\tcorpus-id\tscore", *(f"{n}\t{n}\t1" for n in range(12))]
    (folder / "qrels" / "test.tsv").write_text("\n".join(judged) + "\n")
    line = [
        "train",
        "sea",
        str(pairs),
        "--out",
        str(tmp_path / "out"),
        "--encoder",
        str(bert_folder),
        "--split",
        "prose",
    ]
    line += ["--max-tokens", "40", "--steps", "4", "--teacher", "base", "--scores", "1", "--quiet"]
    done = CliRunner().invoke(app, [*line, "--eval", str(folder)])
    assert done.exit_code == 0, done.output
    assert "MRR of 12 held-out questions among 12 documents" in done.output
    for name in ("this aggregator", "best block", "mean of blocks", "first block"):
        assert name in done.output
    assert load_encoder(tmp_path / "out", device="cpu").passport.facts["kind"] == "sea"
    paper = ["train", "sea", str(pairs), "--out", str(tmp_path / "paper"), "--encoder", str(bert_folder)]
    paper += ["--split", "prose", "--steps", "2", "--paper", "--quiet", "--output", "json"]
    done = CliRunner().invoke(app, paper)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["score"] is None
    refused = CliRunner().invoke(app, [*paper[:4], str(tmp_path / "x"), "--paper", "--teacher", "base"])
    assert refused.exit_code == 2
