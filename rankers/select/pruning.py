"""Documents without the sentences that do not help: spans of the source, never rewritten text.

The interface is that of Provence (Chirkova et al. 2025, arXiv 2501.16214): a threshold on sentence scores, a title or
first sentence that stays.  Its model is one of the selectors that can stand behind it; any other can too, for the
threshold is in the selector's own scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from threading import Event

from unabridged.errors import UsageError
from unabridged.rankers.contracts import Characters, Spent, by_score
from unabridged.rankers.select.checks import check_asked
from unabridged.rankers.select.contracts import Passage, Scored, Selector
from unabridged.rankers.select.splitting import MOST_WORDS, sentences


class Always(str, Enum):
    """What is kept whatever its score."""

    NOTHING = "nothing"
    FIRST = "first"
    """The first sentence."""
    TITLE = "title"
    """The sentences of the first line that is not empty."""


class Why(str, Enum):
    """Why a sentence is kept or not."""

    SCORE = "score"
    NEIGHBOUR = "neighbour"
    ALWAYS = "always"
    BELOW = "below the threshold"
    ROOM = "no room"
    UNSCORED = "no score"


def words(text: str) -> int:
    """Words of a text between white space."""
    return len(text.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneSettings:
    """What stays; a threshold, a budget or both."""

    threshold: float | None = None
    """The least score that stays."""
    budget: int | None = None
    """The most of what ``count`` counts, each sentence by itself; the best are taken until the next has no room."""
    count: Callable[[str], int] = words
    neighbours: int = 0
    """Sentences on either side that stay with one that stays by its score."""
    always: Always = Always.NOTHING
    most_words: int = MOST_WORDS
    """Longer sentences are divided."""

    def __post_init__(self) -> None:
        if self.threshold is None and self.budget is None:
            raise UsageError("Without a threshold and without a budget nothing would be pruned. Give one of them.")
        if self.budget is not None and self.budget < 1:
            raise UsageError(f"budget={self.budget} is too small for any sentence. Give 1 or more.")
        if self.neighbours < 0 or self.threshold != self.threshold:
            raise UsageError(f"neighbours={self.neighbours} is at least 0 and threshold={self.threshold} a number.")


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence and what became of it."""

    start: int
    end: int
    score: float | None
    kept: bool
    why: Why
    reason: str = ""
    """Why it has no score."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What is left of a document."""

    doc_id: str
    sentences: tuple[Sentence, ...]
    """All of them, in the order of the text: what was left out can be seen."""
    spans: tuple[Characters, ...]
    """What is left: kept sentences, and the white space between neighbours; in the order of the text."""
    empty: bool
    """Whether no sentence stayed by its score.  ``spans`` then has what is always kept, else nothing."""
    size: int
    """Of the sentences that are left; at most the budget."""
    whole: int
    """Of all sentences."""
    spent: Spent

    @property
    def best(self) -> float | None:
        """The score of the document: that of its best sentence; None where no sentence has one."""
        return max((one.score for one in self.sentences if one.score is not None), default=None)

    @property
    def rate(self) -> float:
        """The share of the document that was left out, 0 to 1; 0 for one without words."""
        return 1.0 - self.size / self.whole if self.whole else 0.0

    def text(self, source: str, joint: str = "\n") -> str:
        """What is left, read from the source."""
        return joint.join(source[start:end] for start, end in self.spans)


class SentencePruner:
    """Keeps the sentences that answer a question, by the scores of any selector."""

    def __init__(self, selector: Selector, settings: PruneSettings) -> None:
        self.selector = selector
        self.settings = settings

    def prune(self, question: str, text: str, doc_id: str = "", *, cancel: Event | None = None) -> Pruned:
        """What is left of one document; one without words is empty.

        :class:`UsageError` for an empty question, or a budget that does not hold what is always kept, or not the best
        sentence: so small a budget would leave nothing and look as if nothing was relevant.
        """
        return self.prune_all(question, [Passage(doc_id, 0, len(text), text)], cancel=cancel)[0]

    def prune_all(
        self, question: str, passages: Sequence[Passage], *, cancel: Event | None = None
    ) -> tuple[Pruned, ...]:
        """What is left of each, all of their sentences scored together; places count in the passage.

        Threshold and budget hold for each alone, and what it took stands with the first.  Raises as :meth:`prune`.
        """
        check_asked(question, passages)
        spans = [sentences(one.text, self.settings.most_words) for one in passages]
        cut = [
            Passage(one.doc_id, one.start + start, one.start + end, one.text[start:end])
            for one, own in zip(passages, spans, strict=True)
            for start, end in own
        ]
        scored = self.selector.score(question, cut, cancel=cancel) if cut else Scored(())
        told = scored.reasons or ("",) * len(cut)
        found: list[Pruned] = []
        at = 0
        for passage, own in zip(passages, spans, strict=True):
            part = slice(at, at + len(own))
            spent = Spent() if found else scored.spent
            found.append(self._pruned(passage, own, Scored(scored.scores[part], told[part], spent=spent)))
            at += len(own)
        return tuple(found)

    def _pruned(self, passage: Passage, spans: Sequence[Characters], scored: Scored) -> Pruned:
        if not spans:
            return Pruned(passage.doc_id, (), (), empty=True, size=0, whole=0, spent=scored.spent)
        text = passage.text
        sizes = [self.settings.count(text[start:end]) for start, end in spans]
        kept = self._kept(text, spans, scored, sizes)
        listed = tuple(
            Sentence(start, end, score, why in _KEEPING, why, reason)
            for (start, end), score, why, reason in zip(spans, scored.scores, kept, scored.reasons, strict=True)
        )
        left = merged(text, [(one.start, one.end) for one in listed if one.kept])
        size = sum(own for own, one in zip(sizes, listed, strict=True) if one.kept)
        empty = not any(one.why is Why.SCORE for one in listed)
        return Pruned(passage.doc_id, listed, left, empty, size, sum(sizes), scored.spent)

    def _kept(self, text: str, spans: Sequence[Characters], scored: Scored, sizes: Sequence[int]) -> list[Why]:
        settings = self.settings
        room = float("inf") if settings.budget is None else settings.budget
        why = [Why.UNSCORED if score is None else Why.BELOW for score in scored.scores]
        taken = _always(text, spans, settings.always)
        used = sum(sizes[row] for row in taken)
        if used > room:
            raise UsageError(f"budget={room} is too small for what is always kept, which has {used}. Raise it.")
        for row in taken:
            why[row] = Why.ALWAYS
        full = False
        for row in by_score(scored.scores):
            score = scored.scores[row]
            if score is None or (settings.threshold is not None and score < settings.threshold):
                break
            around = range(max(0, row - settings.neighbours), min(len(spans), row + settings.neighbours + 1))
            more = set(around) - taken
            needed = sum(sizes[one] for one in more)
            if used + needed > room and not any(one is Why.SCORE for one in why):
                more = {row} - taken  # of the best sentence the neighbours go first
                needed = sum(sizes[one] for one in more)
                if used + needed > room:
                    raise UsageError(
                        f"budget={room} is too small for the best sentence, which makes it {used + needed}. Raise it."
                    )
            full = full or used + needed > room
            if full:
                why[row] = why[row] if row in taken else Why.ROOM
                continue
            for one in more:
                why[one] = Why.NEIGHBOUR
            why[row] = Why.SCORE
            taken |= more
            used += needed
        return why


_KEEPING = frozenset({Why.SCORE, Why.NEIGHBOUR, Why.ALWAYS})


def merged(text: str, spans: Sequence[Characters]) -> tuple[Characters, ...]:
    """Rising spans, those joined that nothing but white space parts."""
    found: list[Characters] = []
    for start, end in spans:
        if found and not text[found[-1][1] : start].strip():
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return tuple(found)


def _always(text: str, spans: Sequence[Characters], always: Always) -> set[int]:
    if always is Always.NOTHING:
        return set()
    if always is Always.FIRST:
        return {0}
    line = text.find("\n", spans[0][0])
    end = len(text) if line < 0 else line
    return {row for row, (start, _) in enumerate(spans) if start < end}
