"""Hits of a search in a better order, each with what was shown of it: for programs, and for ``search --rerank``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unabridged.apps.candidates import IndexTexts
from unabridged.apps.rankers import OpenRanker, RankerOptions, load_ranker
from unabridged.apps.ranking_json import exposure_json, spent_json, step_json
from unabridged.apps.rerank_options import FEW
from unabridged.apps.reranking import check_depth
from unabridged.contracts import JSON, Hit
from unabridged.errors import UsageError
from unabridged.rankers.contracts import Candidate, Exposure, Ranking, Request, Status, run_scores
from unabridged.retrievers.opened import Index
from unabridged.retrievers.result import Mode

FIRST, FIRST_RANK, RERANK = "first", "first_rank", "rerank"
"""In a hit's stages: score and rank before, and the ranker's own score where it gives one."""


@dataclass(frozen=True, slots=True)
class RerankedHits:
    """Hits in their new order; iterates best first."""

    query: str
    hits: tuple[Hit, ...]
    """Scores are ``K .. 1``: those of a ranker and of a first stage cannot be compared."""
    ranking: Ranking
    """Of the hits that were ranked, in first-stage order: status, steps, what was shown of each, what was spent."""
    model: str
    sources: Any = field(default=None, repr=False, compare=False)
    """The index that the hits come from, where that is known: their texts can be read from it again."""

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, rank: int) -> Hit:
        return self.hits[rank]

    @property
    def failed(self) -> bool:
        """Whether the order is the first stage's because there was no ranking."""
        return self.ranking.status in (Status.FAILED, Status.UNRANKED)

    @property
    def exposures(self) -> tuple[Exposure | None, ...]:
        """What was shown of each hit, in the order of ``hits``; None of those behind the depth."""
        shown = [self.ranking.exposures[item] for item in self.ranking.order] if self.ranking.exposures else []
        return (*shown, *(None for _ in self.hits[len(shown) :]))

    def as_json(self) -> dict[str, JSON]:
        """How the order was come by, as plain values."""
        return {
            "model": self.model,
            "status": self.ranking.status.value,
            "ranked": len(self.ranking.order),
            "shown": [None if one is None else exposure_json(one) for one in self.exposures],
            "steps": [step_json(step) for step in self.ranking.steps],
            "spent": spent_json(self.ranking.spent),
        }


def rerank(
    query: str,
    hits: Sequence[Hit],
    *,
    model: str | OpenRanker,
    index: Index | None = None,
    depth: int = FEW,
    mode: Mode | str = Mode.HYBRID,
    options: RankerOptions | None = None,
) -> RerankedHits:
    """The hits in the order that ``model`` gives the first ``depth`` of them; the others follow as they were.

    ``hits`` is a search result or any list of hits, best first.  With ``index`` whole documents are ranked, and of
    those that do not fit the segments that ``mode`` finds best are shown, the hit's own first; without it, the text of
    each hit's span.  ``model`` is a name such as ``embedded:likelihood`` or ``openai:MODEL@URL:full``, which is loaded
    at each call, or what :func:`load_ranker` gave, which is not.  What goes wrong in a call of the model is in the
    result's ``ranking``, and the hits keep their order.

    Raises:
        UsageError: no query, a depth below 1, an unknown strategy, options beside a loaded ranker, or with ``index`` a
            document that stands twice.
        AuthFailed, BadRequest: the model refuses every call.
    """
    if not query.strip():
        raise UsageError("The query is empty; expected at least one word.")
    check_depth(depth)
    if isinstance(model, OpenRanker) and options is not None:
        raise UsageError("The ranker is loaded already: give its options to load_ranker.")
    ranker = load_ranker(model, options=options) if isinstance(model, str) else model
    found = reordered(ranker, query, tuple(hits), index, depth, Mode(mode))
    return replace(found, sources=getattr(hits, "sources", None) if index is None else index)


def reordered(
    ranker: OpenRanker, query: str, hits: tuple[Hit, ...], index: Index | None, depth: int, mode: Mode
) -> RerankedHits:
    """:func:`rerank` with everything checked."""
    head = hits[:depth]
    documents = None if index is None else _documents(index, query, head, mode)
    # Positions are the ids: at level segment a document stands once for each of its segments.
    candidates = tuple(
        Candidate(str(at), hit.span.text, (), hit.score)
        if documents is None
        else Candidate(str(at), *documents[hit.doc_id], hit.score)
        for at, hit in enumerate(head)
    )
    [ranking] = ranker.rank([Request(query, candidates)])
    own = ranking.scores or (None,) * len(head)
    order = [*zip(ranking.order, own, strict=True), *((at, None) for at in range(len(head), len(hits)))]
    found = [
        _placed(hits[at], rank, score, value)
        for rank, ((at, value), score) in enumerate(zip(order, run_scores(len(hits)), strict=True), 1)
    ]
    return RerankedHits(query, tuple(found), ranking, ranker.label)


def _placed(hit: Hit, rank: int, score: float, value: float | None) -> Hit:
    stages: dict[str, float] = {**hit.stages, FIRST: hit.score, FIRST_RANK: float(hit.rank)}
    return replace(hit, rank=rank, score=score, stages=stages if value is None else {**stages, RERANK: value})


def _documents(
    index: Index, query: str, hits: Sequence[Hit], mode: Mode
) -> Mapping[str, tuple[str, tuple[tuple[int, int], ...]]]:
    """Text and segments of each document, those of its hits first."""
    texts = IndexTexts(index, mode)
    ids = [hit.doc_id for hit in hits]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise UsageError(
            f"Document {twice!r} stands twice in the hits, which are segments then: leave index out, and each is "
            "ranked by its own text."
        )
    segments = texts.segments(query, ids)
    found: dict[str, Any] = {}
    for hit in hits:
        text, own = index.source(hit.doc_id), (hit.span.start, hit.span.end)
        # A hit's span is the whole text where a document has one vector: that is no segment.
        first = (own,) if own[0] < own[1] and own != (0, len(text)) else ()
        found[hit.doc_id] = (text, tuple(dict.fromkeys((*first, *segments.get(hit.doc_id, ())))))
    return found
