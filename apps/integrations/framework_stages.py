"""What comes after retrieval in other toolkits: a better order, and a pack under a budget of tokens."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

from unabridged.apps.integrations.framework_hits import opened, sha256
from unabridged.apps.integrations.framework_texts import Given, Texts
from unabridged.apps.ranking_json import exposure_json, step_json
from unabridged.contracts import JSON
from unabridged.errors import UsageError
from unabridged.rankers.context.assemble import assemble
from unabridged.rankers.context.contracts import ContextPack, SourceSpan
from unabridged.rankers.context.counting import DEFAULT_TOKENIZER
from unabridged.rankers.contracts import Candidate, Ranker, Request, by_score
from unabridged.rankers.select.contracts import Selector
from unabridged.retrievers.opened import Index

RERANKED, PACKED = "reranked", "packed"
"""Under these names metadata tells what was done to a document."""
_AROUND = frozenset({"join_gap", "neighbours", "margin", "headings"})
"""Options of :func:`assemble` that show more of a source than was retrieved."""
_PACKING = _AROUND | {"order", "headers", "show_question", "duplicates", "similarity", "trim", "faults", "network"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A document, or part of one, that goes on."""

    place: int
    """Of the document in the list that was given, the best one if several were joined."""
    text: str
    start: int
    end: int
    foreign: bool
    """Whether ``start`` and ``end`` count in the text that was given, as nothing is known of its source."""
    joined: bool
    """Whether the text is not that of the document as it was given."""
    sha256: str | None
    """Of the whole source."""
    score: float | None
    """The one that the new order goes by; None where there is none."""
    record: Mapping[str, JSON]
    """What was done, under :data:`RERANKED` and :data:`PACKED`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What goes on, and the pack where there is a budget."""

    pieces: tuple[Piece, ...] = ()
    pack: ContextPack | None = None


@dataclass(frozen=True, slots=True)
class _Ordered:
    place: int
    score: float | None
    record: dict[str, JSON]


class SecondStage:
    """Documents to a better order by a ranker or a selector, to the first ``top_n``, and to a pack.

    Args:
        ranker: As :func:`unabridged.load_ranker` takes or gives it; a name is loaded at first use.
        selector: In place of a ranker: a name of :mod:`unabridged.apps.selector_names`, or a selector.
        top_n: Documents that go on, best first.
        budget: Tokens of the pack; None: documents stay as they are.
        tokenizer: What counts them, see :mod:`unabridged.rankers.context.counting`.
        sources: An index, its folder, or a mapping of ids to texts, in which documents are verified and read again.
        packing: Further options of :func:`unabridged.assemble`.

    :class:`UsageError` for nothing to do, for a ranker and a selector together, and for unknown options of packing.
    """

    def __init__(
        self,
        *,
        ranker: str | Ranker | None = None,
        selector: str | Selector | None = None,
        top_n: int | None = None,
        budget: int | None = None,
        tokenizer: Any = DEFAULT_TOKENIZER,
        sources: Index | Mapping[str, str] | str | Path | None = None,
        packing: Mapping[str, Any] | None = None,
    ) -> None:
        if ranker is not None and selector is not None:
            raise UsageError("There is a ranker and a selector; expected one of them.")
        if ranker is None and selector is None and top_n is None and budget is None:
            raise UsageError("Nothing would be done: give a ranker, a selector, top_n or a budget.")
        for name, number, of in (("top_n", top_n, "documents"), ("budget", budget, "tokens")):
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
                raise UsageError(f"{name}={number!r}; expected a positive whole number of {of}.")
        _check_packing(packing or {}, budget, sources)
        self.ranker, self.selector = ranker, selector
        self.top_n, self.budget, self.tokenizer = top_n, budget, tokenizer
        self.sources, self.packing = sources, dict(packing or {})
        self._loaded: dict[str, Any] = {}
        self._lock = Lock()

    def load(self) -> None:
        """Loads the ranker or selector now, and opens the index."""
        if self.ranker is not None or self.selector is not None:
            self._model()
        self._sources()

    def run(self, question: str, given: Sequence[Given]) -> Outcome:
        """What goes on of ``given``, which come best first.

        Raises:
            UsageError: an empty question, a document that the sources do not have.
            SourceChanged: a document is not in its source as it says.
            BudgetTooSmall: not one document fits the budget.
        """
        if not isinstance(question, str) or not question.strip():
            raise UsageError(f"The question is {question!r}; expected at least one word.")
        if not given:
            return Outcome()
        texts = Texts(given, self._sources() if self.budget is not None else None)
        ordered = self._ordered(question, given, texts)[: self.top_n]
        if self.budget is None:
            return Outcome(pieces=tuple(_kept(one, given, texts) for one in ordered))
        return self._packed(question, given, texts, ordered)

    def _ordered(self, question: str, given: Sequence[Given], texts: Texts) -> list[_Ordered]:
        if self.ranker is None and self.selector is None:
            return [_Ordered(place, one.score, {}) for place, one in enumerate(given)]
        if self.selector is not None:
            return _selected(self._model(), question, texts)
        return _ranked(self._model(), question, given)

    def _packed(self, question: str, given: Sequence[Given], texts: Texts, ordered: Sequence[_Ordered]) -> Outcome:
        offers = texts.offers(given, [one.place for one in ordered])
        pack = assemble(
            question, offers, budget=self.budget or 0, tokenizer=self.tokenizer, sources=texts, **self.packing
        )
        spans = tuple(_attested(span, given, texts, ordered) for span in pack.sources)
        pack = replace(pack, sources=spans)
        dropped = [one.as_json() for one in pack.dropped]
        if dropped:
            _log.info("%d of %d documents have no place of their own in the pack", len(dropped), len(offers))
        pieces = []
        for span in spans:
            best = ordered[span.hits[0]]
            record: dict[str, JSON] = {
                "number": span.number,
                "documents": [ordered[hit].place for hit in span.hits],
                "cut": [list(part) for part in span.cut],
                "tokens": pack.tokens,
                "budget": pack.budget,
                "tokenizer": pack.tokenizer,
            }
            if span.number == 1 and dropped:
                record["dropped"] = [{**one, "hit": ordered[one["hit"]].place} for one in dropped]
            pieces.append(
                Piece(
                    place=best.place,
                    text=span.text,
                    start=span.start,
                    end=span.end,
                    foreign=texts.foreign[best.place],
                    joined=span.text != given[best.place].text,
                    sha256=span.sha256 or None,
                    score=best.score,
                    record={**best.record, PACKED: record},
                )
            )
        return Outcome(pieces=tuple(pieces), pack=pack)

    def _model(self) -> Any:
        with self._lock:
            if "model" not in self._loaded:
                self._loaded["model"] = _loaded(self.ranker, self.selector)
            return self._loaded["model"]

    def _sources(self) -> Any:
        with self._lock:
            if "sources" not in self._loaded:
                folder = isinstance(self.sources, (str, Path))
                self._loaded["sources"] = opened(self.sources) if folder else self.sources  # type: ignore[arg-type]
            return self._loaded["sources"]


def _check_packing(packing: Mapping[str, Any], budget: int | None, sources: Any) -> None:
    if packing and budget is None:
        raise UsageError("There are options of packing and no budget; give a budget of tokens.")
    if unknown := sorted(set(packing) - _PACKING):
        raise UsageError(f"Packing has no {unknown[0]!r}; it has {', '.join(sorted(_PACKING))}.")
    wide = sorted(name for name in _AROUND & set(packing) if packing[name])
    if wide and sources is None:
        raise UsageError(f"{wide[0]} shows more of a source than was retrieved: give sources, an index or its folder.")


def _loaded(ranker: Any, selector: Any) -> Any:
    if selector is not None:
        from unabridged.apps.selector_names import load_selector

        return load_selector(selector) if isinstance(selector, str) else selector
    from unabridged.apps.rankers import load_ranker

    return load_ranker(ranker) if isinstance(ranker, str) else ranker


def _ranked(ranker: Ranker, question: str, given: Sequence[Given]) -> list[_Ordered]:
    """Every document in the ranker's order, each by its own text; positions are the ids."""
    candidates = tuple(Candidate(str(place), one.text, (), one.score) for place, one in enumerate(given))
    [ranking] = ranker.rank([Request(question, candidates)])
    scores = ranking.scores or (None,) * len(given)
    found = []
    for rank, (place, score) in enumerate(zip(ranking.order, scores, strict=True), 1):
        record = _record(ranker.label, rank, place, score, len(given)) | {"status": ranking.status.value}
        if ranking.exposures:
            record["shown"] = exposure_json(ranking.exposures[place])
        if rank == 1 and ranking.steps:
            record["steps"] = [step_json(step) for step in ranking.steps]
        found.append(_Ordered(place, score, {RERANKED: record}))
    return found


def _selected(selector: Selector, question: str, texts: Texts) -> list[_Ordered]:
    scored = selector.score(question, texts.passages)
    found = []
    for rank, place in enumerate(by_score(scored.scores), 1):
        score = scored.scores[place]
        record = _record(selector.label, rank, place, score, len(texts.passages))
        if scored.reasons and scored.reasons[place]:
            record["reason"] = scored.reasons[place]
        found.append(_Ordered(place, score, {RERANKED: record}))
    return found


def _record(model: str, rank: int, place: int, score: float | None, offered: int) -> dict[str, JSON]:
    return {"model": model, "rank": rank, "first_rank": place + 1, "score": score, "offered": offered}


def _kept(one: _Ordered, given: Sequence[Given], texts: Texts) -> Piece:
    document, passage = given[one.place], texts.passages[one.place]
    return Piece(
        place=one.place,
        text=document.text,
        start=passage.start,
        end=passage.end,
        foreign=texts.foreign[one.place],
        joined=False,
        sha256=sha256(document.text) if texts.foreign[one.place] else document.sha256,
        score=one.score,
        record=one.record,
    )


def _attested(span: SourceSpan, given: Sequence[Given], texts: Texts, ordered: Sequence[_Ordered]) -> SourceSpan:
    """The span with the hash that its documents have of their source, where that was put together out of them."""
    best = ordered[span.hits[0]]
    if span.doc_id not in texts.partial or texts.foreign[best.place]:
        return replace(span, score=best.score)
    return replace(span, score=best.score, sha256=given[best.place].sha256 or "")
