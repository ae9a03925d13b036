"""What indexing was measured to take, as values that travel between processes and into a plan."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds by the clock, and of all processors together."""

    wall: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall + other.wall, self.cpu + other.cpu)

    def times(self, factor: float) -> Spent:
        """This, so many times."""
        return Spent(self.wall * factor, self.cpu * factor)

    @classmethod
    def now(cls) -> Spent:
        """A point to count from."""
        return cls(time.perf_counter(), time.process_time())

    @property
    def ago(self) -> Spent:
        """What was spent since this point."""
        now = Spent.now()
        return Spent(now.wall - self.wall, now.cpu - self.cpu)


@dataclass(frozen=True, slots=True)
class Kind:
    """What documents of one kind take; a rate of None: there are no such documents."""

    per_token: Spent | None = None
    """Encoding, of a content token."""
    per_character: Spent | None = None
    """All other work, of a character: keys, shards, BM25."""
    disk_per_character: float = 0.0
    """Bytes beside the vectors."""
    tokens_tried: int = 0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Kind:
        """What :meth:`Calibration.as_json` has of it."""
        spent = {
            name: None if values[name] is None else Spent(**values[name]) for name in ("per_token", "per_character")
        }
        return cls(**{**values, **spent})


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured.  Seconds, bytes, characters."""

    start: Spent
    """From the start of the program to the first vector."""
    fixed: Spent
    """An index over one short document, beside its encoding."""
    fixed_disk: int
    short: Kind
    """Documents that fit a window."""
    long: Kind
    ram_base: int
    """The program with the model, between units."""
    ram_work: int
    """Passing sequences through the model."""
    ram_per_character: float
    """Tokens of a unit that are held until its vectors are there."""
    device: str
    threads: int
    load: float | None
    """Programs that wanted a processor in the last minute, before this one; None where the system does not say."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibration:
        """What :meth:`as_json` gave."""
        kinds = {name: Kind.from_json(values[name]) for name in ("short", "long")}
        spent = {name: Spent(**values[name]) for name in ("start", "fixed")}
        return cls(**{**values, **kinds, **spent})


@dataclass(frozen=True, slots=True)
class Sample:
    """What a corpus gives to try: whole short documents, passages of long ones, and the shape of its largest unit."""

    short: Sequence[str]
    long: Sequence[str]
    unit: int
    """Characters of the largest unit."""
    longest: int
    """Characters of the longest document."""
    segment_characters: int
    """About what a window holds."""
