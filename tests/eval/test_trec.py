"""Run and judgement files against the rules of trec_eval."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unabridged.errors import CorpusError, DuplicateId, MissingFile, ShapeError, UsageError
from unabridged.eval.trec import read_run, strictly_decreasing, write_run


def test_a_run_has_six_columns_ranks_from_one_and_survives_the_round_trip(tmp_path):
    path = tmp_path / "run.trec"
    assert write_run(path, [("q1", [("d1", 2.5), ("d2", 0.1)]), ("q2", []), ("q3", [("d1", -1.0)])], tag="mine") == 3
    assert path.read_text() == "q1 Q0 d1 1 2.5 mine\nq1 Q0 d2 2 0.1 mine\nq3 Q0 d1 1 -1.0 mine\n"
    assert read_run(path) == {"q1": {"d1": 2.5, "d2": 0.1}, "q3": {"d1": -1.0}}


@pytest.mark.parametrize(
    "scores",
    [
        [1.0] * 5,
        [1 + 6e-8, 1 + 5e-8, 1.0, 1.0],
        [0.0, -0.0, 0.0],
        [1e-45, 0.0, 0.0, -1e-45],
        [16777217.0, 16777216.0, 16777216.0],
        [3.0, 3.0, 3.0 - 1e-7, 2.0, 2.0],
    ],
    ids=["equal", "below-float32", "zeros", "denormal", "large", "runs"],
)
def test_tied_scores_are_distinct_after_float32_rounding(tmp_path, scores):
    path = tmp_path / "run.trec"
    write_run(path, [("q", [(f"d{rank}", score) for rank, score in enumerate(scores)])])
    read = np.array(list(read_run(path)["q"].values())).astype(np.float32)
    assert bool((np.diff(read) < 0).all())
    assert np.allclose(read, np.array(scores, dtype=np.float32), rtol=1e-6, atol=1e-40)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1e30, 1e30), max_size=40))
def test_any_descending_scores_become_strictly_descending_float32(scores):
    out = strictly_decreasing(sorted(scores, reverse=True))
    assert out.dtype == np.float32
    assert len(out) == len(scores)
    assert bool((np.diff(out) < 0).all())
    texts = [float(text) for text in out.astype("U32").tolist()]
    assert np.array_equal(np.array(texts).astype(np.float32), out), "the decimals read back as the same float32"


def test_scores_that_fall_already_are_not_touched():
    scores = np.array([3.0, 2.0, 1.0], dtype=np.float32)
    assert np.array_equal(strictly_decreasing(scores.tolist()), scores)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e39], ids=["nan", "inf", "-inf", "beyond-float32"])
def test_scores_that_are_not_finite_are_refused_and_leave_no_file(tmp_path, bad):
    with pytest.raises(ShapeError, match="finite"):
        write_run(tmp_path / "run.trec", [("q", [("a", 1.0)]), ("p", [("a", bad)])])
    assert list(tmp_path.iterdir()) == []


def test_rising_scores_are_refused_with_their_rank(tmp_path):
    with pytest.raises(ShapeError, match="rank 2"):
        write_run(tmp_path / "run.trec", [("q", [("a", 1.0), ("b", 2.0)])])


def test_a_failed_write_keeps_the_older_run(tmp_path):
    path = tmp_path / "run.trec"
    write_run(path, [("q", [("a", 1.0)])])
    before = path.read_bytes()
    with pytest.raises(DuplicateId, match="'a' occurs twice"):
        write_run(path, [("q", [("b", 1.0)]), ("p", [("a", 2.0), ("a", 1.0)])])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("bad", ["a b", "a\tb", "a\nb", "", "a\u2028b", "a\0b", "\x1c", "a\xa0b", "a\ud800"])
def test_ids_that_a_run_cannot_hold_are_named(tmp_path, bad):
    for results in ([(bad, [("d", 1.0)])], [("q", [(bad, 1.0)])]):
        with pytest.raises(UsageError) as caught:
            write_run(tmp_path / "run.trec", results)
        assert repr(bad) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=8, unique=True))
def test_escaped_ids_survive_the_round_trip(tmp_path_factory, ids):
    path = tmp_path_factory.mktemp("runs") / "run.trec"
    write_run(path, [(query, [(one, float(-at)) for at, one in enumerate(ids)]) for query in ids], escape=True)
    assert read_run(path, escaped=True) == {query: {one: -at for at, one in enumerate(ids)} for query in ids}
    assert all(len(line.split()) == 6 for line in path.read_text(encoding="utf-8").splitlines())


def test_a_percent_sign_stays_as_it_is_without_escape(tmp_path):
    write_run(tmp_path / "run.trec", [("q%20", [("d%p", 1.0)])])
    assert read_run(tmp_path / "run.trec") == {"q%20": {"d%p": 1.0}}


def test_a_query_twice_and_a_folder_that_is_not_there_are_typed_errors(tmp_path):
    with pytest.raises(DuplicateId, match="query 'q'"):
        write_run(tmp_path / "run.trec", [("q", []), ("q", [])])
    with pytest.raises(MissingFile):
        write_run(tmp_path / "none" / "run.trec", [])
    with pytest.raises(UsageError, match="tag"):
        write_run(tmp_path / "run.trec", [], tag="two words")


@pytest.mark.parametrize(
    "line",
    ["q Q0 d 1 0.5", "q Q0 d 1 high tag", "q Q0 d 1 nan tag", "q Q0 a 2 1.0 tag", "\udcff Q0 d 1 1.0 tag"],
    ids=["five-columns", "no-number", "nan", "twice", "not-utf8"],
)
def test_a_malformed_run_line_is_named_by_its_number(tmp_path, line):
    path = tmp_path / "run.trec"
    path.write_bytes(b"q Q0 a 1 2.0 tag\n" + line.encode("utf-8", "surrogateescape") + b"\n")
    with pytest.raises(CorpusError, match=r"run\.trec:2"):
        read_run(path)
