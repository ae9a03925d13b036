"""Filters on metadata: which documents may be found.

A filter is a mapping from field to a wanted value, a list of wanted values, or a function of the value; all
fields must match.  A field that holds a list matches when one of its elements does.  ``id`` filters on the
document id.  A field that a document lacks matches only None.
Values of a field are read once per opened index and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from unabridged.contracts import Mask
from unabridged.index.shard import Shard

Filter: TypeAlias = Mapping[str, Any]


class MetadataColumns:
    """The values of metadata fields over all shards, loaded at first use."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._columns: dict[str, list[Any]] = {}

    def column(self, field: str) -> list[Any]:
        """The value of ``field`` for every document row (None where it is absent)."""
        if field not in self._columns:
            self._columns[field] = self._read(field)
        return self._columns[field]

    def _read(self, field: str) -> list[Any]:
        import orjson

        values: list[Any] = []
        for shard in self._shards:
            rows = range(len(shard.array("keys")))
            if field == "id":
                values.extend(shard.id(row) for row in rows)
            else:
                values.extend(orjson.loads(shard.metadata(row)).get(field) for row in rows)
        return values

    def mask(self, wanted: Filter) -> Mask:
        """Which rows match every condition, (N,) bool."""
        rows = sum(len(shard.array("keys")) for shard in self._shards)
        mask = np.ones(rows, bool)
        for field, condition in wanted.items():
            matches = _matcher(condition)
            mask &= np.fromiter((matches(value) for value in self.column(field)), bool, rows)
        return mask


def _matcher(condition: Any) -> Callable[[Any], bool]:
    if callable(condition):
        return lambda value: bool(condition(value))
    if isinstance(condition, (list, tuple, set, frozenset)):
        wanted = list(condition)
        return lambda value: value in wanted or (isinstance(value, list) and any(one in wanted for one in value))
    return lambda value: bool(value == condition) or (isinstance(value, list) and condition in value)
