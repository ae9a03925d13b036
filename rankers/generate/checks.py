"""What every option of an answer must be, said before anything is loaded or asked."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any

from unabridged.errors import UsageError
from unabridged.rankers.context.assemble import assemble
from unabridged.rankers.context.contracts import ContextPack

_OWN = frozenset({"question", "hits", "budget", "tokenizer", "sources", "network"})
"""Parameters of :func:`assemble` that an answer fills in itself."""
PACKING = tuple(name for name in inspect.signature(assemble).parameters if name not in _OWN)


def check_question(question: Any) -> None:
    """:class:`UsageError` for what is no text, or has no word."""
    if not isinstance(question, str):
        raise UsageError(f"question is {shown(question)}; expected a text. Give one question, in any words.")
    if not question.strip():
        raise UsageError("The question is empty; expected at least one word.")


def check_whole(name: str, value: Any, unit: str = "") -> None:
    """:class:`UsageError` for what is no whole number from 1; ``unit`` is what it counts."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name}={shown(value)}; expected a positive whole number{unit and f' of {unit}'}.")


def check_temperature(value: Any) -> None:
    """:class:`UsageError` for what is no number from 0."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:
        raise UsageError(
            f"temperature={shown(value)}; expected 0, for the likeliest token each time, or a number above."
        )


def check_word(name: str, value: Any, known: Iterable[str]) -> None:
    """:class:`UsageError` for what is none of the ``known`` words."""
    if not isinstance(value, str) or value not in known:
        found = repr(value) if isinstance(value, str) else shown(value)
        raise UsageError(f"{name}={found} is not one of {', '.join(known)}.")


def check_packing(packing: Any) -> None:
    """:class:`UsageError` for options that :func:`assemble` does not have, or that an answer has itself."""
    if not isinstance(packing, Mapping):
        raise UsageError(f"packing={shown(packing)}; expected a mapping of options such as {{'headings': True}}.")
    for name in packing:
        if name in _OWN:
            raise UsageError(f"packing has {name!r}, which an answer sets itself: give {name} as an option of its own.")
        if name not in PACKING:
            raise UsageError(f"packing has {name!r}, which is no option of assemble. It has {', '.join(PACKING)}.")


def check_hits(hits: Any) -> None:
    """:class:`UsageError` for what is neither a pack nor a series of hits."""
    if isinstance(hits, ContextPack):
        return
    if isinstance(hits, (str, bytes, Mapping)) or not hasattr(hits, "__iter__"):
        raise UsageError(
            f"An answer cannot be found in {shown(hits)}; expected an index or its folder, a context pack, or hits: a "
            "search result, or a list of hits, passages or mappings with doc_id, start and end."
        )


def shown(value: Any) -> str:
    """A value in a message: short, with the name of its type."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
