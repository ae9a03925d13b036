"""What generators make, as folders: BEIR files with evidence, or samples as JSON lines; each with its record."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from unabridged.contracts import JSON
from unabridged.corpora import ListCorpus, Query
from unabridged.errors import CorpusError, MissingFile
from unabridged.eval._set import RetrievalSet, WholeCorpus, assembled, facts
from unabridged.eval.evidence import Evidence, whole_folder, write_record, write_set
from unabridged.eval.synth.records import SynthSet
from unabridged.eval.synth.sentences import VERSION, Sample
from unabridged.files import write_atomic

SAMPLES = "samples.jsonl"


def as_set(made: SynthSet) -> RetrievalSet:
    """The retrieval set of what was made."""
    queries = [Query(name, text) for name, text in made.queries]
    return assembled(f"{made.task}_{made.length}", WholeCorpus(ListCorpus(made.documents)), queries, made.qrels)


def evidence_of(made: SynthSet) -> list[Evidence]:
    """Where the line stands that answers each question."""
    records = (made.records[row] for row in made.relevant)
    return [
        Evidence(query, record.doc_id, record.start, record.end)
        for (query, _), record in zip(made.queries, records, strict=True)
    ]


def write_synth(
    folder: str | os.PathLike[str], made: SynthSet, tokens: Sequence[int] | None = None, tokenizer: str = ""
) -> dict[str, JSON]:
    """Writes BEIR files, evidence and the record, which is returned; ``tokens`` (N,) are true counts by ``tokenizer``.

    Raises as :func:`unabridged.eval.evidence.write_set`.
    """
    whole = as_set(made)
    record = made.as_json(tokens, tokenizer) | {"revision": facts(whole).revision}
    write_set(folder, whole, evidence_of(made), record)
    return record


def write_samples(
    folder: str | os.PathLike[str], samples: Sequence[Sample], length: int, record: Mapping[str, JSON]
) -> dict[str, JSON]:
    """Writes one JSON line per sample, and the record with what ``record`` adds to it, which is returned.

    :class:`UsageError` when the folder exists and is not empty, :class:`DiskFull` when there is no room.
    """
    lines = [orjson.dumps(one.as_json(), option=orjson.OPT_APPEND_NEWLINE) for one in samples]
    whole = {
        "task": samples[0].task,
        "length": length,
        "version": VERSION,
        "samples": len(samples),
        "parameters": {name: value for name, value in samples[0].parameters.items() if name != "sentences"},
        "sentences": [len(one.sentences) for one in samples],
        "words": [len(one.text.split()) for one in samples],
        **record,
    }
    with whole_folder(folder) as part:
        part.mkdir(parents=True)
        write_atomic(part / SAMPLES, b"".join(lines))
        write_record(part, whole)
    return whole


def read_samples(folder: str | os.PathLike[str]) -> list[Sample]:
    """The samples of a folder.

    Raises:
        MissingFile: It has none.
        CorpusError: A line is no sample, with its number.
    """
    path = Path(folder) / SAMPLES
    if not path.is_file():
        raise MissingFile(f"no such file: {path}")
    return [_sample(line, f"{path}:{at}") for at, line in enumerate(path.read_bytes().splitlines(), 1)]


def _sample(line: bytes, where: str) -> Sample:
    try:
        row: dict[str, Any] = orjson.loads(line)
        sample = Sample(
            task=row["task"],
            sentences=tuple(row["sents"]),
            question=row["question"],
            answers=tuple(row["answers"]),
            evidence=tuple(row["evidence"]),
            seed=row["seed"],
            parameters=row["parameters"],
        )
        spans = sample.spans
        if [list(spans[at]) for at in sample.evidence] != row["evidence_spans"]:
            raise ValueError("the evidence does not stand where it says")
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError, ValueError) as error:
        raise CorpusError(f"{where}: expected a sample as eval make-synth writes them: {error}") from error
    return sample
