"""From texts of any length to one that fits a model's context: cut, score, keep the best, splice in reading order.

The steps are those of XL3M (arXiv 2405.17755) with any selector; where the paper is silent (how long passages are, how
much they overlap, how many are kept, when to go over the result again) the settings say what is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Event
from typing import Any

import numpy as np

from unabridged.contracts import Document
from unabridged.errors import ContextOverflow, DuplicateId, UsageError, ValidationError
from unabridged.rankers.contracts import Spent, by_score
from unabridged.rankers.select.contracts import Passage, Scored, Selector
from unabridged.rankers.select.records import BEHIND, BUDGET, HEAD, SCORE, Judged, Round, Selection
from unabridged.rankers.select.splice import JOINT, Spliced, most_that_fit, spliced
from unabridged.rankers.select.tokens import TextTokens, text_tokens
from unabridged.rankers.select.windows import LEAST, OVERLAP, TOKENS, windows

QUESTION_TOKENS = 96
"""Of the end of a text, where no question is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectSettings:
    """How texts are cut and how much of them is kept.  Tokens are those of the tokenizer that is named."""

    tokens: int = TOKENS
    """Most of one passage."""
    overlap: int = OVERLAP
    k: int | None = None
    """Most passages by score; the head comes on top."""
    budget_tokens: int | None = None
    """Most of the text that comes out, question and head included: the best are taken until one does not fit."""
    context: int | None = None
    """Most of it where ``k`` alone is given: above it what was kept is cut again, finer, and chosen from once more."""
    keep_head: bool | None = None
    """Whether a text's first passage is kept whatever its score; None: where there is one text, as it often begins with
    what is to be done."""
    question_tokens: int = QUESTION_TOKENS
    """Of the end of the last text that are the question where none is given."""

    def __post_init__(self) -> None:
        if self.k is None and self.budget_tokens is None:
            raise UsageError("Say how much is to be kept: k passages, or budget_tokens.")
        for name in ("k", "budget_tokens", "context"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name}={value}: it is at least 1.")
        if self.question_tokens < 1:
            raise UsageError(f"question_tokens={self.question_tokens}: a question has at least one.")

    @property
    def most(self) -> int | None:
        """Tokens that the result may have."""
        known = [one for one in (self.budget_tokens, self.context) if one is not None]
        return min(known, default=None)


def select(
    selector: Selector,
    texts: Sequence[Document],
    question: str | None,
    tokenizer: Any,
    settings: SelectSettings,
    *,
    cancel: Event | None = None,
) -> Selection:
    """What of ``texts`` the question needs, with a record of every passage.  No question: the end of the last.

    Raises:
        UsageError: an empty question, no text, a question or one passage that leaves no room in the budget.
        ValidationError: a document without text.
        DuplicateId: two documents with one id.
        ContextOverflow: a passage does not fit the selector's model, or going over the result does not shorten it.
    """
    by = text_tokens(tokenizer)
    _check_texts(texts)
    question, asked = _question(texts, question, by, settings)
    passages = [one for text in texts for one in _passages(text, asked, by, settings)]
    if not passages:
        raise UsageError(f"The question is the whole text: {settings.question_tokens} tokens of it. Give a question.")
    run = _Run(selector, question, by, [text.id for text in texts], cancel)
    rounds = [run.round(passages, _heads(passages, settings, len(texts)), settings)]
    rounds += run.again(rounds[0], settings)
    last = rounds[-1]
    kept = run.spliced(last.kept)
    return Selection(
        question=question,
        asked=asked,
        text=run.text(kept),
        tokens=last.tokens,
        budget=settings.most,
        tokenizer=by.label,
        spans=kept.spans,
        rounds=tuple(rounds),
        spent=run.spent,
    )


class _Run:
    """One question over passages, round by round."""

    def __init__(
        self, selector: Selector, question: str, by: TextTokens, order: Sequence[str], cancel: Event | None
    ) -> None:
        self._selector = selector
        self._question = question
        self._by = by
        self._order = order
        self._cancel = cancel
        self.spent = Spent()

    def text(self, kept: Spliced) -> str:
        """What a model is given."""
        return JOINT.join(part for part in (kept.text, self._question) if part)

    def spliced(self, kept: Sequence[Judged]) -> Spliced:
        """The passages of ``kept`` as one text."""
        return spliced([one.passage for one in kept], self._order)

    def round(self, passages: Sequence[Passage], heads: Sequence[int], settings: SelectSettings) -> Round:
        """``passages`` scored, and the best of them kept beside the ``heads``, which are rows of them."""
        self._check_room(passages, heads, settings)
        found = self._selector.score(self._question, passages, cancel=self._cancel)
        self.spent += found.spent
        first = set(heads)
        ranked = [row for row in by_score(found.scores) if found.scores[row] is not None and row not in first]
        wanted = ranked if settings.k is None else ranked[: settings.k]
        budget = settings.budget_tokens

        def fits(count: int) -> bool:
            return budget is None or self._tokens([passages[row] for row in [*heads, *wanted[:count]]]) <= budget

        taken = wanted[: most_that_fit(len(wanted), fits)]
        if not taken and not heads and wanted:
            raise self._no_room(passages[wanted[0]], settings)
        reasons = dict.fromkeys(heads, HEAD) | dict.fromkeys(taken, SCORE)
        left = dict.fromkeys(wanted[len(taken) :], BUDGET)
        unsure = _unsure(found, taken, ranked[len(taken) :])
        kept: list[Judged] = []
        dropped: list[Judged] = []
        for row, passage in enumerate(passages):
            own = found.reasons[row] if found.reasons else ""
            reason = reasons.get(row) or left.get(row) or own or BEHIND
            bounds = found.bounds[row] if found.bounds else None
            judged = Judged(passage, found.scores[row], reason, bounds, row in unsure)
            (kept if row in reasons else dropped).append(judged)
        return Round(tuple(kept), tuple(dropped), self._tokens([one.passage for one in kept]))

    def again(self, first: Round, settings: SelectSettings) -> list[Round]:
        """Further rounds over what was kept, in passages half as long each time, until the result fits."""
        rounds = [first]
        finer = settings
        while settings.most is not None and rounds[-1].tokens > settings.most:
            finer = replace(finer, tokens=finer.tokens // 2, overlap=finer.overlap // 2)
            parts = self._parts(rounds[-1], finer)
            found = self.round(parts, _heads(parts, settings, len(self._order)), finer)
            if found.tokens >= rounds[-1].tokens:
                raise self._no_shorter(found.tokens, settings)
            rounds.append(found)
        return rounds[1:]

    def _parts(self, before: Round, settings: SelectSettings) -> list[Passage]:
        if settings.tokens < LEAST or not self.spliced(before.kept).spans:
            raise self._no_shorter(before.tokens, settings)
        return [
            Passage(span.doc_id, span.start + one.start, span.start + one.end, one.text)
            for span in self.spliced(before.kept).spans
            for one in windows(span.doc_id, span.text, self._by, tokens=settings.tokens, overlap=settings.overlap)
        ]

    def _tokens(self, passages: Sequence[Passage]) -> int:
        return self._by.count(self.text(spliced(passages, self._order)))

    def _check_room(self, passages: Sequence[Passage], heads: Sequence[int], settings: SelectSettings) -> None:
        most = settings.most
        if most is None:
            return
        asked = self._by.count(self._question)
        if asked >= most:
            raise UsageError(
                f"The question has {asked} tokens of {self._by.label}, and {most} are allowed with what is kept. Allow "
                "more, or ask shorter."
            )
        if settings.budget_tokens is None:
            return
        if heads and (head := self._tokens([passages[row] for row in heads])) > settings.budget_tokens:
            raise UsageError(
                f"The head and the question have {head} tokens of {self._by.label}, and {settings.budget_tokens} are "
                "allowed. Allow more, take shorter passages, or set keep_head=False."
            )

    def _no_room(self, passage: Passage, settings: SelectSettings) -> UsageError:
        size = self._tokens([passage])
        return UsageError(
            f"budget_tokens={settings.budget_tokens} has no room for the best passage: with the question it has {size} "
            f"tokens of {self._by.label}. Allow more, or take shorter passages than tokens={settings.tokens}."
        )

    def _no_shorter(self, tokens: int, settings: SelectSettings) -> ContextOverflow:
        return ContextOverflow(
            f"k={settings.k} passages are {tokens} tokens with the question, and going over them again does not bring "
            f"them into {settings.most}. Keep fewer, or give budget_tokens in place of k.",
            limit=settings.most,
            got=tokens,
        )


def _check_texts(texts: Sequence[Document]) -> None:
    if not texts:
        raise UsageError("There is no text to choose from. Give one or more.")
    seen: set[str] = set()
    for one in texts:
        if one.id in seen:
            raise DuplicateId(f"Two texts have the id {one.id!r}; each needs its own, by which its parts are told.")
        seen.add(one.id)
        if not one.source.strip():
            raise ValidationError(f"The document {one.id!r} has no text. Leave it out, or read it again.")


def _question(
    texts: Sequence[Document], question: str | None, by: TextTokens, settings: SelectSettings
) -> tuple[str, Passage | None]:
    """The question, and where it stands if it is the end of the last text."""
    if question is not None:
        if not question.strip():
            raise UsageError("The question is empty. Ask something, or give None: the end of the text is it then.")
        return question, None
    last = texts[-1]
    start, size = len(last.source), settings.question_tokens
    while start > 0 and size > 0:
        # The end of the text may have other tokens alone; a place that is too early moves to the next token.
        near = max(0, len(last.source) - 16 * settings.question_tokens)
        places = by.places(last.source[near:])
        starts = near + np.unique(places[:, 0])
        start = int(starts[-size]) if size <= len(starts) else near
        if by.count(last.source[start:]) <= settings.question_tokens:
            break
        size -= 1
    text = last.source[start:]
    if not text.strip():
        raise UsageError(f"The last {settings.question_tokens} tokens of {last.id!r} are blank. Give a question.")
    return text.strip(), Passage(last.id, start, len(last.source), text)


def _passages(text: Document, asked: Passage | None, by: TextTokens, settings: SelectSettings) -> list[Passage]:
    body = text.source[: asked.start] if asked is not None and asked.doc_id == text.id else text.source
    return list(windows(text.id, body, by, tokens=settings.tokens, overlap=settings.overlap))


def _heads(passages: Sequence[Passage], settings: SelectSettings, texts: int) -> list[int]:
    """Rows of the first passages of texts, where they are to be kept."""
    if not (texts == 1 if settings.keep_head is None else settings.keep_head):
        return []
    return [row for row, one in enumerate(passages) if one.start == 0]


def _unsure(found: Scored, taken: Sequence[int], others: Sequence[int]) -> set[int]:
    """Passages whose bounds reach over the cut between those taken by score and the others."""
    bounds = found.bounds
    if not bounds or not taken or not others:
        return set()
    lowest = min(one[0] for row in taken if (one := bounds[row]) is not None)
    highest = max(one[1] for row in others if (one := bounds[row]) is not None)
    over = {row for row in taken if (one := bounds[row]) is not None and one[0] < highest}
    return over | {row for row in others if (one := bounds[row]) is not None and one[1] > lowest}
