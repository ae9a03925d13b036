"""One encoder and one way to read, tried on synthetic sets: accuracy, speed, and positions that change nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unabridged.contracts import JSON, Encoded, Encoder, Floats, Level, OverflowPolicy
from unabridged.encoders.load import load_encoder
from unabridged.errors import UsageError
from unabridged.eval.reach import accuracy_by_depth, change, credits_at_1, dead_share, usable_length
from unabridged.eval.synth.passkey import passkey
from unabridged.eval.synth.records import SynthSet

PLAIN: Mapping[str, tuple[Level, OverflowPolicy]] = {
    "truncate": (Level.DOC, OverflowPolicy.TRUNCATE),
    "split": (Level.SEGMENT, OverflowPolicy.SPLIT),
    "aggregate": (Level.DOC, OverflowPolicy.AGGREGATE),
}
"""Ways to read with the model as it is: the first window, the best of all windows, the mean of all windows."""
EXTENSIONS = ("pcw", "gp", "rp", "pi", "ntk", "selfextend")
PARAMETERS: Mapping[str, type] = {
    "temperature": float,
    "logn": str,
    "original_tokens": int,
    "target_tokens": int,
    "group": int,
    "neighbours": int,
    "base_factor": float,
    "max_tokens": int,
    "overlap": int,
}
"""What may follow a method's name, as in ``pi+temperature=0.8``."""
OCCLUDED_WORDS = 8
_COVER = "river stone paper green music winter bridge silver"
QUICK_LENGTHS = (256, 1024, 4096, 16384)
QUICK_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Trial:
    """An encoder and how it reads documents."""

    name: str
    encoder: Encoder
    level: Level
    overflow: OverflowPolicy

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The vectors that this way to read scores documents with."""
        return self.encoder.encode_documents(texts, level=self.level, overflow=self.overflow)


@dataclass(frozen=True, slots=True)
class Cell:
    """One trial on one data set."""

    task: str
    length: int
    accuracy: float
    depth: tuple[float | None, ...]
    """Accuracy by tenth of the document, None where no question's evidence stands."""
    tokens: float
    """Content tokens of a document, mean, by the encoder's tokenizer."""
    read: float
    """Share of all tokens that were read."""
    tokens_per_second: float
    seconds: float


def load_trials(
    encoder: str | None, methods: Sequence[str], target: int, loading: Mapping[str, Any]
) -> tuple[list[Trial], dict[str, str]]:
    """A trial for each method that fits the model, and the reason for each that does not.

    :class:`UsageError` for a name or parameter that no model could take, or if nothing fits.
    """
    found: list[Trial] = []
    refused: dict[str, str] = {}
    for spec in methods:
        method, options = parse(spec)
        settings = {**loading, **options}
        if method in EXTENSIONS:
            settings = {"target_tokens": target, **settings, "extend": method}
        try:
            chosen = load_encoder(encoder, **settings)
        except UsageError as error:
            refused[spec] = str(error)
            continue
        level, overflow = PLAIN.get(method, PLAIN["truncate"])
        found.append(Trial(spec, chosen, level, overflow))
    if not found:
        raise UsageError("None of the methods can be used: " + " ".join(f"{k}: {v}" for k, v in refused.items()))
    return found, refused


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """``method+name=value+...`` as the method and its parameters; :class:`UsageError` for what is neither."""
    method, *pairs = spec.split("+")
    if method not in PLAIN and method not in EXTENSIONS:
        raise UsageError(f"Unknown method {method!r}; choose from {', '.join([*PLAIN, *EXTENSIONS])}.")
    options: dict[str, Any] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name not in PARAMETERS:
            raise UsageError(f"Unknown parameter {name!r} in {spec!r}; there are {', '.join(PARAMETERS)}.")
        try:
            options[name] = PARAMETERS[name](value)
        except ValueError:
            raise UsageError(f"{name} in {spec!r} must be {PARAMETERS[name].__name__}, got {value!r}.") from None
    return method, options


def measure(trial: Trial, made: SynthSet) -> Cell:
    """Accuracy@1 of one data set; a document scores with its vector, or with the best of its segments."""
    start = time.perf_counter()
    encoded = trial.encode(made.texts)
    seconds = time.perf_counter() - start
    scores = document_scores(trial.encoder.encode_queries(made.questions), encoded)
    gained = credits_at_1(scores, made.relevant_rows)
    depth, _ = accuracy_by_depth(gained, made.depths)
    total, seen = int(encoded.coverage.total.sum()), int(encoded.coverage.seen.sum())
    return Cell(
        task=made.task,
        length=made.length,
        accuracy=float(gained.mean()),
        depth=tuple(None if np.isnan(value) else float(value) for value in depth),
        tokens=total / len(made.documents),
        read=seen / max(total, 1),
        tokens_per_second=seen / max(seconds, 1e-9),
        seconds=seconds,
    )


def document_scores(queries: Floats, encoded: Encoded) -> Floats:
    """``(Q, N)`` float32: products with document vectors, or the largest product with a segment; -1 without any."""
    if encoded.documents is not None:
        return queries @ encoded.documents.T
    if encoded.segments is None:
        raise UsageError("The documents have no vectors at all.")
    offsets = encoded.offsets
    scores = np.full((len(queries), len(offsets) - 1), -1.0, dtype=np.float32)
    held = np.flatnonzero(np.diff(offsets) > 0)
    if len(held):
        scores[:, held] = np.maximum.reduceat(queries @ encoded.segments.T, offsets[held], axis=1)
    return scores


def occluded(encoder: Encoder, text: str, positions: int) -> tuple[list[str], list[float]]:
    """``text`` with a span of words replaced at each of ``positions`` places, and their depths 0 to 1.

    Replacements are other words of as many tokens, so that what follows keeps its position.
    """
    words = text.split(" ")
    span = min(OCCLUDED_WORDS, len(words))
    starts = np.linspace(0, len(words) - span, positions).astype(int).tolist()
    cover = _COVER.split()
    spans = [" ".join(words[start : start + span]) for start in starts]
    sizes = encoder.count_tokens(spans).tolist()
    whole = int(encoder.count_tokens([text])[0])

    def covered(start: int, size: int) -> str:
        fill = [cover[at % len(cover)] for at in range(max(1, size))]
        return " ".join([*words[:start], *fill, *words[start + span :]])

    first = [covered(start, size) for start, size in zip(starts, sizes, strict=True)]
    excess = (encoder.count_tokens(first) - whole).tolist()
    texts = [covered(start, size - more) for start, size, more in zip(starts, sizes, excess, strict=True)]
    return texts, [start / max(len(words) - span, 1) for start in starts]


def dead_zone(trial: Trial, text: str, positions: int) -> dict[str, JSON]:
    """How far the document's vector moves when the words at each depth are others; see :func:`eval.reach.change`."""
    texts, depths = occluded(trial.encoder, text, positions)
    before = _vectors(trial.encode([text]))
    moves = [change(before, _vectors(trial.encode([other]))) for other in texts]
    distances = np.array([cosine for _, cosine in moves])
    return {
        "depth": depths,
        "max_abs": [largest for largest, _ in moves],
        "cosine_distance": distances.tolist(),
        "dead_share": dead_share(distances),
        "tokens": int(trial.encoder.count_tokens([text])[0]),
    }


def quick_reach(
    encoder: Encoder, *, documents: int = 10, seconds: float = QUICK_SECONDS, target: int | None = None
) -> tuple[int | None, int]:
    """Usable length by passkey in nominal tokens, or None, and the longest length that was tried.

    Lengths grow fourfold up to ``target`` (the encoder's window); one that would take longer than what is left of
    ``seconds`` is not tried, so a slow machine measures less far.  With few documents an accuracy is a rough one.
    """
    trial = Trial("as built", encoder, *PLAIN["truncate"])
    limit = encoder.window if target is None else target
    lengths = [length for length in QUICK_LENGTHS if length <= limit] or [QUICK_LENGTHS[0]]
    found: dict[int, float] = {}
    trial.encode(["A first text loads the model."])
    left, cost = seconds, 0.0
    for length in lengths:
        # Four times the tokens, and attention grows with their square.
        if found and cost * 6 > left:
            break
        start = time.perf_counter()
        made = passkey(length, documents=documents, queries=documents)
        found[length] = measure(trial, made).accuracy
        cost = time.perf_counter() - start
        left -= cost
    return usable_length(found), max(found)


def reach_of(encoder: Encoder) -> str:
    """One line for people: the usable length that :func:`quick_reach` finds, and how far it tried."""
    usable, tried = quick_reach(encoder)
    found = "none was found" if usable is None else f"{usable:,}"
    return (
        f"usable length, in a quick passkey test up to {tried:,} tokens: {found} (unabridged advise measures it well)"
    )


def _vectors(encoded: Encoded) -> Floats:
    vectors = encoded.documents if encoded.documents is not None else encoded.segments
    if vectors is None:
        raise UsageError("The document has no vector.")
    return vectors
