"""Where the answers stand in a made LongEmbed folder: ``evidence.jsonl`` beside its data, for scores by depth.

One line a query: ``{qid, doc_id, context_length, start, end, characters}``, half-open characters of the document's text
and how many it has.  The loader of the data does not read it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from unabridged.contracts import JSON
from unabridged.errors import CorpusError
from unabridged.eval.evidence import EVIDENCE
from unabridged.eval.synth.records import SynthSet

Depths: TypeAlias = Mapping[str, Mapping[tuple[str, str], float]]
"""Split -> query id and document id -> share of the document before the evidence, 0 to 1."""


def evidence_rows(sets: Sequence[SynthSet]) -> Iterator[dict[str, JSON]]:
    """A row for each query of the generated ``sets``."""
    for one in sets:
        for (query, _), row in zip(one.queries, one.relevant, strict=True):
            document, record = one.documents[row], one.records[row]
            yield {
                "qid": query,
                "doc_id": document.id,
                "context_length": one.length,
                "start": record.start,
                "end": record.end,
                "characters": len(document.text),
            }


def depths_in(folder: Path) -> Depths:
    """The depths that the ``evidence.jsonl`` of a made folder knows; nothing without the file.

    :class:`CorpusError` for a line that is no evidence, with its number.
    """
    path = folder / EVIDENCE
    if not path.is_file():
        return {}
    found: dict[str, dict[tuple[str, str], float]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            row = json.loads(line)
            split, pair = f"test_{int(row['context_length'])}", (str(row["qid"]), str(row["doc_id"]))
            start, end, size = (int(row[name]) for name in ("start", "end", "characters"))
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(
                f"{path}:{number} is no evidence ({type(error).__name__} {error}); expected qid, doc_id, "
                "context_length, start, end and characters. Make it again with: unabridged eval longembed-data."
            ) from error
        if not 0 <= start < end <= size:
            raise CorpusError(f"{path}:{number}: expected 0 <= start < end <= characters, got {start}, {end}, {size}.")
        found.setdefault(split, {})[pair] = start / size
    return found
