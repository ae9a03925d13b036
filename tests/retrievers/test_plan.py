"""The plan: what it draws of a corpus, its sums, and that it is near what a build takes."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unabridged.contracts import Document, Encoder, Failure, Level
from unabridged.corpora import ListCorpus, scan
from unabridged.encoders.hashing import HashingEncoder
from unabridged.index.recipe import choose_recipe
from unabridged.retrievers import survey as survey_module
from unabridged.retrievers.build import build
from unabridged.retrievers.calibrate import calibrate, unit_of
from unabridged.retrievers.calibration import Calibration, Kind, Sample, Spent
from unabridged.retrievers.free import Free
from unabridged.retrievers.plan import Amounts, _measured, make_plan, tokens_per_character
from unabridged.retrievers.settings import BuildSettings
from unabridged.retrievers.survey import PASSAGE_CHARACTERS, Survey
from unabridged.retrievers.units import UNIT_CHARACTERS, UNIT_DOCUMENTS

PLENTY = 1 << 50


def prose(seed: int, size: int) -> str:
    """Words of two to nine letters."""
    rng = np.random.default_rng(seed)
    letters = rng.integers(97, 123, size).astype(np.uint8)
    letters[np.cumsum(rng.integers(3, 10, size)) % size] = 32
    return letters.tobytes().decode("ascii")


def digits(seed: int, size: int) -> str:
    """Words of one letter: many more tokens for the same characters."""
    letters = np.random.default_rng(seed).integers(48, 58, size).astype(np.uint8)
    letters[1::2] = 32
    return letters.tobytes().decode("ascii")


def corpus_of(sizes: list[int], write=prose) -> ListCorpus:
    return ListCorpus([Document(f"d{row}", write(row, size)) for row, size in enumerate(sizes)])


def surveyed(corpus) -> Survey:
    survey = Survey(corpus)
    scan(survey)
    return survey


@given(st.lists(st.integers(1, 900_000), min_size=1, max_size=12))
@settings(max_examples=20, deadline=None)
def test_the_largest_unit_is_the_one_that_a_build_forms(sizes: list[int]) -> None:
    text = "x" * max(sizes)
    survey = Survey(ListCorpus([Document(str(row), text[:size]) for row, size in enumerate(sizes)]))
    list(survey)
    units, open_unit = [], []
    for size in sizes:
        open_unit.append(size)
        if sum(open_unit) >= UNIT_CHARACTERS or len(open_unit) >= UNIT_DOCUMENTS:
            units.append(sum(open_unit))
            open_unit = []
    units.append(sum(open_unit))
    assert survey.largest_unit == max(units)
    assert survey.largest_pair == max(one + other for one, other in zip([0, *units], units, strict=False))


def test_units_end_after_so_many_documents_too() -> None:
    survey = Survey(ListCorpus([Document(str(row), "ten letter") for row in range(UNIT_DOCUMENTS + 5)]))
    list(survey)
    assert survey.largest_unit == 10 * UNIT_DOCUMENTS


def test_a_small_corpus_is_taken_whole_and_each_piece_stands_for_itself() -> None:
    survey = surveyed(corpus_of([10, 20_000, 300]))
    assert sorted(len(passage.text) for passage in survey.passages) == [10, 300, 20_000 - PASSAGE_CHARACTERS, 16_384]
    assert {passage.stands_for for passage in survey.passages} == {1.0}
    assert sorted(passage.whole for passage in survey.passages) == [False, False, True, True]


def test_the_passages_do_not_depend_on_the_order_and_failures_and_second_readings_change_nothing() -> None:
    documents = [Document(f"d{row}", prose(row, 900 + row)) for row in range(400)]
    failure = Failure("bad", "here", "read", "malformed-json", "broken")
    one = surveyed(ListCorpus(documents))
    other = Survey([*documents[::-1], failure])  # type: ignore[arg-type]
    first, second = list(other), list(other)
    assert first == second == [*documents[::-1], failure]
    assert one.passages == other.passages


def test_passages_are_drawn_by_size_and_their_weights_add_up_to_the_corpus(monkeypatch) -> None:
    monkeypatch.setattr(survey_module, "PASSAGE_CHARACTERS", 1000)
    sizes = [400_000, *[600] * 1000]
    survey = surveyed(corpus_of(sizes))
    assert len(survey.passages) == survey_module.PASSAGES
    of_long = sum(len(p.text) for p in survey.passages if p.characters == 400_000)
    assert of_long / sum(len(p.text) for p in survey.passages) == pytest.approx(0.4, abs=0.13)
    total = sum(len(p.text) * p.stands_for for p in survey.passages)
    assert total == pytest.approx(sum(sizes), rel=0.1)


def test_tokens_of_a_document_with_a_fifth_of_the_text_count_as_much_as_they_are(monkeypatch) -> None:
    """A sample of documents would see the long one once in 2,001."""
    texts = [digits(0, 240_000), *[prose(row, 480) for row in range(2000)]]
    monkeypatch.setattr(survey_module, "PASSAGE_CHARACTERS", 1000)
    encoder = HashingEncoder(16)
    survey = surveyed(ListCorpus([Document(str(row), text) for row, text in enumerate(texts)]))
    wanted = encoder.count_tokens(texts).sum() / sum(map(len, texts))
    assert tokens_per_character(survey.passages, encoder) == pytest.approx(wanted, rel=0.12)


def test_an_encoder_without_weights_satisfies_the_contract_and_costs_segments_as_asked() -> None:
    free = Free(8, 256, 100)
    assert isinstance(free, Encoder)
    encoded = free.encode_documents(["x" * 250, "", "y"])
    assert encoded.offsets.tolist() == [0, 3, 4, 5]
    assert encoded.spans.tolist() == [[0, 83], [83, 166], [166, 250], [0, 0], [0, 1]]
    assert free.encode_documents(["a"], level=Level.DOC).segments is None
    assert np.linalg.norm(free.encode_queries(["a"])[0]) == pytest.approx(1)


@given(st.integers(0, 10**7), st.integers(0, 10**7))
@settings(max_examples=25, deadline=None)
def test_the_unit_that_is_tried_has_the_shape_of_the_largest_and_a_bounded_size(unit: int, longest: int) -> None:
    sample = Sample(short=["short one"], long=["long text " * 900], unit=unit, longest=longest, segment_characters=100)
    texts = list(unit_of(sample))
    size = sum(map(len, texts))
    assert 1 <= size <= max(400_001, 1)
    assert len(texts[0]) == pytest.approx(max(1, min(longest, unit) * min(1, 400_000 / max(unit, 1))), abs=1)


def tried(wall: float = 1e-4) -> Calibration:
    kind = Kind(Spent(wall, 2 * wall), Spent(1e-7, 1e-7), 1.5, 1000)
    return Calibration(
        start=Spent(3, 4),
        fixed=Spent(0.2, 0.1),
        fixed_disk=5000,
        short=kind,
        long=replace(kind, per_token=Spent(2 * wall, 4 * wall)),
        ram_base=300_000_000,
        ram_work=50_000_000,
        ram_per_character=140.0,
        device="cpu",
        threads=2,
        load=0.5,
    )


def test_a_calibration_survives_being_written() -> None:
    one = tried()
    assert Calibration.from_json(json.loads(json.dumps(one.as_json()))) == one
    bare = replace(one, short=Kind(), load=None)
    assert Calibration.from_json(json.loads(json.dumps(bare.as_json()))) == bare


AMOUNT = st.floats(0, 1e12)


@given(AMOUNT, AMOUNT, AMOUNT, AMOUNT, st.integers(0, 10**10), st.floats(1, 3))
def test_more_of_anything_never_takes_less(a: float, b: float, c: float, d: float, unit: int, more: float) -> None:
    recipe = choose_recipe("flat", n=10, dim=8, ram_bytes=PLENTY, disk_bytes=PLENTY)
    one = Amounts(a, b, c, d, unit, unit, 2 * unit)
    grown = Amounts(
        a * more, b * more, c * more, d * more, round(unit * more), round(unit * more), round(2 * unit * more)
    )
    small, large = (_measured(tried(), amounts, recipe, 1000, Spent(1, 1)) for amounts in (one, grown))
    for kind in ("seconds", "cpu_seconds", "ram", "disk"):
        assert sum(large[kind].values()) >= sum(small[kind].values()) * (1 - 1e-12)
        assert min(small[kind].values()) >= 0
    assert sum(small["seconds"].values()) >= (3 + 0.2 + 2 + c * 1e-4 + d * 2e-4) * (1 - 1e-12)


def test_the_approximate_index_and_the_largest_unit_do_not_hold_memory_at_once() -> None:
    recipe = choose_recipe("ivf-sq8", n=2_000_000, dim=384, ram_bytes=PLENTY, disk_bytes=PLENTY)
    amounts = Amounts(0, 1e9, 0, 1e8, 10**5, 4 * 10**5, 8 * 10**5)
    parts = _measured(tried(), amounts, recipe, 1000, Spent())["ram"]
    assert set(parts) == {"program and model", "approximate index"}
    long = _measured(tried(), replace(amounts, pair=10**9), recipe, 1000, Spent())["ram"]
    assert long["units under way"] == pytest.approx(140e9 + 50e6)


@pytest.mark.parametrize(
    ("sizes", "level"),
    [([300] * 200, Level.BOTH), ([40_000] * 3, Level.SEGMENT), ([90_000, *[900] * 150], Level.DOC)],
    ids=["short", "long", "skewed"],
)
def test_a_plan_that_was_tried_is_near_the_index_that_is_built(tmp_path, sizes: list[int], level: Level) -> None:
    corpus, encoder, chosen = corpus_of(sizes), HashingEncoder(32), BuildSettings(level=level)

    def here(sample: Sample) -> Calibration:
        return calibrate(encoder, sample, chosen, started=Spent.now(), seconds=0.5)

    plan = make_plan(corpus, encoder, chosen, PLENTY, PLENTY, calibrate=here)
    report = build(corpus, encoder, tmp_path / "ix", options={"level": level})
    disk = sum(path.stat().st_size for path in (tmp_path / "ix").rglob("*") if path.is_file())
    assert plan.tokens == pytest.approx(report.tokens_total, rel=0.05)
    assert plan.vectors == pytest.approx(report.vectors, rel=0.2)
    assert plan.disk == pytest.approx(disk, rel=0.15)
    assert plan.seconds == pytest.approx(sum(plan.parts["seconds"].values()))
    assert plan.ram == round(sum(plan.parts["ram"].values()))
    assert plan.assumptions["calibrated"] is True
    json.dumps(plan.as_json(), allow_nan=False)


def test_a_plan_without_trying_says_why_and_still_adds_up() -> None:
    plan = make_plan(corpus_of([5000] * 4), HashingEncoder(16), BuildSettings(), PLENTY, PLENTY)
    assert plan.assumptions["calibrated"] is False
    assert plan.assumptions["why_not"] == "as asked"
    assert plan.seconds is None
    assert plan.cpu_seconds is None
    assert plan.ram == round(sum(plan.parts["ram"].values()))
    failed = make_plan(
        corpus_of([5000]),
        HashingEncoder(16),
        BuildSettings(),
        PLENTY,
        PLENTY,
        calibrate=lambda _: None,
        why=["no torch"],
    )
    assert failed.assumptions["why_not"] == "no torch"


def test_without_trying_a_document_longer_than_a_unit_takes_memory_by_its_length() -> None:
    small, large = (
        make_plan(corpus_of([size]), HashingEncoder(16), BuildSettings(), PLENTY, PLENTY).ram
        for size in (1000, 3_000_000)
    )
    assert large - small == pytest.approx(145 * (3_000_000 - UNIT_CHARACTERS), rel=0.01)


def test_empty_documents_are_planned() -> None:
    corpus = ListCorpus([Document("a", ""), Document("b", " ")])
    encoder, chosen = HashingEncoder(16), BuildSettings()

    def here(sample: Sample) -> Calibration:
        return calibrate(encoder, sample, chosen, started=Spent.now(), seconds=0.1)

    plan = make_plan(corpus, encoder, chosen, PLENTY, PLENTY, calibrate=here)
    assert plan.tokens == 0
    assert plan.seconds is not None
    assert not math.isnan(plan.seconds)
