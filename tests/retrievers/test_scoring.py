"""Document scores against a plain loop, and fusion against hand values and symmetry."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unabridged.errors import ShapeError, UsageError
from unabridged.retrievers.scoring import (
    DEFAULT_SCORING,
    METHODS,
    DocumentScoring,
    Fusion,
    best_segments,
    expected_maximum,
    fuse,
    lead_of_first,
    score_documents,
    within_range,
)

documents_of_scores = st.lists(
    st.lists(st.sampled_from([-0.9, -0.25, 0.0, 0.125, 0.3, 0.5, 0.77, 1.0]), min_size=1, max_size=9),
    min_size=1,
    max_size=6,
)


def packed(documents):
    flat = np.array([score for document in documents for score in document], np.float32)
    return flat, np.cumsum([0, *map(len, documents)]).astype(np.int64)


def by_hand(scores, scoring, whole):
    best = sorted((float(np.float32(s)) for s in scores), reverse=True)
    if scoring.method == "max":
        return best[0]
    if scoring.method == "first":
        return float(np.float32(scores[0]))
    if scoring.method == "mean":
        return math.fsum(best) / len(best)
    if scoring.method == "topk":
        return math.fsum(best[: scoring.k]) / len(best[: scoring.k])
    if scoring.method == "softmax":
        t = scoring.temperature
        return t * math.log(sum(math.exp(s / t) for s in best) / len(best))
    if scoring.method in ("combined", "auto"):
        mixture = scoring.alpha * best[0] + (1 - scoring.alpha) * whole
        return (1 - scoring.lead) * mixture + scoring.lead * float(np.float32(scores[0]))
    weights = [scoring.discount**i for i in range(len(best))]
    return sum(w * s for w, s in zip(weights, best, strict=True)) / sum(weights)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=30, deadline=None)
@given(documents=documents_of_scores)
def test_every_method_equals_a_plain_loop(method, documents):
    segments, offsets = packed(documents)
    whole = np.linspace(-0.5, 0.5, len(documents)).astype(np.float32)
    scoring = DocumentScoring(method)
    scores, _ = score_documents(segments, offsets, whole, scoring)
    expected = [by_hand(d, scoring, float(w)) for d, w in zip(documents, whole, strict=True)]
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)
    assert scores.dtype == np.float32


@settings(max_examples=30, deadline=None)
@given(documents=documents_of_scores)
def test_the_winner_is_the_first_of_the_best_segments_of_its_document(documents):
    segments, offsets = packed(documents)
    winners = best_segments(segments, offsets)
    expected = [int(start) + int(np.argmax(d)) for start, d in zip(offsets[:-1], documents, strict=True)]
    assert winners.tolist() == expected


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=30, deadline=None)
@given(documents=documents_of_scores)
def test_a_score_does_not_depend_on_the_other_candidates(method, documents):
    segments, offsets = packed(documents)
    whole = np.full(len(documents), 0.25, np.float32)
    together, _ = score_documents(segments, offsets, whole, DocumentScoring(method))
    alone = [score_documents(*packed([d]), whole[:1], DocumentScoring(method))[0][0] for d in documents]
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "combined"])
def test_a_document_of_one_segment_keeps_its_score(method):
    scores, winners = score_documents(*packed([[0.3], [-0.7]]), None, DocumentScoring(method))
    np.testing.assert_allclose(scores, [0.3, -0.7], rtol=1e-6)
    assert winners.tolist() == [0, 1]


def test_auto_is_combined_with_document_scores_and_discounted_without():
    segments, offsets = packed([[0.1, 0.9, 0.2], [-0.5, -0.1]])
    whole = np.array([0.3, -0.2], np.float32)
    for documents, method in ((whole, "combined"), (None, "discounted")):
        ours, _ = score_documents(segments, offsets, documents, DEFAULT_SCORING)
        assert ours.tolist() == score_documents(segments, offsets, documents, DocumentScoring(method))[0].tolist()


def test_the_discount_runs_from_the_maximum_to_the_mean():
    segments, offsets = packed([[0.1, 0.9, 0.2], [-0.5, -0.1]])
    for discount, method in ((0.0, "max"), (1.0, "mean")):
        ours, _ = score_documents(segments, offsets, None, DocumentScoring("discounted", discount=discount))
        theirs, _ = score_documents(segments, offsets, None, DocumentScoring(method))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_by_default_one_lucky_window_of_many_loses_to_a_short_document_that_is_as_good():
    lucky, short = [0.60] + [0.1] * 50, [0.52]
    scores, winners = score_documents(*packed([lucky, short]), None, DEFAULT_SCORING)
    assert scores[1] > scores[0]
    assert winners.tolist() == [0, 51]
    confirmed, _ = score_documents(*packed([[0.60, 0.59, 0.59, 0.58, 0.57], short]), None, DEFAULT_SCORING)
    assert confirmed[0] > confirmed[1]


def test_by_default_a_long_document_is_not_punished_for_segments_about_other_things():
    """From ten to a thousand further segments without relevance the score all but stays."""
    ten, _ = score_documents(*packed([[0.8, *[0.0] * 10]]), None, DEFAULT_SCORING)
    thousand, _ = score_documents(*packed([[0.8, *[0.0] * 1000]]), None, DEFAULT_SCORING)
    assert abs(float(ten[0]) - float(thousand[0])) < 1e-3


def test_draws_take_the_expected_maximum_off_the_best_segment():
    segments, offsets = packed([[0.5, 0.1, 0.3], [0.4]])
    whole = np.array([0.2, 0.2], np.float32)
    plain, _ = score_documents(segments, offsets, whole, DocumentScoring("combined", alpha=0.5, lead=0.0))
    corrected, _ = score_documents(
        segments, offsets, whole, DocumentScoring("combined", alpha=0.5, lead=0.0, draws=0.4)
    )
    luck = 0.5 * 0.4 * segments.std() * expected_maximum(np.array([3]))[0]
    np.testing.assert_allclose(plain - corrected, [luck, 0.0], atol=1e-6)


def test_the_expected_maximum_agrees_with_a_simulation():
    draws = np.random.default_rng(0).standard_normal((20_000, 64))
    sizes = np.array([1, 2, 5, 20, 64])
    simulated = [draws[:, :n].max(axis=1).mean() for n in sizes]
    np.testing.assert_allclose(expected_maximum(sizes), simulated, atol=0.04)


@pytest.mark.parametrize("method", METHODS)
def test_no_candidates_give_no_scores(method):
    none = np.zeros(0, np.float32)
    scores, winners = score_documents(none, np.zeros(1, np.int64), none, DocumentScoring(method))
    assert len(scores) == len(winners) == 0


def test_neither_scoring_nor_fusion_writes_into_its_arguments():
    segments, offsets = packed([[0.5, 0.9], [0.1]])
    segments.flags.writeable = offsets.flags.writeable = False
    for method in METHODS:
        score_documents(segments, offsets, np.zeros(2, np.float32), DocumentScoring(method))
    rows, scores = np.array([3, 1]), np.array([0.5, 0.1], np.float32)
    rows.flags.writeable = scores.flags.writeable = False
    fuse([(rows, scores), (rows, scores)], Fusion())


@pytest.mark.parametrize(
    ("offsets", "message"),
    [([0, 2, 2, 3], "document 1 has none"), ([0, 2], "from 0 to 3"), ([1, 3], "from 0 to 3"), ([], "offsets")],
)
def test_offsets_that_do_not_fit_are_refused(offsets, message):
    with pytest.raises(ShapeError, match=message):
        score_documents(np.ones(3, np.float32), np.array(offsets, np.int64), None, DEFAULT_SCORING)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    with pytest.raises(ShapeError, match="finite"):
        score_documents(np.array([0.1, bad], np.float32), np.array([0, 2]), None, DEFAULT_SCORING)
    with pytest.raises(ShapeError, match="finite"):
        fuse([(np.array([1]), np.array([bad], np.float32))], Fusion())


def test_the_combined_score_says_what_it_lacks():
    with pytest.raises(UsageError, match="--level both"):
        score_documents(np.ones(1, np.float32), np.array([0, 1]), None, DocumentScoring("combined"))


@pytest.mark.parametrize(
    "arguments",
    [{"method": "best"}, {"discount": 1.5}, {"k": 0}, {"temperature": 0.0}, {"alpha": -0.1}, {"draws": -1.0},
     {"discount": math.nan}, {"temperature": math.nan}],
)  # fmt: skip
def test_parameters_out_of_range_are_refused(arguments):
    with pytest.raises(UsageError):
        DocumentScoring(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"method": "sum"},
        {"k": -1},
        {"weights": (1.0, -1.0)},
        {"weights": (math.nan,)},
        {"floor": 0.0},
        {"floor": math.nan},
    ],
)
def test_fusion_parameters_out_of_range_are_refused(arguments):
    with pytest.raises(UsageError):
        Fusion(**arguments)


def ranking(*pairs):
    return np.array([r for r, _ in pairs], np.int64), np.array([s for _, s in pairs], np.float32)


def test_reciprocal_ranks_count_each_list_from_one():
    rows, scores = fuse([ranking((7, 9.0), (2, 5.0)), ranking((2, 0.4), (5, 0.3))], Fusion("rrf", k=60))
    assert rows.tolist() == [2, 7, 5]
    np.testing.assert_allclose(scores, [1 / 62 + 1 / 61, 1 / 61, 1 / 62], rtol=1e-6)


def test_weighted_fusion_adds_scores_brought_to_their_range():
    dense, bm25 = ranking((1, 0.8), (2, 0.6), (3, 0.4)), ranking((3, 30.0), (4, 20.0), (1, 10.0))
    rows, scores = fuse([dense, bm25], Fusion("weighted", weights=(0.7, 0.3)))
    assert dict(zip(rows.tolist(), scores.tolist(), strict=True)) == pytest.approx(
        {1: 0.7, 2: 0.35, 3: 0.3, 4: 0.15}, abs=1e-6
    )
    assert rows.tolist() == [1, 2, 3, 4]


def test_weighted_fusion_ignores_scale_and_origin_of_a_list():
    one, other = ranking((1, 3.0), (2, 2.0), (9, 1.0)), ranking((2, 0.9), (1, 0.2))
    moved = (one[0], one[1] * 40 - 7)
    np.testing.assert_allclose(fuse([one, other], Fusion())[1], fuse([moved, other], Fusion())[1], rtol=1e-5)


def test_adaptive_weights_follow_how_far_each_list_sets_its_first_hit_apart():
    dense, bm25 = ranking((1, 0.9), (2, 0.8), (3, 0.4)), ranking((3, 30.0), (4, 12.0), (1, 10.0))
    rows, scores = fuse([dense, bm25], Fusion(weights=(0.6, 0.4), floor=0.1))
    # distances (0.9 - 0.8) / 0.5 and 18 / 20, of three hits each times a half: 0.1 and 0.45
    # weights 0.6 * 0.2 : 0.4 * 0.55 = 6 : 11, with the sum 1
    assert dict(zip(rows.tolist(), scores.tolist(), strict=True)) == pytest.approx(
        {1: 6 / 17, 2: 0.8 * 6 / 17, 3: 11 / 17, 4: 0.1 * 11 / 17}, abs=1e-6
    )
    assert rows.tolist() == [3, 1, 2, 4]


def test_adaptive_weights_are_the_given_ones_where_lists_are_alike_or_the_floor_is_high():
    one, other = ranking((1, 3.0), (2, 2.0), (9, 1.0)), ranking((2, 30.0), (1, 20.0), (7, 10.0))
    plain = fuse([one, other], Fusion("weighted", weights=(0.6, 0.4)))
    alike = fuse([one, other], Fusion(weights=(0.6, 0.4)))
    assert alike[0].tolist() == plain[0].tolist()
    np.testing.assert_allclose(alike[1], plain[1], rtol=1e-6)
    apart = ranking((2, 30.0), (1, 11.0), (7, 10.0))
    flat = fuse([one, apart], Fusion(floor=1e9))
    np.testing.assert_allclose(flat[1], fuse([one, apart], Fusion("weighted"))[1], rtol=1e-6)


@pytest.mark.parametrize("scores", [[0.2], [9.0, 1.0], [2.0, 2.0], [2.0, 2.0, 2.0], []])
def test_one_or_two_hits_and_equal_scores_are_not_set_apart(scores):
    assert lead_of_first(np.array(scores, np.float32)) == 0.0


@pytest.mark.parametrize("words", [ranking((9, 7.0)), ranking((9, 7.0), (8, 6.9)), ranking((9, 7.0), (8, 7.0))])
def test_an_accidental_word_does_not_overrule_a_list_that_is_sure(words):
    dense = ranking(*((row, score) for row, score in zip(range(100), np.linspace(0.24, 0.01, 100), strict=True)))
    dense[1][0] = 0.55
    assert fuse([dense, words], Fusion())[0][0] == 0


lists_of_rows = st.lists(st.lists(st.integers(0, 12), unique=True, max_size=8), min_size=1, max_size=4)


@pytest.mark.parametrize("method", ["rrf", "weighted", "adaptive"])
@settings(max_examples=30, deadline=None)
@given(lists=lists_of_rows, data=st.data())
def test_fusion_does_not_depend_on_the_order_of_the_lists(method, lists, data):
    rankings = [ranking(*((row, 1.0 / (3 + at)) for at, row in enumerate(rows))) for rows in lists]
    weights = tuple(0.1 + 0.3 * number for number in range(len(lists)))
    order = data.draw(st.permutations(range(len(lists))))
    rows, scores = fuse(rankings, Fusion(method, weights=weights))
    again = fuse([rankings[i] for i in order], Fusion(method, weights=tuple(weights[i] for i in order)))
    assert rows.tolist() == again[0].tolist()
    assert scores.tolist() == again[1].tolist()
    assert sorted(rows.tolist()) == sorted({row for found in lists for row in found})
    assert all(a > b or (a == b and r < s) for a, b, r, s in zip(scores, scores[1:], rows, rows[1:], strict=False))


@pytest.mark.parametrize("method", ["rrf", "weighted", "adaptive"])
def test_one_list_alone_keeps_its_order(method):
    rows, _ = fuse([ranking((9, 3.0), (1, 2.5), (4, 0.1))], Fusion(method))
    assert rows.tolist() == [9, 1, 4]


def test_equal_scores_are_ordered_by_row():
    rows, _ = fuse([ranking((9, 1.0), (4, 1.0)), ranking((1, 2.0))], Fusion(weights=(1.0, 1.0)))
    assert rows.tolist() == [1, 4, 9]


def test_a_list_that_found_nothing_changes_nothing():
    dense = ranking((5, 0.5), (3, 0.1))
    assert fuse([dense, ranking()], Fusion())[0].tolist() == [5, 3]
    assert len(fuse([ranking(), ranking()], Fusion())[0]) == 0
    assert len(fuse([], Fusion())[0]) == 0


def test_equal_scores_of_a_list_all_count_fully():
    assert within_range(np.array([2.0, 2.0], np.float32)).tolist() == [1.0, 1.0]
    assert within_range(np.zeros(0, np.float32)).tolist() == []


@pytest.mark.parametrize(
    ("found", "message"),
    [(ranking((1, 0.5), (1, 0.4)), "twice"), (ranking((1, 0.4), (2, 0.5)), "never rise"),
     ((np.array([1, 2]), np.array([0.5], np.float32)), "share one")],
)  # fmt: skip
def test_lists_that_are_not_rankings_are_refused(found, message):
    with pytest.raises(ShapeError, match=message):
        fuse([found], Fusion())


def test_another_number_of_weights_than_of_lists_is_refused():
    with pytest.raises(UsageError, match="2 lists need 2 weights"):
        fuse([ranking((1, 1.0)), ranking((2, 1.0))], Fusion(weights=(1.0,)))
