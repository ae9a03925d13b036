"""BM25 over the passages at hand, against rank-bm25, bm25s' formula by hand, and laws."""

import random
import threading
from collections import Counter

import numpy as np
import pytest
from rank_bm25 import BM25L, BM25Okapi, BM25Plus

from unabridged.errors import UsageError
from unabridged.index.lexical.variants import Formula
from unabridged.rankers.select.contracts import Cost, Passage, Selector
from unabridged.rankers.select.terms import PassageTerms, default_analyzer
from unabridged.rankers.select.words import WordSelector


def passages(*texts: str) -> list[Passage]:
    found, at = [], 0
    for text in texts:
        found.append(Passage("d", at, at + len(text), text))
        at += len(text) + 1
    return found


def drawn(seed: int) -> list[str]:
    chance = random.Random(seed)
    return [
        " ".join(f"w{int(chance.paretovariate(0.7)) % 40}" for _ in range(chance.randrange(1, 30))) for _ in range(25)
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("variant", "oracle"), [("okapi", BM25Okapi), ("bm25plus-everywhere", BM25Plus), ("bm25l-rank", BM25L)]
)
def test_scores_are_those_of_rank_bm25(seed, variant, oracle):
    texts = drawn(seed)
    question = "w1 w3 w3 w17 nowhere"
    selector = WordSelector(formula=Formula(variant, 1.5, 0.75))
    theirs = oracle([default_analyzer().analyze(text) for text in texts], k1=1.5, b=0.75).get_scores(question.split())
    found = selector.score(question, passages(*texts))
    assert np.ptp(theirs) > 0
    np.testing.assert_allclose(found.scores, theirs, rtol=1e-12)


def test_the_default_is_the_formula_written_out():
    texts = ["the red fox runs", "a red red hen", "blue sky over blue hills"]
    terms = [["red", "fox", "runs"], ["red", "red", "hen"], ["blue", "sky", "over", "blue", "hills"]]
    mean = sum(map(len, terms)) / 3

    def naive(row: int) -> float:
        total = 0.0
        for word in ("red", "red", "hills"):
            df = sum(word in one for one in terms)
            tf = terms[row].count(word)
            idf = np.log(1 + (3 - df + 0.5) / (df + 0.5))
            total += idf * tf / (tf + 1.2 * (0.25 + 0.75 * len(terms[row]) / mean))
        return total

    found = WordSelector().score("Red, red HILLS!", passages(*texts))
    assert found.scores == pytest.approx([naive(row) for row in range(3)], rel=1e-12)


def test_scores_move_with_their_passages_and_repeating_all_of_them_changes_no_order():
    texts = drawn(9)
    found = WordSelector().score("w2 w5 w11", passages(*texts)).scores
    order = random.Random(1).sample(range(len(texts)), len(texts))
    moved = WordSelector().score("w2 w5 w11", passages(*(texts[row] for row in order))).scores
    np.testing.assert_allclose(moved, [found[row] for row in order], rtol=1e-12)


def test_single_letters_and_ideographs_are_words():
    found = WordSelector().score("x", passages("x = 3", "y = 4"))
    assert found.scores[0] > found.scores[1] == 0.0
    found = WordSelector().score("京", passages("東京は大きい", "大阪は大きい"))
    assert found.scores[0] > found.scores[1] == 0.0


def test_passages_without_a_word_and_questions_without_a_known_word_have_zero():
    assert WordSelector().score("fox", passages("", "...", " ")).scores == (0.0, 0.0, 0.0)
    assert WordSelector().score("the of", passages("the cat", "of it")).scores == (0.0, 0.0)


def test_terms_know_their_passages():
    terms = PassageTerms(["a cat", "cat cat dog", ""])
    assert list(terms.holders("cat")) == [0, 1]
    assert terms.holders("bird") == ()
    assert terms.counts[1] == Counter({"cat": 2, "dog": 1})
    assert terms.lengths.tolist() == [1.0, 3.0, 0.0]


@pytest.mark.parametrize(("question", "texts"), [("", ["a"]), (" \n", ["a"]), ("fox", [])])
def test_no_question_and_no_passages_are_errors_that_say_so(question, texts):
    for call in (WordSelector().score, WordSelector().cost):
        with pytest.raises(UsageError, match=r"question is empty|no passages"):
            call(question, passages(*texts))


def test_a_set_cancel_leaves_no_score_and_it_costs_nothing():
    stop = threading.Event()
    stop.set()
    found = WordSelector().score("fox", passages("fox", "hen"), cancel=stop)
    assert found.scores == (None, None)
    assert found.reasons == ("cancelled", "cancelled")
    assert WordSelector().cost("fox", passages("fox")) == Cost()
    assert isinstance(WordSelector(), Selector)
