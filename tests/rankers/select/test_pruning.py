"""Sentences as exact spans, and documents without those that do not help."""

import gzip
import json
import random
from pathlib import Path

import pytest

from unabridged.encoders.hashing import HashingEncoder
from unabridged.errors import UsageError
from unabridged.rankers.contracts import Spent
from unabridged.rankers.select.contracts import Cost, Passage, Scored
from unabridged.rankers.select.pruning import Always, PruneSettings, SentencePruner, Why
from unabridged.rankers.select.splitting import sentence_passages, sentences
from unabridged.rankers.select.vectors import VectorSelector
from unabridged.rankers.select.words import WordSelector

HOSTILE = (
    "One. Two! Three? “Four.” (Five.) six\n\nSeven",
    "No mark at all " * 60,
    "e.g. this is one sentence.",
    "   lead\n\n\n# Heading\nbody text here. More.\n\n   ",
    "第一句。第二句\uff01第三句",
    "\ud800 broken. \u200d joiner \u0301.",
    "x" * 5000,
    "a.b.c.d 3.14 is pi. Done.",
    "\x00\x1c. Next.",
)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("most", [1, 7, 120])
def test_sentences_partition_the_text_up_to_white_space(text, most):
    found = sentences(text, most)
    assert found == tuple(sorted(found))
    at, left = 0, ""
    for start, end in found:
        assert at <= start < end
        left += text[at:start]
        assert text[start:end] == text[start:end].strip()
        at = end
    assert not (left + text[at:]).strip()


def test_sentences_end_where_people_would_end_them():
    text = 'The cat sat. "It rained," she said! Was it 3.5 miles? Yes, e.g. more\nor less.\n\nHeading\n\nLast one'
    assert [text[start:end] for start, end in sentences(text)] == [
        "The cat sat.", '"It rained," she said!', "Was it 3.5 miles?", "Yes, e.g. more\nor less.", "Heading", "Last one"
    ]  # fmt: skip
    assert [one.text for one in sentence_passages("d", "A b. C d.")] == ["A b.", "C d."]
    assert sentences(" \n\t ") == ()


def test_random_texts_lose_nothing():
    chance = random.Random(5)
    for _ in range(60):
        text = "".join(chance.choice(["a", "B", " ", "\n", ". ", "! ", "é", "。", "(", '"', "1"]) for _ in range(200))
        found = sentences(text, 9)
        assert "".join("".join(text[a:b] for a, b in found).split()) == "".join(text.split())


class Given:
    """Scores by sentence text; None for unknown ones."""

    label = "given"

    def __init__(self, **scores):
        self.scores = scores

    def cost(self, question, passages):
        return Cost()

    def score(self, question, passages, *, cancel=None):
        found = tuple(self.scores.get(one.text.rstrip(".").split()[0]) for one in passages)
        return Scored(found, tuple("failed" if one is None else "" for one in found))


TEXT = "Title here\n\nAnt one two. Bee one. Cow one two three. Dog one. Elk one two."
GIVEN = Given(Title=0.0, Ant=0.2, Bee=0.9, Cow=0.1, Dog=0.6, Elk=0.5)


def pruned(**settings):
    return SentencePruner(GIVEN, PruneSettings(**settings)).prune("q", TEXT, "d")


def texts(found) -> list[str]:
    return [TEXT[start:end] for start, end in found.spans]


def test_a_threshold_keeps_what_reaches_it_and_joins_neighbours_of_the_source():
    found = pruned(threshold=0.5)
    assert texts(found) == ["Bee one.", "Dog one. Elk one two."]
    assert found.text(TEXT) == "Bee one.\nDog one. Elk one two."
    assert (found.size, found.whole, found.empty, found.best) == (7, 16, False, 0.9)
    assert found.rate == pytest.approx(9 / 16)
    assert [one.why for one in found.sentences] == [
        Why.BELOW, Why.BELOW, Why.SCORE, Why.BELOW, Why.SCORE, Why.SCORE
    ]  # fmt: skip


def test_a_budget_takes_the_best_until_the_next_has_no_room():
    found = pruned(budget=5)
    assert texts(found) == ["Bee one.", "Dog one."]
    assert {one.why for one in found.sentences if not one.kept} == {Why.ROOM}
    assert pruned(budget=16).spans == ((0, len(TEXT)),)
    for budget in range(2, 20):
        assert pruned(budget=budget).size <= budget


def test_neighbours_stay_with_what_stays_and_count():
    found = pruned(threshold=0.6, neighbours=1)
    assert texts(found) == [TEXT.partition("\n\n")[2]]
    assert [one.why for one in found.sentences[1:]] == [
        Why.NEIGHBOUR, Why.SCORE, Why.NEIGHBOUR, Why.SCORE, Why.NEIGHBOUR
    ]  # fmt: skip
    assert texts(pruned(budget=9, neighbours=1)) == ["Ant one two. Bee one. Cow one two three."]
    assert texts(pruned(budget=4, neighbours=1)) == ["Bee one."]


def test_title_and_first_sentence_stay_when_told_to_and_an_empty_result_says_so():
    for always in (Always.TITLE, Always.FIRST):
        found = pruned(threshold=0.9, always=always)
        assert texts(found) == ["Title here", "Bee one."]
        none = pruned(threshold=2.0, always=always)
        assert (texts(none), none.empty) == (["Title here"], True)
    none = pruned(threshold=2.0)
    assert (none.spans, none.text(TEXT), none.empty, none.size, none.rate) == ((), "", True, 0, 1.0)
    two = "Dr. Who came\nHere is more. And more."
    lined = SentencePruner(WordSelector(), PruneSettings(threshold=1.0, always=Always.TITLE)).prune("zebra", two)
    assert lined.text(two).startswith("Dr. Who came")


def test_sentences_without_a_score_are_left_out_with_their_reason():
    found = SentencePruner(Given(Bee=1.0), PruneSettings(threshold=0.0)).prune("q", TEXT)
    assert texts(found) == ["Bee one."]
    assert [(one.why, one.reason) for one in found.sentences if not one.kept] == [(Why.UNSCORED, "failed")] * 5


@pytest.mark.parametrize("settings", [{"budget": 1}, {"budget": 1, "always": Always.TITLE}])
def test_a_budget_too_small_for_anything_is_an_error_and_no_empty_result(settings):
    with pytest.raises(UsageError, match=r"budget=1 is too small"):
        pruned(**settings)


def test_settings_that_prune_nothing_or_cannot_be_meant_are_refused():
    for wrong in ({}, {"budget": 0}, {"threshold": float("nan")}, {"threshold": 1.0, "neighbours": -1}):
        with pytest.raises(UsageError):
            PruneSettings(**wrong)
    pruner = SentencePruner(WordSelector(), PruneSettings(threshold=1.0))
    for text in ("", "Some text."):
        with pytest.raises(UsageError, match="question is empty"):
            pruner.prune(" ", text)
    assert pruner.prune("q", " \n ").empty


def test_documents_beyond_an_encoders_window_are_read_to_their_end():
    text = "Filler about nothing at all. " * 300 + "The lantern code is 4711. " + "More filler about nothing. " * 300
    for selector in (WordSelector(), VectorSelector(HashingEncoder(64, 32))):
        found = SentencePruner(selector, PruneSettings(budget=8)).prune("What is the lantern code?", text)
        assert "lantern code is 4711" in found.text(text)
        assert found.rate > 0.99


def test_real_speeches_are_their_sentences():
    path = Path(__file__).parents[3] / "examples" / "data" / "speeches.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line, _ in zip(lines, range(5), strict=False)]
    assert texts
    for text in texts:
        found = sentences(text)
        assert len(found) > 20
        assert "".join("".join(text[a:b] for a, b in found).split()) == "".join(text.split())


def test_passages_that_are_pruned_together_are_what_each_is_alone_where_scores_do_not_depend_on_others():
    texts = [
        "One is odd. The zoo is far. Two! A third one is here. No.",
        "",
        "Zürich is wet. \U0001f642 fine! Tea?",
        " \n",
    ]

    class Lengths:
        label = "lengths"

        def cost(self, question, passages):
            return Cost()

        def score(self, question, passages, *, cancel=None):
            scores = [None if "z" in one.text else float(len(one.text)) for one in passages]
            reasons = ["odd" if one is None else "" for one in scores]
            return Scored(tuple(scores), tuple(reasons), spent=Spent(calls=len(scores)))

    pruner = SentencePruner(Lengths(), PruneSettings(threshold=9.0, always=Always.FIRST, neighbours=1))
    passages = [Passage(f"d{at}", 7 * at, 7 * at + len(text), text) for at, text in enumerate(texts)]
    found = pruner.prune_all("what?", passages)
    alone = [pruner.prune("what?", one.text, one.doc_id) for one in passages]
    assert [(one.doc_id, one.sentences, one.spans, one.empty, one.size) for one in found] == [
        (one.doc_id, one.sentences, one.spans, one.empty, one.size) for one in alone
    ]
    assert sum(one.spent.calls for one in found) == found[0].spent.calls == sum(one.spent.calls for one in alone)
