"""What stands beside each score: coverage, speed, missing queries, per-query values; one JSON file a split."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unabridged.errors import ValidationError
from unabridged.files import write_atomic


@dataclass(frozen=True, slots=True)
class Split:
    """The part of a task that is indexed and searched at once."""

    task: str
    split: str
    subset: str = "default"

    @property
    def file(self) -> str:
        """A path below the folder of the records."""
        parts = (self.task, self.split if self.subset == "default" else f"{self.split}.{self.subset}")
        return "/".join(re.sub(r"[^\w.-]", "_", part) for part in parts) + ".json"


class Records:
    """Facts by split, in memory and, with a folder, in a file that is whole at any moment."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._facts: dict[Split, dict[str, Any]] = {}
        self._sizes: dict[Split, dict[str, int]] = {}

    def of(self, split: Split) -> Mapping[str, Any]:
        """What is known of a split; nothing for one that was never evaluated.

        :class:`ValidationError` for a file that no run can have written.
        """
        if split not in self._facts and self._folder is not None and (path := self._folder / split.file).is_file():
            try:
                self._facts[split] = dict(json.loads(path.read_bytes()))
            except (ValueError, TypeError) as error:
                raise ValidationError(
                    f"{path} is no record of a split ({error}); remove it to evaluate again"
                ) from error
        return self._facts.get(split, {})

    def begin(self, split: Split) -> None:
        """Forgets what an earlier run noted of the split."""
        self._facts[split] = {}
        self._sizes.pop(split, None)

    def hold(self, split: Split, tokens: Mapping[str, int]) -> None:
        """Adds true tokens by document id, in memory alone, until :meth:`take`: only judged documents matter then."""
        self._sizes.setdefault(split, {}).update(tokens)

    def take(self, split: Split) -> Mapping[str, int]:
        """What :meth:`hold` was given of the split, which is forgotten here."""
        return self._sizes.pop(split, {})

    def note(self, split: Split, **facts: Any) -> None:
        """Sets facts and writes the file."""
        self._facts.setdefault(split, {}).update(facts)
        self._write(split)

    def count(self, split: Split, **numbers: float) -> None:
        """Adds to numbers and writes the file: a corpus may come in several parts."""
        facts = self._facts.setdefault(split, {})
        for name, number in numbers.items():
            facts[name] = facts.get(name, 0) + number
        self._write(split)

    def _write(self, split: Split) -> None:
        if self._folder is not None:
            path = self._folder / split.file
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps(self._facts[split], sort_keys=True).encode())
