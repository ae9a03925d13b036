"""Rates that were measured, for plans of what is not at hand, each with its source.  What is absent was not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """A figure per second, and where it was measured."""

    value: float
    source: str


ENCODE = Rate(5_166.0, "tokens/s of the embedded encoder, 2 cores of an AMD EPYC (benchmarks/results/index_cpu.json)")
ENCODE_FLOPS = 21_233_664.0
"""Operations per token of that encoder: 6 layers of 384 and 1,536."""
BUILD = Rate(
    44e9, "operations/s of training and filling lists on the same cores (1 M x 384: benchmarks/results/search_cpu.json)"
)
PG_COPY = Rate(83_000.0 * 384, "numbers/s copied into PostgreSQL: 30,000 x 384 of half precision in 0.36 s, 2 cores")
PG_HNSW = Rate(
    3_750.0 * 384,
    "numbers/s linked by pgvector's hnsw (m 16) at 30,000 rows in 8.0 s, 2 cores; taken to fall with log rows",
)
PG_HNSW_ROWS = 30_000
