"""A context extension with every number settled: what backends compute with, one sequence at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum

import numpy as np

from unabridged.contracts import JSON
from unabridged.encoders import positions
from unabridged.encoders.methods import LogN, Method, Weighting
from unabridged.encoders.positions import Places


@dataclass(frozen=True, slots=True)
class Plan:
    """An extension with every number settled: what backends compute with and what the passport records.

    ``method`` None with ``original`` 0 is no extension; temperature and log-n may still differ from nothing.
    """

    method: Method | None
    original: int
    """Lo."""
    target: int
    """Lt."""
    scale: int = 1
    """s."""
    dynamic: bool = False
    group: int = 1
    neighbours: int = 0
    base_factor: float = 1.0
    long_only: bool = False
    logn: LogN = LogN.OFF
    temperature: float = 1.0
    pcw_weights: Weighting = Weighting.UNIFORM
    pcw_normalize: bool = False
    rows_per_position: int = 1
    """Absolute positions: rows that the folder's matrix has for each trained position; s where they were tuned."""

    def changed(self, **values: JSON) -> Plan:
        """The same with some fields replaced."""
        return replace(self, **values)

    @property
    def is_none(self) -> bool:
        """Whether the model computes as it always did."""
        return self.method is None and not self.changes_model

    @property
    def changes_model(self) -> bool:
        """Whether a forward pass differs; PCW alone is a matter of windows and their mean."""
        return self.changes_attention or self.changes_positions or self.method in (Method.NTK, Method.SELFEXTEND)

    @property
    def changes_attention(self) -> bool:
        """Whether queries are scaled."""
        return self.logn is not LogN.OFF or self.temperature != 1.0

    @property
    def changes_positions(self) -> bool:
        """Whether some tokens take another row of a position matrix, or another whole angle."""
        return self.rows_per_position != 1 or self.method in (Method.GP, Method.RP, Method.PI)

    def is_long(self, length: int) -> bool:
        """Whether a sequence of ``length`` tokens is beyond the trained length."""
        return length > self.original

    def places(self, length: int) -> Places:
        """The position of each token, ``(L,)`` float64, in units of trained positions.

        SelfExtend and NTK keep ordinary positions here; what they change is in :meth:`neighbourhood` and
        :meth:`base`.
        """
        if self.method is Method.GP:
            return positions.grouped(length, self.original)
        if self.method is Method.RP:
            return positions.recurrent(length, self.original)
        if self.method is Method.PI:
            scale = positions.ratio(length, self.original) if self.dynamic else self.scale
            return positions.interpolated(length, self.original, scale)
        return positions.plain(length)

    def rows(self, length: int) -> Places:
        """Absolute positions: the matrix row of each token, ``(L,)`` float64, a fraction between two rows.

        Without the rows that belong to padding.  Positions beyond the last trained one take its row; where rows
        were tuned they take the last row.
        """
        places = self.places(length)
        if self.method is None or self.method is Method.PCW:
            return places * self.rows_per_position
        # 1/3 of a position times 3 rows is one row, also where the product is not exact.
        rows = places * self.rows_per_position
        whole = np.rint(rows)
        rows = np.where(np.abs(rows - whole) < 1e-6, whole, rows)
        return np.minimum(rows, self.original * self.rows_per_position - 1)

    def base(self, length: int) -> float:
        """What the rotary base is multiplied by for a sequence of ``length`` tokens."""
        if self.method is not Method.NTK or (self.long_only and not self.is_long(length)):
            return 1.0
        return self.base_factor

    def neighbourhood(self, length: int) -> tuple[int, int] | None:
        """SelfExtend's ``(g, w)`` for a sequence of ``length`` tokens; None where attention is the ordinary one."""
        if self.method is not Method.SELFEXTEND or not self.is_long(length):
            return None
        return self.group, self.neighbours

    def query_factor(self, length: int) -> float | Places:
        """What queries are multiplied by: log-n over temperature; a number, or ``(L,)`` under ``per_position``."""
        if self.logn is LogN.PER_SEQUENCE:
            return positions.log_scale(length, self.original) / self.temperature
        if self.logn is LogN.PER_POSITION:
            return positions.log_scales(length, self.original) / self.temperature
        return 1.0 / self.temperature

    def factors(self, lengths: np.ndarray) -> Places:
        """:meth:`query_factor` of several sequences, ``(B,)``; for ``off`` and ``per_sequence``."""
        return np.array([self.query_factor(int(length)) for length in lengths], dtype=np.float64)

    @property
    def facts(self) -> Mapping[str, JSON]:
        """All that changes a vector, as JSON, for the passport."""
        return {name: value.value if isinstance(value, Enum) else value for name, value in asdict(self).items()}


NO_PLAN = Plan(None, 0, 0)
"""The model as it is."""
