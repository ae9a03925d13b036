"""An index folder whose dense candidates come from an engine."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from unabridged.contracts import JSON
from unabridged.index.backends import SearchBackend, connect
from unabridged.index.backends.conditions import conditions_of
from unabridged.index.backends.contract import VectorSet
from unabridged.index.dense import ExactVectors
from unabridged.retrievers.backends.load import check_content
from unabridged.retrievers.backends.rows import EngineRows, stored_vectors
from unabridged.retrievers.backends.vectors import EngineVectors, Usage
from unabridged.retrievers.dense import kept_sets
from unabridged.retrievers.dense_stage import DenseStage
from unabridged.retrievers.filters import Filter
from unabridged.retrievers.opened import Index


class BackendIndex(Index):
    """As :class:`Index`, with an engine in place of the folder's own dense structures.

    Results are those of the folder: the same hits, spans and scores, since every candidate is scored again with the
    stored vectors; only which candidates there are is the engine's.  Words are searched in the folder.

    Raises:
        BackendUnreachable: the engine does not answer.
        PassportMismatch: it holds vectors of another encoder.
        BackendMismatch: it holds another state of the index, or a load that is not finished.
    """

    def __init__(self, folder: str | Path, backend: str | SearchBackend, **options: Any) -> None:
        super().__init__(folder, **options)
        self.backend = connect(backend) if isinstance(backend, str) else backend
        self.usage = Usage()
        self._exact: dict[str, ExactVectors] = {}
        try:
            recorded = check_content(self.backend.recorded(), self.state, self.backend.shown, self.folder)
            self._engine_rows = EngineRows.of(self, self.backend, recorded)
        except BaseException:
            self.backend.close()
            raise

    def close(self) -> None:
        """Closes the connection, and then as an index."""
        self.backend.close()
        self._exact.clear()
        super().close()

    @cached_property
    def dense(self) -> DenseStage:
        """Search by vector without a filter."""
        return self._stage(None)

    def _stage(self, wanted: Filter | None) -> DenseStage:
        conditions, whole = conditions_of(wanted)
        kept = kept_sets(self.state)

        def vectors(which: VectorSet) -> EngineVectors | None:
            if which not in kept:
                return None
            exact = self._stored(which)
            return EngineVectors(which, exact, self.backend, self._engine_rows, self.usage, conditions, whole)

        return DenseStage(self.rows, vectors("segments"), vectors("documents"), self.scoring)

    def _stored(self, which: VectorSet) -> ExactVectors:
        if which not in self._exact:
            self._exact[which] = stored_vectors(self, which)
        return self._exact[which]

    def applied(self) -> dict[str, JSON]:
        """What the engine did since this index was opened, beside what it was asked for."""
        return {"backend": self.backend.name, "address": self.backend.shown, **self.usage.as_json()}
