"""Characters of a passkey set, and those of the published one."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import orjson

from unabridged.eval.synth.records import SynthSet

PUBLISHED_EDGES = {256: 8, 512: 3, 1024: 2, 2048: 3, 4096: 0, 8192: 0, 16384: 0, 32768: 0}
"""Needles at the start or end of a document, by length: what the published totals exceed the formula by."""
_TABLE = {
    256: (866, 890, 87_524),
    512: (1_776, 1_800, 178_519),
    1024: (3_598, 3_622, 360_718),
    2048: (7_233, 7_257, 724_219),
    4096: (14_509, 14_533, 1_451_816),
    8192: (29_062, 29_086, 2_907_116),
    16384: (58_165, 58_189, 5_817_416),
    32768: (116_371, 116_395, 11_638_016),
}
"""Least, most and all characters of 100 documents (mteb, LEMBPasskeyRetrieval)."""


@dataclass(frozen=True, slots=True)
class Characters:
    """Sizes of the documents of one length, and how many documents and questions there are."""

    least: int
    most: int
    total: int
    documents: int
    queries: int

    @property
    def mean(self) -> float:
        """Characters of a document."""
        return self.total / self.documents


def characters(made: SynthSet) -> Characters:
    """Those of a set that was made."""
    sizes = [len(text) for text in made.texts]
    return Characters(min(sizes), max(sizes), sum(sizes), len(sizes), len(made.queries))


def published(length: int) -> Characters | None:
    """Those of the published passkey set, as an installed mteb describes it, else by our table; None of other lengths.

    mteb is looked for and not imported.
    """
    if length not in _TABLE:
        return None
    spec = importlib.util.find_spec("mteb")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "descriptive_stats" / "Retrieval" / "LEMBPasskeyRetrieval.json"
        if path.is_file():
            found = orjson.loads(path.read_bytes())[f"test_{length}"]
            sizes = found["documents_text_statistics"]
            least, most, total = (sizes[f"{name}_text_length"] for name in ("min", "max", "total"))
            return Characters(least, most, total, found["num_documents"], found["num_queries"])
    return Characters(*_TABLE[length], 100, 50)
