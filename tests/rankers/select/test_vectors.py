"""Passages by vectors, and selectors joined by ranks or one after the other."""

import threading

import numpy as np
import pytest

from unabridged.encoders.hashing import HashingEncoder
from unabridged.errors import UsageError
from unabridged.rankers.contracts import Spent
from unabridged.rankers.lm.contracts import Usage
from unabridged.rankers.select.cascade import BEHIND, CascadeSelector
from unabridged.rankers.select.contracts import Cost, Passage, Scored, Selector
from unabridged.rankers.select.fused import FusedSelector, mean_ranks
from unabridged.rankers.select.vectors import VectorSelector
from unabridged.rankers.select.words import WordSelector


def passages(*texts: str) -> list[Passage]:
    return [Passage("d", 0, len(text), text) for text in texts]


class Fixed:
    """Scores by the passage's text; counts what it was asked."""

    def __init__(self, scores: dict[str, float | None], label: str = "fixed") -> None:
        self.known, self.label, self.seen = scores, label, []

    def cost(self, question, passages):
        return Cost(calls=len(passages), tokens=10 * len(passages))

    def score(self, question, passages, *, cancel=None):
        self.seen.append([one.text for one in passages])
        scores = tuple(self.known[one.text] for one in passages)
        reasons = tuple("" if one is not None else f"{self.label} failed" for one in scores)
        bounds = tuple(None if one is None else (one - 1, one + 1) for one in scores)
        return Scored(scores, reasons, bounds, Spent(calls=len(scores), usage=Usage(prompt=len(scores), completion=0)))


def test_scores_are_inner_products_with_the_best_window_and_no_window_is_left_out():
    encoder = HashingEncoder(64, 8)
    texts = ["grey rain", "filler " * 30 + "lantern harbor quartz", "lantern in the rain"]
    found = VectorSelector(encoder).score("lantern harbor quartz", passages(*texts))
    query = encoder.encode_queries(["lantern harbor quartz"])[0]
    for text, score in zip(texts, found.scores, strict=True):
        windows = encoder.encode_documents([text]).segments
        assert score == pytest.approx(float((windows @ query).max()), abs=1e-6)
    assert found.scores[1] == max(found.scores)  # the answer is in the fourth window or later
    tokens = int(encoder.count_tokens(texts).sum()) + 3
    assert (
        found.spent.usage.prompt
        == tokens
        == VectorSelector(encoder).cost("lantern harbor quartz", passages(*texts)).tokens
    )


def test_blocks_of_passages_give_what_all_at_once_give():
    texts = [f"word{n} and word{n % 7} lie in row {n}" for n in range(23)]
    encoder = HashingEncoder(32, 16)
    whole = VectorSelector(encoder).score("word3 row", passages(*texts))
    parts = VectorSelector(encoder, at_once=4).score("word3 row", passages(*texts))
    np.testing.assert_allclose(parts.scores, whole.scores, atol=1e-6)
    assert parts.spent == whole.spent


def test_a_passage_without_tokens_has_no_score_and_says_why():
    found = VectorSelector(HashingEncoder(16)).score("fox", passages("fox", "", " \n"))
    assert found.scores[1:] == (None, None)
    assert found.reasons == ("", "empty", "empty")


def test_cancel_between_blocks_keeps_what_was_scored():
    stop = threading.Event()

    class Stopping(HashingEncoder):
        def encode_documents(self, texts, **options):
            stop.set()
            return super().encode_documents(texts, **options)

    found = VectorSelector(Stopping(16), at_once=2).score("fox", passages(*["fox hen"] * 5), cancel=stop)
    assert [score is not None for score in found.scores] == [True, True, False, False, False]
    assert found.reasons[2:] == ("cancelled",) * 3


@pytest.mark.parametrize(("question", "texts"), [("", ["a"]), ("fox", [])])
@pytest.mark.parametrize("kind", ["vectors", "fused", "cascade"])
def test_no_question_and_no_passages_are_errors_that_say_so(kind, question, texts):
    words, vectors = WordSelector(), VectorSelector(HashingEncoder(16))
    selector = {
        "vectors": vectors, "fused": FusedSelector([words, vectors]), "cascade": CascadeSelector(words, vectors)
    }[kind]  # fmt: skip
    assert isinstance(selector, Selector)
    for call in (selector.score, selector.cost):
        with pytest.raises(UsageError, match=r"question is empty|no passages"):
            call(question, passages(*texts))


def test_equal_scores_share_the_mean_of_their_ranks():
    assert mean_ranks(np.array([2.0, 0.0, 5.0, 0.0, 0.0])).tolist() == [2.0, 4.0, 1.0, 4.0, 4.0]
    assert mean_ranks(np.zeros(0)).tolist() == []


def test_fusion_is_the_weighted_sum_of_reciprocal_ranks_and_ties_have_no_place():
    one = Fixed({"a": 9.0, "b": 1.0, "c": 1.0})
    two = Fixed({"a": 0.1, "b": 0.2, "c": 0.3})
    found = FusedSelector([one, two], weights=[2.0, 1.0]).score("q", passages("a", "b", "c"))
    assert found.scores == pytest.approx([2 / 61 + 1 / 63, 2 / 62.5 + 1 / 62, 2 / 62.5 + 1 / 61], rel=1e-12)
    assert found.spent == Spent(calls=6, usage=Usage(prompt=6, completion=0))


def test_fusion_takes_what_there_is_and_tells_what_failed():
    one = Fixed({"a": 1.0, "b": None, "c": None}, "first")
    two = Fixed({"a": 1.0, "b": 2.0, "c": None}, "second")
    found = FusedSelector([one, two]).score("q", passages("a", "b", "c"))
    assert found.scores[:2] == pytest.approx([1 / 61 + 1 / 62, 1 / 61])
    assert found.scores[2] is None
    assert found.reasons == ("", "", "first failed; second failed")


def test_the_second_stage_sees_the_first_ones_best_in_the_order_given():
    first = Fixed({"a": 1.0, "b": 5.0, "c": None, "d": 4.0, "e": 3.0})
    second = Fixed({"a": 7.0, "b": 2.0, "d": 1.0, "e": None})
    cascade = CascadeSelector(first, second, depth=3)
    found = cascade.score("q", passages("a", "b", "c", "d", "e"))
    assert second.seen == [["b", "d", "e"]]
    assert found.scores == (None, 2.0, None, 1.0, None)
    assert found.reasons == (BEHIND, "", "fixed failed", "", "fixed failed")
    assert found.bounds == (None, (1.0, 3.0), None, (0.0, 2.0), None)
    assert found.spent.calls == 8
    assert cascade.cost("q", passages("a", "b", "c", "d", "e")) == Cost(calls=8, tokens=80)


def test_a_cascade_deep_enough_is_its_second_stage_and_one_without_a_candidate_asks_nothing():
    texts = [f"word{n} row" for n in range(9)]
    encoder = VectorSelector(HashingEncoder(32))
    whole = CascadeSelector(WordSelector(), encoder, depth=50).score("word3", passages(*texts))
    np.testing.assert_allclose(whole.scores, encoder.score("word3", passages(*texts)).scores, atol=1e-6)
    second = Fixed({})
    none = CascadeSelector(Fixed({"a": None}), second).score("q", passages("a"))
    assert (none.scores, none.reasons, second.seen) == ((None,), ("fixed failed",), [])


def test_settings_that_cannot_be_meant_are_refused():
    words = WordSelector()
    for wrong in (
        lambda: FusedSelector([words]),
        lambda: FusedSelector([words, words], weights=[1.0]),
        lambda: FusedSelector([words, words], weights=[1.0, 0.0]),
        lambda: FusedSelector([words, words], constant=0.0),
        lambda: CascadeSelector(words, words, depth=0),
        lambda: VectorSelector(HashingEncoder(16), at_once=0),
        lambda: VectorSelector(HashingEncoder(16), how="best"),
    ):
        with pytest.raises(UsageError):
            wrong()
