"""Ranking by attention equals the definition, computed in one plain pass with all attention kept."""

import importlib.util
from pathlib import Path

import pytest

from tests_support import one_thread  # noqa: F401  a fixture for all that is here
from unabridged.errors import UsageError
from unabridged.rankers import attention_passes
from unabridged.rankers.attention import AttentionRanker, AttentionSettings, calibrated
from unabridged.rankers.contracts import CHANGED, SEGMENTS, Candidate, Ranker, Request, Status

_PLACE = Path(__file__).parent / "lm" / "tiny_language_models.py"
_SPEC = importlib.util.spec_from_file_location("tiny_language_models", _PLACE)
tiny = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tiny)

TEXTS = ("The cat sat.", "Lima is the capital of Peru.", "", "a [3] b", "[12] the the the", "x" * 90)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    from unabridged.rankers.lm.local import LocalModel

    return LocalModel.load(tiny.llama(tmp_path_factory.mktemp("attention") / "model"), device="cpu")


def request_of(*texts: str, query: str = "capital of Peru") -> Request:
    return Request(query, tuple(Candidate(str(place), text) for place, text in enumerate(texts)))


def by_definition(local, texts, query, *, layers=None, reverse=False):
    """Scores by one eager pass for each query over the whole prompt, with every attention matrix kept."""
    import torch

    shown = [text.replace("[3]", "(3)").replace("[12]", "(12)") for text in texts]
    order = list(range(len(texts)))[::-1] if reverse else list(range(len(texts)))
    settings = AttentionSettings()
    parts = [f"[{number}] {shown[place]}" for number, place in enumerate(order, start=1)]
    documents = "\n\n".join([settings.opening, *parts])
    model, tokenizer = local.model, local.tokenizer
    paid = []
    for asked in (query, "N/A"):
        messages = [{"role": "user", "content": f"{documents}\n\n{settings.closing}\nQuery: {asked}"}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        cut = text.index(documents) + len(documents)
        head = tokenizer(text[:cut], add_special_tokens=False, return_offsets_mapping=True)
        tail = tokenizer(text[cut:], add_special_tokens=False)["input_ids"]
        ids = torch.tensor([head["input_ids"] + tail])
        before = model.config._attn_implementation
        model.set_attn_implementation("eager")
        with torch.inference_mode():
            found = model(ids, output_attentions=True).attentions
        model.set_attn_implementation(before)
        total = torch.zeros(ids.shape[1])
        for layer in found[slice(*(layers or (0, None)))]:
            total += layer[0, :, -len(tail) :].mean(1).sum(0)
        paid.append(total[: len(head["input_ids"])])
    difference = paid[0] - paid[1]
    scores = {}
    at = text.index(documents) + len(settings.opening)
    for place, part in zip(order, parts, strict=True):
        start, end = at + 2, at + 2 + len(part)
        inside = [n for n, (one, _) in enumerate(head["offset_mapping"]) if start <= one < end]
        mine = difference[inside]
        keep = mine > mine.mean() - 2 * mine.std() if len(mine) > 1 else [True]
        scores[place] = float(sum(value for value, kept in zip(mine, keep, strict=True) if kept))
        at = end
    return [scores[place] for place in range(len(texts))]


@pytest.mark.parametrize(
    ("layers", "reverse"), [(None, False), (None, True), ((0, 1), False), ((1, 2), False)],
    ids=["all layers", "reversed", "the first layer", "the second layer"],
)  # fmt: skip
def test_scores_are_those_of_the_definition(local, layers, reverse):
    ranker = AttentionRanker(local, AttentionSettings(layers=layers, reverse=reverse))
    assert isinstance(ranker, Ranker)
    [ranking] = ranker.rank([request_of(*TEXTS)])
    right = by_definition(local, TEXTS, "capital of Peru", layers=layers, reverse=reverse)
    assert ranking.status is Status.OK
    mine = dict(zip(ranking.order, ranking.scores, strict=True))
    assert [mine[place] for place in range(len(TEXTS))] == pytest.approx(right, abs=1e-5)
    assert ranking.order == tuple(sorted(range(len(TEXTS)), key=lambda place: -mine[place]))
    assert max(right) - min(right) > 1e-3
    assert ranking.exposures[3].flags == (CHANGED,)


def test_how_the_prompt_is_read_in_pieces_changes_nothing(local, monkeypatch):
    whole = AttentionRanker(local).rank([request_of(*TEXTS)])[0]
    monkeypatch.setattr(attention_passes, "CHUNK", 7)
    pieces = AttentionRanker(local).rank([request_of(*TEXTS)])[0]
    assert pieces.order == whole.order
    assert pieces.scores == pytest.approx(whole.scores, abs=1e-5)


def test_the_model_is_left_as_it_was(local):
    def hooks():
        return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in local.model.modules())

    before, hooked = local.model.config._attn_implementation, hooks()
    ranker = AttentionRanker(local, AttentionSettings(layers=(0, 1)))
    first = ranker.rank([request_of(*TEXTS)])
    assert local.model.config._attn_implementation == before
    assert hooks() == hooked
    assert ranker.rank([request_of(*TEXTS)]) == first


def test_nothing_to_rank_and_one_candidate(local):
    empty, one = AttentionRanker(local).rank([request_of(), request_of("a")])
    assert (empty.order, empty.scores) == ((), ())
    assert one.order == (0,)
    assert one.spent.calls == 2


def test_candidates_too_long_for_the_context_are_shown_by_their_best_segments(tmp_path):
    from unabridged.rankers.lm.local import LocalModel

    context = 400
    local = LocalModel.load(tiny.llama(tmp_path / "model", context=context), device="cpu")
    long = "filler words here. " * 100 + "Lima is the capital of Peru. " + "filler words here. " * 100
    [ranking] = AttentionRanker(local).rank([request_of("short text", long)])
    assert ranking.status is Status.OK
    assert ranking.spent.usage.prompt < 2 * context
    assert SEGMENTS in ranking.exposures[1].flags
    assert any("Peru" in long[slice(*span)] for span in ranking.exposures[1].spans)
    many = request_of(*(f"text {number} " * 9 for number in range(30)))
    [ranking] = AttentionRanker(local).rank([many])
    assert (ranking.order, ranking.status) == (tuple(range(30)), Status.FAILED)
    assert "do not fit" in ranking.steps[0].reason


def test_tokens_far_below_the_mean_are_left_out():
    import torch

    values = [1.0] * 20 + [-100.0]
    assert calibrated(torch.tensor(values)) == pytest.approx(20.0)
    assert calibrated(torch.tensor([-3.0])) == -3.0
    assert calibrated(torch.tensor([])) is None
    assert calibrated(torch.tensor([float("nan")])) is None


def test_settings_that_cannot_be_meant_are_refused(local):
    for wrong in ({"layers": (1, 1)}, {"layers": (-1, 1)}, {"opening": ""}, {"floor": 0}):
        with pytest.raises(UsageError):
            AttentionSettings(**wrong)
    with pytest.raises(UsageError, match="layers"):
        AttentionRanker(local, AttentionSettings(layers=(0, 99)))


@pytest.mark.parametrize(("window", "status"), [(300, Status.OK), (16, Status.FAILED)])
def test_layers_that_look_back_a_window_are_shown_no_more_than_that(tmp_path, window, status):
    from unabridged.rankers.lm.local import LocalModel

    local = LocalModel.load(tiny.sliding_mistral(tmp_path / "model", window=window), device="cpu")
    [ranking] = AttentionRanker(local).rank([request_of(*(f"text {number} " * 30 for number in range(4)))])
    assert ranking.status is status
    assert ranking.spent.usage.prompt < 2 * window
    if status is Status.OK:
        assert all(SEGMENTS in exposure.flags for exposure in ranking.exposures)
