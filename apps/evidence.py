"""The blocks that a hit's vector is made of, for indexes whose encoder aggregates blocks (SEA)."""

from __future__ import annotations

from typing import Any

from unabridged.apps.code_lines import line_range
from unabridged.contracts import Span
from unabridged.retrievers.evidence import blocks_of
from unabridged.retrievers.opened import Index

SHOWN_BLOCKS = 4


def blocks(index: Index, doc_id: str) -> list[dict[str, Any]]:
    """Span in characters, first and last line, and weight of each block, in their order; nothing for other encoders."""
    found = blocks_of(index, doc_id)
    if not found:
        return []
    source = index.source(doc_id)
    lines = [line_range(source, Span(block.start, block.end, source[block.start : block.end])) for block in found]
    return [
        {"start": block.start, "end": block.end, "lines": list(own), "weight": round(block.weight, 4)}
        for block, own in zip(found, lines, strict=True)
    ]


def described(index: Index, doc_id: str) -> str:
    """The heaviest blocks on one line, for people; an empty text where there is one block or none."""
    found = sorted(blocks(index, doc_id), key=lambda block: -float(block["weight"]))
    if len(found) < 2:
        return ""
    shown = [f"{block['lines'][0]}-{block['lines'][1]} ({block['weight']:.0%})" for block in found[:SHOWN_BLOCKS]]
    more = f" and {len(found) - SHOWN_BLOCKS} more" if len(found) > SHOWN_BLOCKS else ""
    return f"     blocks by weight: {', '.join(shown)}{more}"
