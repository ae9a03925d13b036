"""mteb's own task classes: on local folders, with a record of per-query values, and with errors that help.

A task is changed by a subclass, never on an instance: ``unload_data`` drops what was set on one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unabridged._extras import require
from unabridged.apps.bins import best_documents
from unabridged.apps.integrations import longembed_folder as layout
from unabridged.apps.integrations.longembed_evidence import Depths, depths_in
from unabridged.apps.integrations.mteb_hub import library
from unabridged.apps.integrations.mteb_records import Records, Split
from unabridged.errors import CorpusError, MissingFile, UnabridgedError, UsageError
from unabridged.files import sha256_file
from unabridged.manifest import fingerprint

MEASURES = {"ndcg": "ndcg_cut_", "map": "map_cut_", "recall": "recall_", "precision": "P_", "hit_rate": "success_"}
"""mteb's names -> those under which its engine gives values per query."""
HUB = "hub"
LONGEMBED = tuple(layout.KEYS)


def longembed_tasks(
    data: Path | None,
    work: Path,
    records: Records,
    *,
    names: Sequence[str] = LONGEMBED,
    lengths: Sequence[int] | None = None,
) -> list[Any]:
    """The LongEmbed tasks called ``names`` (of the task or of its folder) on the folders below ``data``.

    Raw rows are converted below ``work`` first.  Without ``data`` the tasks are those of the hub.  ``lengths`` choose
    splits of the synthetic two.

    Raises:
        UsageError: an unknown name, or lengths that the data does not have.
        MissingFile: no data for a task, with what belongs where.
        CorpusError: raw rows that cannot be converted.
    """
    mteb = library()
    tasks = []
    for name in dict.fromkeys(_longembed_name(name) for name in names):
        cls, key = type(mteb.get_task(name)), layout.KEYS[name]
        if data is None:
            splits = _hub_splits(cls, key, lengths)
            tasks.append(recorded(cls, records, {} if splits is None else {"eval_splits": splits})())
            continue
        folder = prepared(data / key, work / key, key)
        changes: dict[str, Any] = {
            "dataset": {"path": str(folder.resolve()), "revision": layout.content_hash(folder)}
            | ({} if key == layout.PASSKEY else {"name": key})
        }
        if key in layout.SYNTHETIC:
            changes["eval_splits"] = _splits(layout.lengths_in(folder, key), lengths, folder)
        origin, depths = layout.origin_of(folder), depths_in(folder)
        tasks.append(recorded(cls, records, changes, origin=origin, depths=depths)())
    return tasks


def prepared(place: Path, work: Path, key: str) -> Path:
    """The folder to load: ``place`` itself if it was made for that, else its raw rows converted below ``work``."""
    if layout.is_made(place):
        return place
    files = [place / f"{part}.jsonl" for part in layout.PARTS]
    if not all(file.is_file() for file in files):
        raise MissingFile(layout.missing(key, place))
    sums = {part: sha256_file(file) for part, file in zip(layout.PARTS, files, strict=True)}
    folder = work / fingerprint(sums)[:16]
    return folder if layout.is_made(folder) else layout.convert(place, folder, key)


def named_tasks(names: Iterable[str], records: Records) -> list[Any]:
    """Tasks by name, and those of benchmarks by theirs; aggregates are taken apart.

    :class:`UsageError` for a name that mteb does not know, with the nearest that it does.
    """
    found: dict[str, Any] = {}
    for name in names:
        for task in _lookup(name):
            found[task.metadata.name] = own = recorded(type(task), records, {})()
            own.__dict__.update(task.__dict__)
    return list(found.values())


def recorded(
    cls: Any, records: Records, changes: Mapping[str, Any], *, origin: str = HUB, depths: Depths | None = None
) -> Any:
    """A subclass of a task class with changed metadata that notes per-query values and explains missing data.

    ``origin`` says where its data comes from; whatever is not the hub is a folder.  ``depths`` of the evidence are
    noted beside the values.
    """
    exceptions: Any = require("datasets.exceptions", extra="eval")

    def evaluate(self: Any, model: Any, split: str = "test", subsets_to_run: Any = None, **options: Any) -> Any:
        for subset in subsets_to_run if subsets_to_run is not None else self.hf_subsets:
            records.begin(Split(self.metadata.name, split, subset))
        return cls.evaluate(self, model, split, subsets_to_run, **options)

    def load_data(self: Any, *args: Any, **options: Any) -> None:
        try:
            cls.load_data(self, *args, **options)
        except UnabridgedError:
            raise
        except (OSError, ValueError, KeyError, RuntimeError, exceptions.DatasetsError) as error:
            raise _unreadable(self.metadata, error, origin != HUB) from error

    members: dict[str, Any] = {"evaluate": evaluate, "load_data": load_data, "origin": origin, "__module__": __name__}
    if changes:
        members["metadata"] = cls.metadata.model_copy(update=dict(changes))
    if hasattr(cls, "task_specific_scores"):
        members["task_specific_scores"] = _noting(cls, records, depths or {})
    return type(cls)(cls.__name__, (cls,), members)


def _noting(cls: Any, records: Records, depths: Depths) -> Callable[..., Any]:
    """``task_specific_scores`` that keeps the main score of every query, and the place of its answer, on its way."""

    def task_specific_scores(self: Any, scores: Any, qrels: Any, results: Any, hf_split: str, hf_subset: str) -> Any:
        name = per_query_name(self.metadata.main_score)
        values = {} if name is None else {query: own[name] for query, own in scores.items() if name in own}
        judged = sum(1 for query in qrels if query not in results)
        split, known = Split(self.metadata.name, hf_split, hf_subset), depths.get(hf_split, {})
        best, sizes = best_documents(qrels, known), records.take(split)
        records.note(
            split,
            measure=self.metadata.main_score,
            per_query=values,
            tokens={query: sizes[document] for query, document in best.items() if document in sizes},
            depths={pair[0]: known[pair] for pair in best.items() if pair in known},
            unanswered=judged,
        )
        return cls.task_specific_scores(self, scores, qrels, results, hf_split, hf_subset)

    return task_specific_scores


def per_query_name(main_score: str) -> str | None:
    """The engine's name of ``ndcg_at_10`` and its like; None for a measure that it does not give per query."""
    match = re.fullmatch(r"(\w+)_at_(\d+)", main_score)
    return f"{MEASURES[match[1]]}{match[2]}" if match is not None and match[1] in MEASURES else None


def _unreadable(metadata: Any, error: Exception, local: bool) -> UnabridgedError:
    path, revision = metadata.dataset["path"], metadata.dataset.get("revision")
    if local:
        return CorpusError(
            f"{path} cannot be read as the data of {metadata.name}: {error}. Make it again with: unabridged eval "
            "longembed-data."
        )
    data = " LongEmbed tasks also run from a folder: --data DIR." if metadata.name in layout.KEYS else ""
    return MissingFile(
        f"{metadata.name} needs the data set {path} at revision {revision}, which is not in the local cache of "
        f"datasets ({type(error).__name__}: {error}). Allow the hub with --network; or load it once on a machine with "
        f"network (datasets.load_dataset('{path}', revision='{revision}')) and copy the folder that HF_HOME names, "
        f"~/.cache/huggingface by default, to the same place here.{data}"
    )


def _longembed_name(name: str) -> str:
    by_key = {key: task for task, key in layout.KEYS.items()}
    if name not in layout.KEYS and name not in by_key:
        raise UsageError(f"no LongEmbed task {name!r}: choose some of {', '.join(by_key)}.")
    return by_key.get(name, name)


def _splits(there: Sequence[int], asked: Sequence[int] | None, folder: Path) -> list[str]:
    lacking = sorted(set(asked or ()) - set(there))
    if lacking:
        raise UsageError(f"{folder} has the lengths {', '.join(map(str, there))}, asked for {lacking}.")
    return [f"test_{length}" for length in there if asked is None or length in asked]


def _hub_splits(cls: Any, key: str, asked: Sequence[int] | None) -> list[str] | None:
    if asked is None or key not in layout.SYNTHETIC:
        return None
    return _splits([int(split.removeprefix("test_")) for split in cls.metadata.eval_splits], asked, Path(key))


def _lookup(name: str) -> list[Any]:
    """A task, or the tasks of a benchmark, with the splits and languages that it chose."""
    mteb = library()
    for find in (mteb.get_task, mteb.get_benchmark):
        try:
            found = find(name)
        except KeyError:
            continue
        return [part for task in getattr(found, "tasks", [found]) for part in _apart(task)]
    registry: Any = require("mteb.get_tasks", extra="eval")
    known = [cls.metadata.name for cls in registry.TASK_LIST] + [one.name for one in mteb.get_benchmarks()]
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    said = (
        f"the nearest are {', '.join(near)}."
        if near
        else "no name is near it. Names are written as mteb writes them, such as NFCorpus or LongEmbed."
    )
    raise UsageError(f"mteb has no task and no benchmark {name!r}; {said}")


def _apart(task: Any) -> list[Any]:
    return [part for one in task.metadata.tasks for part in _apart(one)] if task.is_aggregate else [task]
