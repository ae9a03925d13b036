"""What indexing a corpus will take, before anything is written.

Exact: documents, characters, failures, duplicate ids, the largest unit of work.  Estimated from passages drawn by
size: tokens, windows, documents over the window.  Time, memory and disk come from a calibration: the real encoder
and the real build, tried for some seconds on these passages.  Without one (no torch, no FAISS is loaded then) time is
arithmetic of the model divided by what this machine's numpy reaches on matrices of the model's size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from unabridged.contracts import Corpus, Encoder, OverflowPolicy
from unabridged.corpora import Scan, scan
from unabridged.index.recipe import Recipe, choose_recipe
from unabridged.retrievers.arithmetic import base_seconds, encode_rate, weights_bytes
from unabridged.retrievers.calibration import Calibration, Kind, Sample, Spent
from unabridged.retrievers.settings import BuildSettings
from unabridged.retrievers.survey import Passage, Survey
from unabridged.retrievers.units import UNIT_CHARACTERS

WINDOW_FILL = 0.88
"""Average part of a window that is filled when cuts prefer sentence ends (measured on prose and code)."""
LEXICAL_BYTES = 0.55
"""Bytes of BM25 postings per byte of text (measured on English prose)."""
BASE_RAM = 500_000_000
"""Bytes that the interpreter, torch and one unit of work take besides weights and index."""
TOKEN_RAM = 145.0
"""Bytes that the tokens of a character take in one unit (0.4 and 4 M characters of English prose, WordPiece of 30,000
words): identifiers, words, offsets."""
ROW_BYTES = 60
"""Bytes of ids, spans, keys and ledger per vector."""
FAISS_RAM = 40_000_000
"""Bytes that FAISS takes by being loaded."""

Calibrate = Callable[[Sample], Calibration | None]


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
    cpu_seconds: float | None = None
    """Of all processors together; None without a calibration."""
    segments: int = 0
    """Windows or late segments of all documents, whether the level keeps their vectors or not."""
    largest_unit: int = 0
    """Characters of the largest run of documents that is encoded together."""
    parts: dict[str, dict[str, float]] = field(default_factory=dict)
    """The sums: ``seconds``, ``cpu_seconds``, ``ram``, ``disk`` -> what each part of the work takes."""
    assumptions: dict[str, Any] = field(default_factory=dict)
    """Where the rates come from."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much there is to do.  ``short`` documents fit a window."""

    characters_short: float
    characters_long: float
    tokens_short: float
    tokens_long: float
    """Tokens that are read."""
    longest: int
    """Characters of the longest document."""
    unit: int
    """Characters of the largest unit."""
    pair: int
    """Characters of the largest two units that follow each other: the tokens of both are held."""


def make_plan(
    corpus: Corpus,
    encoder: Encoder,
    settings: BuildSettings,
    ram: int,
    disk: int,
    *,
    calibrate: Calibrate | None = None,
    why: Sequence[str] = (),
) -> Plan:
    """The plan for one corpus; reads it once, and gives ``calibrate`` what is to be tried.

    Where that gives None, ``why`` has the reasons by then.

    Raises:
        DuplicateId, CorpusError: as the build would.
    """
    survey = Survey(corpus)
    found = scan(survey)
    passages = survey.passages
    ratio = tokens_per_character(passages, encoder)
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
    width = encoder.dim * np.dtype(settings.vector_dtype).itemsize
    amounts = _amounts(found, survey, ratio, capacity, read)
    tried = None if calibrate is None else calibrate(_sample(passages, amounts, ratio, capacity, size))
    if tried is None:
        parts, rate = _unmeasured(encoder, recipe, found, survey, vectors, width, read)
        assumptions: dict[str, Any] = {"calibrated": False, "why_not": " ".join(why) or "as asked"}
    else:
        parts = _measured(tried, amounts, recipe, vectors * width, survey.spent)
        rate = amounts_rate(tried, amounts)
        assumptions = {"calibrated": True, "measured": tried.as_json()}
    assumptions["window_fill"] = WINDOW_FILL
    seconds = parts.get("seconds")
    cpu = parts.get("cpu_seconds")
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
        ram=round(sum(parts["ram"].values())),
        disk=round(sum(parts["disk"].values())),
        tokens_per_second=rate,
        seconds=None if seconds is None else sum(seconds.values()),
        encoder=encoder.passport.source,
        cpu_seconds=None if cpu is None else sum(cpu.values()),
        segments=segments,
        largest_unit=survey.largest_unit,
        parts=parts,
        assumptions=assumptions,
    )


def _measured(
    tried: Calibration, amounts: Amounts, recipe: Recipe, vector_bytes: int, reading: Spent
) -> dict[str, dict[str, float]]:
    """The sums of a plan, from what was tried."""
    spent = {
        "start": tried.start,
        "read": reading.times(2),  # once to count, once to encode
        "encode": _encoding(tried, amounts),
        "store": tried.fixed
        + _beside(tried.short, amounts.characters_short)
        + _beside(tried.long, amounts.characters_long),
        "approximate index": base_seconds(recipe),
    }
    held = tried.ram_work + tried.ram_per_character * amounts.pair
    return {
        "seconds": {name: value.wall for name, value in spent.items()},
        "cpu_seconds": {name: value.cpu for name, value in spent.items()},
        "ram": {"program and model": tried.ram_base, **_larger(held, recipe)},
        "disk": {
            "texts, BM25 and ledger": tried.fixed_disk
            + tried.short.disk_per_character * amounts.characters_short
            + tried.long.disk_per_character * amounts.characters_long,
            "vectors": vector_bytes,
            "approximate index": recipe_disk(recipe),
        },
    }


def _unmeasured(
    encoder: Encoder, recipe: Recipe, found: Scan, survey: Survey, vectors: int, width: int, read: int
) -> tuple[dict[str, dict[str, float]], float | None]:
    """The sums of a plan from arithmetic and constants, and tokens per second."""
    rate = encode_rate(encoder)
    held = TOKEN_RAM * max(0, survey.largest_pair - UNIT_CHARACTERS)
    parts: dict[str, dict[str, float]] = {
        "ram": {"program": BASE_RAM, "model": weights_bytes(encoder), **_larger(held, recipe)},
        "disk": {
            "texts, BM25 and ledger": found.bytes * (1 + LEXICAL_BYTES) + vectors * ROW_BYTES,
            "vectors": vectors * width,
            "approximate index": recipe_disk(recipe),
        },
    }
    if rate is not None:
        parts["seconds"] = {
            "read": 2 * survey.spent.wall,
            "encode": read / rate,
            "approximate index": base_seconds(recipe).wall,
        }
    return parts, rate


def _larger(held: float, recipe: Recipe) -> dict[str, float]:
    """Memory for a unit or for the approximate index: one is let go before the other begins."""
    build = 0.0 if recipe.is_flat else recipe.build_ram + FAISS_RAM
    return {"units under way": held} if held >= build else {"approximate index": build}


def _encoding(tried: Calibration, amounts: Amounts) -> Spent:
    short, long = tried.short.per_token or tried.long.per_token, tried.long.per_token or tried.short.per_token
    total = Spent()
    if short is not None and long is not None:
        total = short.times(amounts.tokens_short) + long.times(amounts.tokens_long)
    return total


def _beside(kind: Kind, characters: float) -> Spent:
    return Spent() if kind.per_character is None else kind.per_character.times(characters)


def amounts_rate(tried: Calibration, amounts: Amounts) -> float | None:
    """Tokens per second of encoding over the mix of the corpus; None where nothing is encoded."""
    seconds = _encoding(tried, amounts).wall
    return (amounts.tokens_short + amounts.tokens_long) / seconds if seconds else None


def recipe_disk(recipe: Recipe) -> int:
    """Bytes that the approximate index takes at its peak."""
    return max(recipe.build_disk, recipe.file_bytes)


def tokens_per_character(passages: list[Passage], encoder: Encoder) -> float:
    """The encoder's content tokens per character of the corpus, estimated from its passages (Horvitz and Thompson)."""
    counts = encoder.count_tokens([passage.text for passage in passages]) if passages else np.zeros(0, np.int64)
    characters = sum(len(passage.text) * passage.stands_for for passage in passages)
    tokens = sum(float(count) * passage.stands_for for count, passage in zip(counts, passages, strict=True))
    return tokens / characters if characters else 0.0


def _sample(passages: list[Passage], amounts: Amounts, ratio: float, capacity: int, size: int) -> Sample:
    limit = capacity / ratio if ratio else np.inf
    return Sample(
        short=[passage.text for passage in passages if passage.characters <= limit],
        long=[passage.text for passage in passages if passage.characters > limit],
        unit=amounts.unit,
        longest=amounts.longest,
        segment_characters=max(1, round(min(size, capacity) * WINDOW_FILL / ratio)) if ratio else 1,
    )


def _amounts(found: Scan, survey: Survey, ratio: float, capacity: int, read: int) -> Amounts:
    lengths, counts = _lengths(found)
    characters = lengths * counts
    fits = lengths * ratio <= capacity
    short = float(characters[fits].sum() / characters.sum()) if len(characters) else 0.0
    tokens = np.minimum(read, short * found.characters * ratio)
    return Amounts(
        characters_short=short * found.characters,
        characters_long=(1 - short) * found.characters,
        tokens_short=float(tokens),
        tokens_long=float(read - tokens),
        longest=found.longest,
        unit=survey.largest_unit,
        pair=survey.largest_pair,
    )


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
