"""What a search returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from unabridged.contracts import Floats, Hit


class Mode(str, Enum):
    """Which rankings a search uses."""

    DENSE = "dense"
    BM25 = "bm25"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True)
class RankedList:
    """Ids and scores for one query, best first, without the spans that answer; K entries.

    ``timings`` are milliseconds.  At level ``segment`` a document stands once for each of its segments.
    """

    query: str
    doc_ids: tuple[str, ...]  # (K,)
    scores: Floats  # (K,) float32, higher is better
    timings: Mapping[str, float]
    notes: tuple[str, ...] = ()
    """What was done otherwise than asked, and why: above all, what a GPU could not do."""

    def __len__(self) -> int:
        return len(self.doc_ids)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits for one query; iterates best first.  ``timings`` are milliseconds.

    ``sources`` is the index that was searched, from which the texts of the hits can be read again.
    """

    query: str
    mode: Mode
    hits: tuple[Hit, ...]
    timings: Mapping[str, float]
    sources: Any = field(default=None, repr=False, compare=False)
    notes: tuple[str, ...] = ()
    """What was done otherwise than asked, and why: above all, what a GPU could not do."""

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, rank: int) -> Hit:
        return self.hits[rank]

    def as_json(self) -> dict[str, Any]:
        """Plain values, as ``unabridged search --output json`` prints them."""
        return {
            "query": self.query,
            "mode": self.mode.value,
            "hits": [
                {
                    "rank": hit.rank,
                    "doc_id": hit.doc_id,
                    "score": hit.score,
                    "span": {"start": hit.span.start, "end": hit.span.end, "text": hit.span.text},
                    "stages": dict(hit.stages),
                }
                for hit in self.hits
            ],
            "timings": dict(self.timings),
            **({"notes": list(self.notes)} if self.notes else {}),
        }
