"""Scores by the length of the relevant document and by the depth of the evidence in it, for any evaluation."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

LENGTHS = (512, 1024, 2048, 4096, 8192, 16384, 32768)
"""Bounds of the bins by true tokens of the relevant document."""
TENTHS = 10

Bin: TypeAlias = dict[str, Any]
"""``from``, ``to`` (None: no end), ``queries``, and measure -> mean over them."""
Means: TypeAlias = Callable[[Sequence[int]], Mapping[str, float]]
"""Numbers of queries -> measure -> mean over them."""


def best_documents(qrels: Mapping[str, Mapping[str, int]], known: Container[tuple[str, str]]) -> dict[str, str]:
    """Query -> its relevant document of the highest grade; of equal ones that with ``known`` evidence, then by id."""
    return {
        query: max(grades, key=lambda document: (grades[document], (query, document) in known, document))
        for query, grades in qrels.items()
        if max(grades.values(), default=0) > 0
    }


def by_length(tokens: Sequence[int | None], means: Means) -> list[Bin]:
    """Means by tokens of the relevant document, in the order of queries; bins without a query are left out."""
    held = [(at, size) for at, size in enumerate(tokens) if size is not None]
    bins = np.searchsorted(LENGTHS, [size for _, size in held], side="right")
    edges = (0, *LENGTHS, None)
    return [
        _bin(edges[number], edges[number + 1], [held[i][0] for i in np.flatnonzero(bins == number)], means)
        for number in range(len(LENGTHS) + 1)
        if bool((bins == number).any())
    ]


def by_depth(depths: Sequence[float | None], means: Means) -> list[Bin]:
    """Means by the tenth of the document in which the evidence begins; tenths without a query are left out."""
    rows: dict[int, list[int]] = {}
    for at, depth in enumerate(depths):
        if depth is not None:
            rows.setdefault(min(TENTHS - 1, int(depth * TENTHS)), []).append(at)
    return [_bin(number / TENTHS, (number + 1) / TENTHS, rows[number], means) for number in sorted(rows)]


def bin_lines(lengths: Sequence[Mapping[str, Any]], depths: Sequence[Mapping[str, Any]], measure: str) -> list[str]:
    """The bins for people, a line each."""
    lines = []
    for one in lengths:
        end = "and more" if one["to"] is None else f"to {one['to']:,}"
        lines.append(f"    {one['from']:,} {end} tokens: {one[measure]:.4f} ({one['queries']:,} queries)")
    lines += [
        f"    depth {one['from']:.1f} to {one['to']:.1f}: {one[measure]:.4f} ({one['queries']:,})" for one in depths
    ]
    return lines


def _bin(start: float | None, end: float | None, queries: Sequence[int], means: Means) -> Bin:
    return {"from": start, "to": end, "queries": len(queries), **means(queries)}
