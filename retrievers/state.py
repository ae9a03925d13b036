"""What the manifest of an index says, as a value: settings, encoder, shards, deletions, dense structures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unabridged.contracts import Mask, Passport
from unabridged.index.npy import map_array
from unabridged.index.shard import Shard
from unabridged.retrievers.settings import BuildSettings

SETS = ("segments", "documents")
"""The two sets of vectors an index can have."""


@dataclass(frozen=True, slots=True)
class IndexState:
    """The content of a manifest.

    ``shard_entries`` has name, counts and files of each shard; ``deleted`` is the file of deleted rows or
    None; ``dense`` maps a vector set to its approximate base (folder, shards covered, facts, files, measured
    recall) or to nothing where search is exact.
    """

    settings: BuildSettings
    passport: Passport
    generation: int = 0
    shard_entries: tuple[Mapping[str, Any], ...] = ()
    deleted: Mapping[str, Any] | None = None
    dense: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def empty(cls, settings: BuildSettings, passport: Passport) -> IndexState:
        """The state before the first commit."""
        return cls(settings, passport)

    @classmethod
    def from_manifest(cls, body: Mapping[str, Any]) -> IndexState:
        """The state a manifest describes."""
        return cls(
            BuildSettings.from_json(body["settings"]),
            Passport(**body["encoder"]),
            body["generation"],
            tuple(body["shards"]),
            body["deleted"],
            body["dense"],
            body["versions"],
        )

    def as_manifest(self) -> dict[str, Any]:
        """The body of the manifest."""
        passport = self.passport
        return {
            "settings": self.settings.as_json(),
            "encoder": {
                "source": passport.source,
                "dim": passport.dim,
                "facts": dict(passport.facts),
                "fingerprint": passport.fingerprint,
            },
            "generation": self.generation,
            "shards": [dict(entry) for entry in self.shard_entries],
            "deleted": self.deleted,
            "dense": {name: dict(base) for name, base in self.dense.items()},
            "versions": dict(self.versions),
            "counts": self.summary(),
        }

    def content(self) -> dict[str, Any]:
        """What makes two states the same index: everything but its age and the versions that wrote it."""
        body = self.as_manifest()
        return {name: value for name, value in body.items() if name not in ("generation", "versions")}

    @property
    def rows(self) -> int:
        """Documents in all shards, deleted ones included."""
        return sum(int(entry["documents"]) for entry in self.shard_entries)

    @property
    def segment_rows(self) -> int:
        """Segments in all shards, those of deleted documents included."""
        return sum(int(entry["segments"]) for entry in self.shard_entries)

    def shards(self, folder: Path) -> list[Shard]:
        """The shards, opened lazily."""
        return [Shard(folder / "shards" / entry["name"]) for entry in self.shard_entries]

    def alive(self, folder: Path) -> Mask:
        """Which rows are not deleted, (rows,) bool."""
        alive = np.ones(self.rows, bool)
        if self.deleted is not None:
            alive[np.asarray(map_array(folder / self.deleted["file"]))] = False
        return alive

    def files(self) -> dict[str, Mapping[str, Any]]:
        """Every file of the index below its folder, with size and SHA-256."""
        found: dict[str, Mapping[str, Any]] = {}
        for entry in self.shard_entries:
            found.update({f"shards/{entry['name']}/{name}": facts for name, facts in entry["files"].items()})
        for base in self.dense.values():
            found.update({f"{base['folder']}/{name}": facts for name, facts in base["files"].items()})
        if self.deleted is not None:
            found[self.deleted["file"]] = self.deleted
        return found

    def summary(self) -> dict[str, Any]:
        """Counts over living documents, and what answers dense queries."""
        gone = self.deleted or {"documents": 0, "segments": 0, "tokens_total": 0, "tokens_seen": 0, "truncated": 0}

        def total(name: str) -> int:
            return sum(int(entry.get(name, 0)) for entry in self.shard_entries) - int(gone.get(name, 0))

        documents, segments, level = total("documents"), total("segments"), self.settings.level
        base = next((self.dense[name] for name in SETS if name in self.dense), None)
        return {
            "documents": documents,
            "segments": segments,
            "tokens_total": total("tokens_total"),
            "tokens_seen": total("tokens_seen"),
            "truncated": total("truncated"),
            "empty": total("empty"),
            **{name: count for name in ("left_out", "tokens_left_out") if (count := total(name))},
            "deleted": int(gone["documents"]),
            "vectors": segments * level.has_segments + documents * level.has_documents,
            "index": {
                "recipe": "flat" if base is None else base["facts"]["factory"],
                "recall_at_10": 1.0 if base is None else base["recall_at_10"],
            },
        }
