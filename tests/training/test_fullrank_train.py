"""A tiny model learns to write orders: what was interrupted ends as what was not, and the folder is a model."""

import importlib.util
import json
from pathlib import Path

import pytest
from tests_rankers import request_of

from tests_support import one_thread  # noqa: F401  a fixture for all that is here
from unabridged.errors import CorpusError, UsageError, ValidationError
from unabridged.rankers.listwise.prompts import LISTWISE
from unabridged.rankers.listwise.template_files import load_template
from unabridged.rankers.listwise.templates import render
from unabridged.training.fullrank.examples import Making, make_example
from unabridged.training.fullrank.labels import Label
from unabridged.training.fullrank.lessons import Lesson, lessons
from unabridged.training.fullrank.task import FullRankTask
from unabridged.training.fullrank.train import Plan, train_fullrank
from unabridged.training.fullrank.tuned import Tuning
from unabridged.training.loop import Checkpoint, Schedule, fit

_PLACE = Path(__file__).parents[1] / "rankers" / "lm" / "tiny_language_models.py"
_SPEC = importlib.util.spec_from_file_location("tiny_language_models", _PLACE)
tiny = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tiny)

LESSONS = [Lesson(request_of(values, name=str(values)), order) for values, order in (
    ((1, 2), (1, 0)), ((9, 4, 5), (0, 2, 1)), ((3, 8), (1, 0)), ((7, 6), (0, 1)))]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.llama(tmp_path_factory.mktemp("base") / "model")


def load(folder):
    from unabridged.rankers.lm.local import LocalModel

    return LocalModel.load(folder, device="cpu", precision="float32")


def plan_of(base, out, **tuning) -> Plan:
    return Plan(
        base=base, out=out, tuning=Tuning(**({"batch": 2, "rank": 4} | tuning)), device="cpu", storage="float32",
        schedule=Schedule(epochs=3, lr=5e-3, warmup_steps=1, checkpoint_steps=2),
    )  # fmt: skip


@pytest.mark.parametrize("method", ["lora", "full"])
def test_gradients_of_a_step_are_those_of_the_mean_over_its_lists(base, method):
    import torch

    local = load(base)
    examples = [make_example(local, Making(template=LISTWISE), one.request, one.order) for one in LESSONS]
    task = FullRankTask(local.model, examples, Tuning(method=method, batch=4))
    rows = task.batches(0)[0]
    loss = task.loss(0, 0, rows)
    loss.backward()
    names = list(task.parameters)
    mine = [None if value.grad is None else value.grad.clone() for value in task.parameters.values()]
    whole = sum(task.example_loss(examples[int(row)]) for row in rows) / len(rows)
    right = torch.autograd.grad(whole, list(task.parameters.values()), allow_unused=True)
    assert float(loss.detach()) == pytest.approx(float(whole.detach()), abs=1e-6)
    for name, one, other in zip(names, mine, right, strict=True):
        assert one is None if other is None else torch.allclose(one, other, atol=1e-6), name
    assert any(one is not None and float(one.abs().max()) > 1e-4 for one in mine)


def test_the_loss_of_a_list_is_that_of_a_whole_forward_pass(base):
    import torch

    from unabridged.training.fullrank.examples import collate
    from unabridged.training.fullrank.losses import importance_loss

    local = load(base)
    example = make_example(local, Making(template=LISTWISE), LESSONS[1].request, LESSONS[1].order)
    task = FullRankTask(local.model, [example], Tuning(alpha=0.5))
    tokens, mask, targets, ranks = collate([example, example], 0)
    with torch.no_grad():
        logits = task.model(input_ids=tokens, attention_mask=mask).logits
        whole = importance_loss(logits, targets, ranks, alpha=0.5)
        assert float(task.example_loss(example)) == pytest.approx(float(whole), abs=1e-5)


def test_it_learns_the_folder_is_a_model_and_the_template_is_with_it(base, tmp_path):
    report = train_fullrank(plan_of(base, tmp_path / "out"), LESSONS, LESSONS[:1])
    assert report.last_loss < 0.8 * report.first_loss
    assert report.held_out_after < report.held_out_before
    assert (report.lists, report.steps, report.cut, report.candidates) == (4, 6, 0, 9)
    assert not (tmp_path / "out.unfinished").exists()
    local = load(tmp_path / "out")
    example = make_example(local, Making(template=LISTWISE), LESSONS[0].request, LESSONS[0].order)
    task = FullRankTask(local.model, [example], Tuning(method="full"))
    assert task.mean_loss([example]) == pytest.approx(report.held_out_after, abs=1e-4)
    template = load_template(tmp_path / "out" / "template.json")
    assert render(template, "q", ()) == render(LISTWISE, "q", ())
    said = json.loads((tmp_path / "out" / "training.json").read_text())
    assert said["report"]["steps"] == 6
    assert str(tmp_path) not in json.dumps(said)
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").is_file()
    with pytest.raises(UsageError, match="exists"):
        train_fullrank(plan_of(base, tmp_path / "out"), LESSONS)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("tuning", [{}, {"method": "full", "noise": 5.0}], ids=["lora", "full with noise"])
def test_what_was_interrupted_ends_with_the_same_bytes(base, tmp_path, tuning):
    turns = iter(range(100))

    def stop(event):
        if next(turns) == 3:
            raise Stopped

    train_fullrank(plan_of(base, tmp_path / "whole", **tuning), LESSONS)
    with pytest.raises(Stopped):
        train_fullrank(plan_of(base, tmp_path / "cut", **tuning), LESSONS, listener=stop)
    with pytest.raises(ValidationError, match="alpha"):
        train_fullrank(plan_of(base, tmp_path / "cut", **tuning, alpha=0.5), LESSONS)
    train_fullrank(plan_of(base, tmp_path / "cut", **tuning), LESSONS)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == other


@pytest.mark.parametrize(
    "other",
    [{"rank": 2}, {"scale": 1.0}, {"seed": 1}, {"alpha": 0.0}, {"weighted": False}, {"noise": 9.0}, {"batch": 4},
     {"method": "full"}],
    ids=lambda other: next(iter(other)),
)  # fmt: skip
def test_every_setting_changes_what_is_learned(base, tmp_path, other):
    def trained(tuning: Tuning, name: str) -> list[float]:
        local = load(base)
        examples = [make_example(local, Making(template=LISTWISE), one.request, one.order) for one in LESSONS]
        plan = Schedule(epochs=2, lr=5e-3, warmup_steps=0)
        return fit(FullRankTask(local.model, examples, tuning), plan, Checkpoint(tmp_path / name, {}))

    assert trained(Tuning(batch=2), "one") != trained(Tuning(**({"batch": 2} | other)), "other")


def test_lists_too_long_for_the_model_are_named_and_left_out(base, tmp_path):
    long = Lesson(request_of(range(250), words=9, name="long"), tuple(range(250)))
    report = train_fullrank(plan_of(base, tmp_path / "out"), [*LESSONS, long])
    assert report.lists == 4
    assert [(one.id, one.reason) for one in report.failures] == [("long", "too-long")]
    with pytest.raises(UsageError, match="None of 1"):
        train_fullrank(plan_of(base, tmp_path / "none"), [long])


def test_labels_find_their_texts_or_say_what_is_missing():
    label = Label("q", ("a", "b"), ("b", "a"))
    [lesson] = lessons([label], {"q": "asked"}, {"a": "one", "b": "two"})
    assert lesson.order == (1, 0)
    assert [one.text for one in lesson.request.candidates] == ["one", "two"]
    with pytest.raises(CorpusError, match="'q'"):
        lessons([label], {}, {"a": "one", "b": "two"})
    with pytest.raises(CorpusError, match="'b'"):
        lessons([label], {"q": "asked"}, {"a": "one"})


def test_tunings_that_cannot_be_meant_are_refused():
    for wrong in ({"method": "half"}, {"rank": 0}, {"batch": 0}, {"scale": 0}, {"alpha": 2}, {"noise": -1}):
        with pytest.raises(UsageError):
            Tuning(**wrong)
    with pytest.raises(UsageError, match="stored"):
        Plan(base=Path("a"), out=Path("b"), storage="int4")
