"""Hits of every shape, as offers: which characters of which document, what they are said to be, how good they are."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from unabridged.errors import UsageError, ValidationError

_SHAPES = (
    "a hit of a search, a passage, a pair of a passage and its score, or a mapping with doc_id, and start and end "
    "unless it is the whole document"
)


@dataclass(frozen=True, slots=True)
class Offer:
    """One hit."""

    hit: int
    """Its place in the list, from 0."""
    doc_id: str
    start: int
    end: int | None
    """None: to the end of the source."""
    text: str | None
    """What is said to stand there; None where nothing is said."""
    score: float | None
    recorded: str | None
    """The SHA-256 that is recorded of the whole source; None where none is."""


def offers(hits: Iterable[Any]) -> list[Offer]:
    """All hits in their order.

    Raises:
        UsageError: something that is no hit, or a span that ends before it begins.
        ValidationError: a score that is not a number.
    """
    if isinstance(hits, (str, bytes, Mapping)) or not hasattr(hits, "__iter__"):
        raise UsageError(f"hits are a search result or a list, got one {type(hits).__name__}. Each is {_SHAPES}.")
    return [_offer(place, hit) for place, hit in enumerate(hits)]


def best_first(offered: Iterable[Offer]) -> list[Offer]:
    """By falling score; equals, and those without a score, which come last, keep their order."""
    return sorted(offered, key=lambda one: (one.score is None, 0.0 if one.score is None else -one.score))


def _offer(place: int, hit: Any) -> Offer:
    where = f"hit {place + 1}"
    score: Any = None
    if isinstance(hit, tuple) and len(hit) == 2 and not isinstance(hit[0], str):
        hit, score = hit
        fields = {**_fields(hit, where), "score": score}
    else:
        fields = _fields(hit, where)
    doc_id = fields.get("doc_id")
    if not isinstance(doc_id, str):
        raise UsageError(f"{where} has no doc_id that is a string ({doc_id!r}). A hit is {_SHAPES}.")
    text = fields.get("text")
    if text is not None and not isinstance(text, str):
        raise UsageError(f"{where} of {doc_id!r} has a text that is {type(text).__name__}; leave it out or give a str.")
    start, end = _whole(fields.get("start"), where), _whole(fields.get("end"), where)
    if (start is None) != (end is None) or (end is not None and not 0 <= (start or 0) <= end):
        raise UsageError(f"{where} of {doc_id!r} is [{start}, {end}), which is no span of characters.")
    recorded = fields.get("sha256")
    if recorded is not None and not isinstance(recorded, str):
        raise UsageError(
            f"{where} of {doc_id!r} has {recorded!r} as its sha256; expected 64 hexadecimal digits, or None."
        )
    return Offer(place, doc_id, start or 0, end, text, _score(fields.get("score"), where), recorded or None)


def _fields(hit: Any, where: str) -> dict[str, Any]:
    names = ("doc_id", "start", "end", "text", "score", "sha256")
    if isinstance(hit, Mapping):
        own = {name: hit[name] for name in names if name in hit}
        span = hit.get("span")
        return {**own, **{name: span[name] for name in names[1:4] if name in span}} if span is not None else own
    if not hasattr(hit, "doc_id"):
        raise UsageError(f"{where} is {type(hit).__name__}; expected {_SHAPES}.")
    own = {name: getattr(hit, name) for name in names if hasattr(hit, name)}
    span = getattr(hit, "span", None)
    return own if span is None else {**own, "start": span.start, "end": span.end, "text": span.text}


def _whole(value: Any, where: str) -> int | None:
    if value is None:
        return None
    try:
        return operator.index(value)
    except TypeError as error:
        raise UsageError(f"{where} has {value!r} as a bound of its span, which is no whole number.") from error


def _score(value: Any, where: str) -> float | None:
    if value is None:
        return None
    try:
        score = float(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where} has {value!r} as its score, which is no number.") from error
    if math.isnan(score):
        raise ValidationError(f"{where} has a score that is not a number. A hit without a score has None.")
    return score
