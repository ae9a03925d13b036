"""Retrieval sets from local copies: BEIR and Hugging Face folders, LongEmbed, LoCo; and BEIR folders out.

Every reader gives a :class:`RetrievalSet` whose corpus is streamed from its files.  Ids are text and are never
cast.  Sources of the layouts: BEIR (arXiv 2104.08663), mteb, LongEmbed (arXiv 2404.12096), LoCo V1
(arXiv 2402.07440), CoIR (arXiv 2407.02883; it has BEIR's or the hub's layout).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import orjson

from unabridged.corpora import FileCorpus, Query, read_corpus, read_qrels
from unabridged.corpora._fields import ID_NAMES, TEXT_NAMES
from unabridged.corpora._folders import bare_suffix, beir_file
from unabridged.errors import CorpusError, MissingFile, UsageError
from unabridged.eval import _parts, _records
from unabridged.eval._set import Facts, RetrievalSet, WholeCorpus, assembled, facts
from unabridged.eval.trec import Qrels
from unabridged.files import check_free, disk_errors, sync_file, sync_folder

PathLike = str | os.PathLike[str]
LENGTH = "context_length"
"""The column by which LongEmbed keeps eight sets in one file."""


def read_set(folder: PathLike, split: str = "test", *, subset: str | None = None) -> RetrievalSet:
    """The set in ``folder``: a BEIR folder, or else one of the hub's layout.

    Raises as :func:`read_beir` and :func:`read_hub`.
    """
    place = _folder(folder)
    if subset is None and beir_file(place) is not None and any((place / "qrels").glob("*.tsv")):
        return read_beir(place, split)
    return read_hub(place, split, subset=subset)


def read_beir(folder: PathLike, split: str = "test") -> RetrievalSet:
    """``corpus.jsonl``, ``queries.jsonl`` (both also ``.gz``, ``.zst``) and ``qrels/{split}.tsv`` with a header.

    Raises:
        MissingFile: No such folder.
        CorpusError: A file is missing, or does not hold what it should.
    """
    place = _folder(folder)
    corpus = beir_file(place)
    names = [f"queries.jsonl{suffix}" for suffix in ("", ".gz", ".zst")]
    queries = next((place / name for name in names if (place / name).is_file()), None)
    judged = place / "qrels" / f"{split}.tsv"
    if corpus is None or queries is None or not judged.is_file():
        found = sorted(path.relative_to(place).as_posix() for path in (*place.glob("*"), *place.glob("qrels/*")))
        raise CorpusError(
            f"{place}: expected corpus.jsonl, queries.jsonl and qrels/{split}.tsv, "
            f"found {', '.join(found[:20]) or 'nothing'}"
        )
    asked = _records.read_query_rows(_records.rows([queries]))
    return assembled(place.name, WholeCorpus(_alike(corpus)), asked, read_qrels(judged))


def read_hub(folder: PathLike, split: str = "test", *, subset: str | None = None) -> RetrievalSet:
    """A local copy of a retrieval set of the hub: configurations corpus, queries and qrels, as JSON lines or Parquet.

    Args:
        folder: The copy; which file is what, its name and folder say.
        split: The split of the judgements, and of corpus and queries where these are divided.
        subset: One of several sets in the folder, such as a language: ``en`` for ``en-corpus``, ``en-queries``.

    Raises:
        MissingFile: No such folder.
        CorpusError: A part is missing or ambiguous, or its rows have other columns than they should.
        MissingExtra: The files are Parquet and pyarrow is not installed.
    """
    place = _folder(folder)
    corpus, queries, judged = (_parts.find(place, part, split, subset) for part in ("corpus", "queries", "qrels"))
    tsv = [path for path in judged if path.suffix == ".tsv"]
    qrels = read_qrels(tsv[0]) if tsv else _records.read_judgement_rows(_records.rows(judged))
    asked = _records.read_query_rows(_records.rows(queries))
    name = place.name if subset is None else f"{place.name}/{subset}"
    return assembled(name, WholeCorpus(_alike(*corpus)), asked, qrels)


def read_longembed(folder: PathLike, task: str, length: int | None = None) -> RetrievalSet:
    """A task of LongEmbed from its raw JSON lines: corpus, queries and qrels in ``{folder}/{task}``.

    Args:
        folder: The local copy of all tasks.
        task: ``narrativeqa``, ``summ_screen_fd``, ``qmsum``, ``2wikimqa``, ``passkey`` or ``needle``.
        length: For the last two the nominal tokens, 256 to 32768; each length is a set of its own.

    Raises:
        MissingFile: No such folder.
        CorpusError: A file is missing, rows have other columns, or there is no such length.
        UsageError: The task has several lengths and none was named.
    """
    place = _folder(Path(folder) / task)
    files = {part: place / f"{part}.jsonl" for part in ("corpus", "queries", "qrels")}
    lost = [path.name for path in files.values() if not path.is_file()]
    if lost:
        found = ", ".join(sorted(path.name for path in place.iterdir())) or "nothing"
        raise CorpusError(f"{place}: expected corpus.jsonl, queries.jsonl and qrels.jsonl, found {found}")
    queries, judged = _records.rows([files["queries"]]), _records.rows([files["qrels"]])
    corpus = _alike(files["corpus"])
    if length is None:
        _refuse_lengths(files["queries"])
        return assembled(
            task, WholeCorpus(corpus), _records.read_query_rows(queries), _records.read_judgement_rows(judged)
        )
    value = str(length)
    asked = _records.read_query_rows(_records.chosen(queries, LENGTH, value))
    qrels = _records.read_judgement_rows(_records.chosen(judged, LENGTH, value))
    return assembled(f"{task}_{length}", WholeCorpus(corpus, LENGTH, value), asked, qrels)


def read_loco(queries: PathLike, documents: PathLike, dataset: str, split: str = "test") -> RetrievalSet:
    """A task of LoCo V1 from local copies of its two sets, each a file or a folder of JSON lines or Parquet.

    Queries are ``{qid, query, answer_pids, dataset}``, documents ``{pid, passage, dataset}``; the passages in
    ``answer_pids`` have grade 1.  Documents whose passage is null are not of the set, as in the authors' loader,
    and a query without any other answer is left out.

    Raises:
        MissingFile: No such file or folder.
        CorpusError: A folder without tables, rows with other columns, or nothing of this ``dataset``.
    """
    files = _files(documents, split)
    null = _null_passages(files, dataset)
    asked: list[_records.Row] = []
    qrels: dict[str, dict[str, int]] = {}
    for row in _records.chosen(_records.rows(_files(queries, split)), "dataset", dataset):
        asked.append(row)
        found = _records.field(row, ["answer_pids"])
        if not isinstance(found, list):
            raise CorpusError(f"{row[0]}: answer_pids must be a list of ids, found {found!r}")
        answers = dict.fromkeys((one for value in found if (one := _records.as_id(value, row[0])) not in null), 1)
        if answers:
            qrels[_records.identifier(row, ["qid"])] = answers
    corpus = WholeCorpus(read_corpus(*files, id_field="pid", text_field="passage"), "dataset", dataset, null)
    return assembled(dataset, corpus, _records.read_query_rows(asked), qrels)


def _alike(*files: Path) -> FileCorpus:
    """A corpus in which all JSON lines name id and text as the first does; one that does not is a failure."""
    if bare_suffix(files[0]) == ".parquet":  # its columns have one name each
        return read_corpus(*files)
    name, text = _records.first_names(files[0], ID_NAMES, TEXT_NAMES)
    return read_corpus(*files, id_field=name, text_field=text)


def _null_passages(files: list[Path], dataset: str) -> set[str]:
    """The ids of all documents without a passage, of every data set, as their rows stand in the same files."""
    null: set[str] = set()
    names: dict[str, None] = {}
    for row in _records.rows(files):
        names.setdefault(str(_records.field(row, ["dataset"])))
        if _records.field(row, ["passage"]) is None:
            null.add(_records.identifier(row, ["pid"]))
    if dataset not in names:
        raise CorpusError(f"no document has dataset = {dataset!r}; found {', '.join(map(repr, names))}")
    return null


def write_beir(folder: PathLike, whole: RetrievalSet, split: str = "test") -> Path:
    """Writes ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/{split}.tsv``; the folder appears whole or not at all.

    Raises:
        UsageError: The folder exists and is not empty, or an id of a judgement holds a tab or a line end.
        CorpusError: A document of the set cannot be read.
        DiskFull: There is no room.
    """
    target = Path(folder)
    check_free(target)
    judged = _qrels_table(whole.qrels)
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with disk_errors(target):
        try:
            (part / "qrels").mkdir(parents=True)
            with (part / "corpus.jsonl").open("wb") as file:
                for one in whole.corpus:
                    record = {"_id": one.id, "title": one.title, "text": one.text, "metadata": dict(one.metadata)}
                    file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
            (part / "queries.jsonl").write_bytes(b"".join(map(_query_line, whole.queries)))
            (part / "qrels" / f"{split}.tsv").write_bytes(judged.encode())
            for path in part.rglob("*.*"):
                sync_file(path)
            if target.is_dir():
                target.rmdir()
            part.replace(target)
            sync_folder(target.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return target


def _query_line(query: Query) -> bytes:
    return orjson.dumps({"_id": query.id, "text": query.text}, option=orjson.OPT_APPEND_NEWLINE)


def _qrels_table(qrels: Qrels) -> str:
    lines = ["query-id\tcorpus-id\tscore\n"]
    for query, grades in qrels.items():
        for document, grade in grades.items():
            bad = next((one for one in (query, document) if not {"\t", "\n", "\r"}.isdisjoint(one)), None)
            if bad is not None:
                raise UsageError(f"a table of judgements cannot hold the id {bad!r}: it has a tab or a line end")
            lines.append(f"{query}\t{document}\t{grade}\n")
    return "".join(lines)


def _refuse_lengths(queries: Path) -> None:
    lengths = {str(row[LENGTH]) for _, row in _records.rows([queries]) if row.get(LENGTH) not in (None, "")}
    if lengths:
        raise UsageError(f"{queries} holds several lengths; name one of {', '.join(sorted(lengths, key=_natural))}")


def _natural(text: str) -> tuple[int, str]:
    return len(text), text


def _folder(path: PathLike) -> Path:
    place = Path(path)
    if not place.is_dir():
        raise MissingFile(f"no such folder: {place}")
    return place


def _files(path: PathLike, split: str) -> list[Path]:
    place = Path(path)
    return [place] if place.is_file() else _parts.only(_folder(place), split)


__all__ = [
    "Facts",
    "RetrievalSet",
    "WholeCorpus",
    "assembled",
    "facts",
    "read_beir",
    "read_hub",
    "read_loco",
    "read_longembed",
    "read_set",
    "write_beir",
]
