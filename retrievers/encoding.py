"""Who encodes the units of a build: this process, or others ahead of it.

The build itself is one: it forms units, asks for them in order, and stores what comes.  With others at work it asks
for some units before it needs the first (``ahead``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from unabridged.contracts import Encoded, Failure
from unabridged.index.shard import Record
from unabridged.retrievers.units import Encode, encode_unit

Done = tuple[list[Record], Encoded | None, list[Failure]]
"""The records of a unit that were encoded with their result (None: of none), and a failure for each of the others."""


class Encoding(Protocol):
    """Encodes units; a unit is the same if its texts are, in the same order."""

    @property
    def ahead(self) -> int:
        """Units that may be wanted before the first of them is taken."""

    def want(self, records: Sequence[Record]) -> None:
        """Says that a unit will be taken; the work on it may begin."""

    def take(self, records: Sequence[Record], where: Callable[[Record], str]) -> Done:
        """The unit, encoded; ``where`` names the place of a document, for a failure."""

    def stored(self, records: Sequence[Record]) -> None:
        """Says that what :meth:`take` gave is durable in the index: nobody else has to keep it."""

    def close(self) -> None:
        """Ends what was started for it."""


@dataclass(frozen=True, slots=True)
class Here:
    """The encoder of this process, a unit at a time."""

    encode: Encode

    @property
    def ahead(self) -> int:
        """None: nobody else would work on it."""
        return 0

    def want(self, records: Sequence[Record]) -> None:
        """Nothing: the work is done when it is taken."""

    def take(self, records: Sequence[Record], where: Callable[[Record], str]) -> Done:
        """One encoder pass, see :func:`~unabridged.retrievers.units.encode_unit`."""
        return encode_unit(records, self.encode, where)

    def stored(self, records: Sequence[Record]) -> None:
        """Nothing: there is no other copy."""

    def close(self) -> None:
        """Nothing was started."""
