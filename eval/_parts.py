"""Which files of a Hugging Face folder are the corpus, the queries and the judgements of a split.

File names decide, as they do on the hub (``corpus/test-00000-of-00001.parquet``, ``en-queries/test.jsonl``,
``qrels/test.jsonl``, ``default/test.parquet``, ``queries.jsonl``); the YAML of a README is not read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from unabridged.corpora._folders import bare_suffix
from unabridged.errors import CorpusError

TABLES = (".jsonl", ".ndjson", ".parquet")
PART_WORDS = {"corpus": "corpus", "queries": "queries", "qrels": "qrels", "default": "qrels", "data": "qrels"}
"""Word in a path -> the part it names; the configuration called ``default`` holds judgements."""
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_WORDS = re.compile(r"[-_.]")


def tables(folder: Path, suffixes: Sequence[str] = TABLES) -> list[Path]:
    """The table files below ``folder``, sorted, hidden ones left out."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and bare_suffix(path) in suffixes
        and not any(name.startswith(".") for name in path.relative_to(folder).parts)
    ]


def find(folder: Path, part: str, split: str, subset: str | None) -> list[Path]:
    """The files of one part.

    A corpus or queries that are not divided, or only by another name, serve every split; judgements never do.
    :class:`CorpusError` when there is none, or more than one choice, with what was found.
    """
    suffixes = (*TABLES, ".tsv") if part == "qrels" else TABLES
    labelled = [(path, _labels(path.relative_to(folder))) for path in tables(folder, suffixes)]
    own = [(path, labels) for path, (named, labels) in labelled if named == part]
    if subset is not None:
        own = [(path, labels) for path, labels in own if subset.lower() in labels]
    chosen = _of_split(own, split, divided=part == "qrels")
    if chosen:
        return chosen
    wanted = f"{part} of split {split!r}" + (f" and subset {subset!r}" if subset else "")
    beir = f"a BEIR folder has corpus.jsonl, queries.jsonl and qrels/{split}.tsv"
    found = ", ".join(path.relative_to(folder).as_posix() for path, _ in labelled[:20]) or "no table"
    raise CorpusError(
        f"{folder}: expected one {wanted} ({beir}; other sets have {part}/{split}.jsonl or .parquet); found {found}. "
        "Where there are several sets, name the subset."
    )


def only(folder: Path, split: str) -> list[Path]:
    """The files of ``split`` in a folder that is one table; :class:`CorpusError` with what was found instead."""
    labelled = [(path, _labels(path.relative_to(folder))[1]) for path in tables(folder)]
    chosen = _of_split(labelled, split, divided=False)
    if not chosen:
        found = ", ".join(path.relative_to(folder).as_posix() for path, _ in labelled[:20]) or "none"
        raise CorpusError(f"{folder}: expected JSON lines or Parquet files of split {split!r}, found {found}")
    return chosen


def _of_split(labelled: Sequence[tuple[Path, frozenset[str]]], split: str, divided: bool) -> list[Path]:
    """The files with that split in their names, or all where there is one choice; none where it is not clear."""
    exact = [(path, labels) for path, labels in labelled if split.lower() in labels]
    choices = {labels for _, labels in exact or labelled}
    if len(choices) != 1 or (not exact and divided and next(iter(choices))):
        return []
    return [path for path, _ in exact or labelled]


def _labels(relative: Path) -> tuple[str, frozenset[str]]:
    """The part that a path names, and the other names in it: split, subset."""
    inner = relative.name.lower()
    for suffix in (".gz", ".zst", *TABLES, ".tsv"):
        inner = inner.removesuffix(suffix)
    names = [*(one.lower() for one in relative.parts[:-1]), _SHARD.sub("", inner)]
    part, labels = "", set()
    for name in names:
        words = _WORDS.split(name)
        named = [word for word in words if word in PART_WORDS]
        if named and part in ("", PART_WORDS[named[0]]):
            part = PART_WORDS[named[0]]
            name = re.sub(rf"(^|[-_.]){named[0]}([-_.]|$)", "-", name).strip("-_.")
        if name:
            labels.add(name)
    return part, frozenset(labels)
