"""In-context ranking by attention: what a model looks at when it is asked the query (arXiv 2410.02642).

All candidates stand in one prompt before the query.  The attention that the query's tokens pay to a candidate's tokens,
less what they pay when no query is asked, is its score.  Nothing is generated, so there is nothing to parse.

Letters::

    N candidates     T tokens of the prompt before the query     R tokens from there on     H heads
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol

from unabridged.contracts import JSON
from unabridged.errors import UsageError
from unabridged.rankers.attention_passes import AttentionPasses
from unabridged.rankers.contracts import KEPT, UNREAD, Exposure, Ranking, Request, Spent, Step
from unabridged.rankers.listwise.fitting import Fitter, Piece, TokenCounter, fit
from unabridged.rankers.listwise.inert import inert
from unabridged.rankers.listwise.labels import Labels
from unabridged.rankers.listwise.segments import SegmentSelector
from unabridged.rankers.lm.contracts import Capabilities, Message, Prompt, Usage
from unabridged.rankers.scored import exposures, scored

if TYPE_CHECKING:
    import torch

UNASKED = "N/A"
"""The query that measures what attention a candidate gets for its place and its words alone (section 3.2)."""
SEPARATOR = "\n\n"
DEVIATIONS = 2.0
"""Tokens further below the mean of their candidate are left out of its score (section 3.2)."""


class LocalWeights(TokenCounter, Protocol):
    """A causal model on this machine, as :class:`~unabridged.rankers.lm.local.LocalModel` is."""

    @property
    def name(self) -> str:
        """For reports."""
        ...

    @property
    def model(self) -> Any:
        """A Hugging Face causal model."""
        ...

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer, with character offsets."""
        ...

    @property
    def chat(self) -> Any:
        """Has ``render(prompt)``, the text of a prompt up to where the answer begins."""
        ...

    @property
    def lock(self) -> Any:
        """Held while the model computes."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """Says the context."""
        ...

    def ids(self, prompt: Prompt) -> list[int]:
        """The tokens of a prompt."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSettings:
    """What stands around the candidates, and which layers count."""

    opening: str = "Here are some documents."
    closing: str = "Find the documents that hold information relevant to this query."
    reverse: bool = False
    """Whether the last candidate stands first: those near the query are looked at more."""
    layers: tuple[int, int] | None = None
    """The layers [first, last) whose attention counts, and behind which nothing is computed (Selective-ICR, arXiv
    2602.22591); None: all."""
    passage_tokens: int | None = None
    """Most tokens of a candidate; None: as many as fit."""
    floor: int = 16
    """Tokens of a candidate below which nothing is ranked."""
    selector: SegmentSelector | None = None
    controls: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.layers is not None and not 0 <= self.layers[0] < self.layers[1]:
            raise UsageError(f"layers={self.layers} are a range [first, last) of layers, counted from 0.")
        if not self.opening or not self.closing or self.floor < 1:
            raise UsageError("The opening and the closing have words, and the floor is at least 1 token.")


@dataclass(frozen=True, slots=True)
class _Prompt:
    """Tokens of a prompt up to the query, and where each candidate's are."""

    head: list[int]  # (T,)
    asked: list[int]  # (R,)
    unasked: list[int]
    ranges: list[tuple[int, int]]  # N half-open ranges of head


class AttentionRanker:
    """Scores ``sum of (a(query) - a(N/A))`` over a candidate's tokens, its id included.

    ``a`` is the sum over layers and heads of the mean over the R last tokens of their attention to a token, float32.
    The candidates' keys and values are computed once; the two tails are short passes over them.  Higher is better.
    """

    def __init__(self, local: LocalWeights, settings: AttentionSettings | None = None) -> None:
        """:class:`UsageError` where the model has no attention layers that can be looked at, or too few."""
        self.local = local
        self.settings = settings or AttentionSettings()
        self._passes = AttentionPasses(local.model, self.settings.layers)

    @property
    def label(self) -> str:
        """The model, and how it ranks."""
        return f"{self.local.name}:attention"

    @property
    def facts(self) -> dict[str, JSON]:
        """What a score depends on beside the weights."""
        return {"layers": [self._passes.first, self._passes.last], "reverse": self.settings.reverse}

    def rank(self, requests: Sequence[Request], *, cancel: Event | None = None) -> list[Ranking]:
        """One ranking per request, one after the other, with a score for each candidate."""
        return [self._one(request, cancelled=cancel is not None and cancel.is_set()) for request in requests]

    def _one(self, request: Request, *, cancelled: bool) -> Ranking:
        candidates = request.candidates
        if not candidates:
            return scored((), exposures=())
        shown = None if cancelled else self._fitted(request)
        if shown is None:
            reason = "cancelled" if cancelled else "the candidates do not fit the context, however short they are shown"
            totals = self.local.count_texts([one.text for one in candidates])
            unread = tuple(Exposure(total, 0, (), 0, (KEPT, UNREAD)) for total in totals)
            step = Step(1, tuple(range(len(candidates))), "first-stage", reason)
            return scored([None] * len(candidates), exposures=unread, steps=(step,))
        prompt = self._prompt(request.query, [piece.text for _, piece in shown])
        with self.local.lock:
            asked, unasked = self._passes.paid(prompt.head, prompt.asked, prompt.unasked)
        scores = [calibrated((asked - unasked)[first:last]) for first, last in prompt.ranges]
        usage = Usage(prompt=len(prompt.head) + len(prompt.asked) + len(prompt.unasked), completion=0)
        return scored(scores, exposures=exposures(shown, scores), spent=Spent(calls=2, usage=usage))

    # The prompt.

    def _fitted(self, request: Request) -> list[tuple[int, Piece]] | None:
        """The candidates short enough for the context; None where they would be shorter than the floor."""
        settings = self.settings
        fitter = Fitter(model=self.local, labels=Labels(), selector=settings.selector, controls=settings.controls)
        reaches = [self.local.capabilities.context, self._passes.window]
        context = min((one for one in reaches if one is not None), default=None)

        def over(pieces: Sequence[Piece]) -> int:
            if context is None:
                return 0
            prompt = self._prompt(request.query, [piece.text for piece in pieces])
            return len(prompt.head) + max(len(prompt.asked), len(prompt.unasked)) - context

        return fit(fitter, request.query, request.candidates, settings.passage_tokens, settings.floor, over)

    def _prompt(self, query: str, texts: Sequence[str]) -> _Prompt:
        order = range(len(texts) - 1, -1, -1) if self.settings.reverse else range(len(texts))
        content = self.settings.opening
        characters: dict[int, tuple[int, int]] = {}
        for number, place in enumerate(order, start=1):
            content += SEPARATOR
            start = len(content)
            content += f"[{number}] {texts[place]}"
            characters[place] = (start, len(content))
        harmless = inert(query, Labels(), self.settings.controls)[0]
        head, asked = self._halves(content, harmless)
        _, unasked = self._halves(content, UNASKED)
        lead = self._lead(content)
        found = self.local.tokenizer(head, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        before = head.index(content)
        starts = [start for start, _ in found["offset_mapping"]]
        ranges = []
        for place in range(len(texts)):
            start, end = (before + one for one in characters[place])
            inside = [at for at, one in enumerate(starts) if start <= one < end]
            ranges.append((inside[0] + len(lead), inside[-1] + 1 + len(lead)) if inside else (0, 0))
        return _Prompt([*lead, *found["input_ids"]], self._encode(asked), self._encode(unasked), ranges)

    def _halves(self, content: str, query: str) -> tuple[str, str]:
        """The prompt's text to the end of the last candidate, and the rest."""
        whole = f"{content}{SEPARATOR}{self.settings.closing}\nQuery: {query}"
        text = str(self.local.chat.render([Message("user", whole)]))
        at = text.find(content)
        if at < 0:
            raise UsageError(f"The chat template of {self.local.name} changes the texts in a prompt.")
        return text[: at + len(content)], text[at + len(content) :]

    def _lead(self, content: str) -> list[int]:
        """Tokens that the model puts before every prompt."""
        prompt = [Message("user", content)]
        ids = self.local.ids(prompt)
        return ids[: len(ids) - len(self._encode(str(self.local.chat.render(prompt))))]

    def _encode(self, text: str) -> list[int]:
        return list(self.local.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def calibrated(paid: torch.Tensor) -> float | None:
    """The sum of ``paid`` (tokens of one candidate) without those far below its mean; None without tokens."""
    if not len(paid):
        return None
    if len(paid) > 1:
        paid = paid[paid > paid.mean() - DEVIATIONS * paid.std()]
    total = float(paid.sum())
    return None if math.isnan(total) else total
