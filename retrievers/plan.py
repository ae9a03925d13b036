"""What indexing a corpus will take, before anything is loaded or written: no torch, no FAISS.

Exact: documents, characters, failures, duplicate ids.  Estimated from a sample chosen by content hash: tokens,
windows, documents over the window.  Time is arithmetic of the model divided by what this machine's numpy
reaches on matrices of the model's size, times the part of that which encoding has been measured to reach.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from unabridged.contracts import Corpus, Encoder, OverflowPolicy
from unabridged.corpora import Scan, scan
from unabridged.encoders._hf import weight_files
from unabridged.index.recipe import Recipe, choose_recipe
from unabridged.retrievers.settings import BuildSettings

WINDOW_FILL = 0.88
"""Average part of a window that is filled when cuts prefer sentence ends (measured on prose and code)."""
ENCODE_EFFICIENCY = 0.62
"""Encoding reaches this part of the machine's matrix multiplication rate on a CPU (benchmarks/bench_encode.py)."""
LEXICAL_BYTES = 0.55
"""Bytes of BM25 postings per byte of text (measured on English prose)."""
BASE_RAM = 500_000_000
"""Bytes that the interpreter, torch and one unit of work take besides weights and index."""
ROW_BYTES = 60
"""Bytes of ids, spans, keys and ledger per vector."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes are bytes, times seconds; ``seconds`` is None for an encoder whose arithmetic is not known."""

    documents: int
    failed: int
    failed_reasons: dict[str, int]
    characters: int
    bytes: int
    longest_document: str
    longest_characters: int
    tokens: int
    tokens_read: int
    window: int
    over_window: int
    vectors: int
    dim: int
    recipe: dict[str, Any]
    ram: int
    disk: int
    tokens_per_second: float | None
    seconds: float | None
    encoder: str

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def make_plan(corpus: Corpus, encoder: Encoder, settings: BuildSettings, ram: int, disk: int) -> Plan:
    """The plan for one corpus; reads it once.

    Raises:
        DuplicateId, CorpusError: as the build would.
    """
    found = scan(corpus)
    ratio = tokens_per_character(found, encoder)
    capacity = max(1, encoder.window - 2)
    tokens = round(found.characters * ratio)
    # Late chunking has several vectors in a window.  Not from the passport, which would hash all weights.
    size = getattr(encoder, "late_tokens", None) or capacity
    windows = _windows(found, ratio, size)
    whole = settings.overflow not in (OverflowPolicy.WARN, OverflowPolicy.TRUNCATE, OverflowPolicy.ERROR)
    read = tokens if whole else min(tokens, round(_capped(found, ratio, capacity)))
    segments = windows if whole else found.documents if size == capacity else max(found.documents, read // size)
    vectors = segments * settings.level.has_segments + found.documents * settings.level.has_documents
    rows = segments if settings.level.has_segments else found.documents
    recipe = choose_recipe(
        settings.recipe,
        n=rows,
        dim=encoder.dim,
        ram_bytes=ram,
        disk_bytes=disk,
        recall_target=settings.recall_target,
    )
    rate = encode_rate(encoder)
    width = encoder.dim * np.dtype(settings.vector_dtype).itemsize
    return Plan(
        documents=found.documents,
        failed=found.failed,
        failed_reasons=dict(found.reasons),
        characters=found.characters,
        bytes=found.bytes,
        longest_document=found.longest_id,
        longest_characters=found.longest,
        tokens=tokens,
        tokens_read=read,
        window=encoder.window,
        over_window=found.longer_than(capacity / ratio) if ratio else 0,
        vectors=vectors,
        dim=encoder.dim,
        recipe=recipe.as_json(),
        ram=BASE_RAM + weights_bytes(encoder) + recipe.build_ram,
        disk=round(found.bytes * (1 + LEXICAL_BYTES) + vectors * (width + ROW_BYTES)) + recipe_disk(recipe),
        tokens_per_second=rate,
        seconds=None if rate is None else read / rate,
        encoder=encoder.passport.source,
    )


def recipe_disk(recipe: Recipe) -> int:
    """Bytes that the approximate index takes at its peak."""
    return max(recipe.build_disk, recipe.file_bytes)


def tokens_per_character(found: Scan, encoder: Encoder) -> float:
    """The encoder's content tokens per character, over the sample."""
    texts = [sampled.text for sampled in found.sample]
    characters = sum(map(len, texts))
    return float(encoder.count_tokens(texts).sum()) / characters if characters else 0.0


def _lengths(found: Scan) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Mean characters and number of documents of every length bucket that is not empty."""
    from unabridged.corpora._scan import STEPS_PER_OCTAVE

    buckets = np.flatnonzero(found.lengths)
    return 2.0 ** ((buckets + 0.5) / STEPS_PER_OCTAVE), found.lengths[buckets]


def _windows(found: Scan, ratio: float, capacity: int) -> int:
    lengths, counts = _lengths(found)
    tokens = lengths * ratio
    split = np.where(tokens <= capacity, 1, np.ceil(tokens / (capacity * WINDOW_FILL)))
    return int((split * counts).sum())


def _capped(found: Scan, ratio: float, capacity: int) -> float:
    lengths, counts = _lengths(found)
    return float((np.minimum(lengths * ratio, capacity) * counts).sum())


def encoder_config(encoder: Encoder) -> Mapping[str, Any]:
    """The model's config.json, or nothing for an encoder without one."""
    return getattr(getattr(encoder, "folder", None), "config", {})


def flops_per_token(config: Mapping[str, Any]) -> float | None:
    """Floating-point operations of one token in the matrix multiplications of a transformer encoder; else None."""
    if "mamba" in str(config.get("model_type")):
        return None
    try:
        hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
        inner = int(config.get("intermediate_size", 4 * hidden))
    except (KeyError, TypeError, ValueError):
        return None
    return 2.0 * layers * (4 * hidden * hidden + 2 * hidden * inner)


def weights_bytes(encoder: Encoder) -> int:
    """Bytes of the model in memory, in float32; of another than a transformer those of its file."""
    config = encoder_config(encoder)
    flops = flops_per_token(config)
    if flops is None:
        folder = getattr(encoder, "folder", None)
        return 0 if folder is None else sum(path.stat().st_size for path in weight_files(folder.path))
    return round(4 * (flops / 2 + int(config.get("vocab_size", 0)) * int(config["hidden_size"])))


def encode_rate(encoder: Encoder) -> float | None:
    """Tokens per second to expect on this machine's CPU."""
    config = encoder_config(encoder)
    flops = flops_per_token(config)
    if not flops:
        return None
    hidden = int(config["hidden_size"])
    return ENCODE_EFFICIENCY * matrix_rate(hidden, int(config.get("intermediate_size", 4 * hidden))) / flops


def matrix_rate(inner: int, outer: int, seconds: float = 0.3) -> float:
    """Floating-point operations per second of numpy's matrix product, the best of some tries."""
    rows = 1024
    left, right = np.ones((rows, inner), np.float32), np.ones((inner, outer), np.float32)
    best, end = 0.0, time.perf_counter() + seconds
    while True:
        started = time.perf_counter()
        left @ right
        now = time.perf_counter()
        best = max(best, 2.0 * rows * inner * outer / (now - started))
        if now > end:
            return best
