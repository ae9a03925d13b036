"""Filters that an engine can apply: a field equals one of some values.

The filter of a search (:mod:`unabridged.retrievers.filters`) may hold anything, functions too.  The part of it that
every engine understands is a list of :class:`Condition`: text, numbers, truth values and nothing, no nested values.
A condition matches as there: the value itself, or a list that has it; ``True`` equals 1 as in Python.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Scalar: TypeAlias = str | int | float | bool | None
LARGEST = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Condition:
    """``field`` is, or has in its list, one of ``values``; no value: nothing matches.  ``id`` is the document's id."""

    field: str
    values: tuple[Scalar, ...]


def conditions_of(wanted: Mapping[str, Any] | None) -> tuple[list[Condition], bool]:
    """The portable conditions of a filter, and whether they are all of it."""
    found, whole = [], True
    for field, value in (wanted or {}).items():
        values = list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
        if isinstance(field, str) and not callable(value) and all(_is_portable(one) for one in values):
            found.append(Condition(field, _equals(values)))
        else:
            whole = False
    return found, whole


def _is_portable(value: Any) -> bool:
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, int):
        return abs(value) <= LARGEST
    if isinstance(value, float):
        return math.isfinite(value)
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair: no text of any document has it
        return False
    return True


def _equals(values: list[Scalar]) -> tuple[Scalar, ...]:
    """``values`` with what Python finds equal to them and JSON does not: 1, 1.0 and true."""
    found: dict[tuple[type, Scalar], Scalar] = {}
    for value in values:
        found[type(value), value] = value
        if isinstance(value, bool):
            found[int, int(value)] = int(value)
        elif isinstance(value, (int, float)) and value in (0, 1):
            found[bool, bool(value)] = bool(value)
    return tuple(found.values())
