"""Runs in TREC columns or JSON lines, lists of hits with their new order, and the record of what was shown.

A run in JSON lines (``.jsonl``, ``.ndjson``) has one query a line, in the field's own form::

    {"query": {"qid": "q1", "text": "..."}, "candidates": [{"docid": "d7", "score": 12.5}, ...]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unabridged.apps.ranking_json import exposure_json, ranking_json
from unabridged.apps.reranking import Listed, Reranked
from unabridged.contracts import JSON
from unabridged.errors import CorpusError, DuplicateId, MissingFile, UsageError
from unabridged.eval.trec import read_run, write_run
from unabridged.files import write_atomic
from unabridged.rankers.contracts import run_scores

JSON_LINES = (".jsonl", ".ndjson")
_QUERY_IDS, _QUERY_TEXTS = ("qid", "id", "_id", "query_id"), ("text", "query", "query_text")
_DOCUMENT_IDS = ("docid", "doc_id", "id", "_id")


def read_lists(path: Path, *, escaped: bool = False) -> list[Listed]:
    """The lists of a run, each best first; equal scores keep the order of the file.

    :class:`MissingFile`, :class:`CorpusError` with the line, :class:`DuplicateId` for a query or a document that stands
    twice.
    """
    if path.suffix.lower() in JSON_LINES:
        return _json_lists(path)
    run = read_run(path, escaped=escaped)
    if not run:
        raise CorpusError(f"{path} holds no line; expected 'qid Q0 docid rank score tag'.")
    return [Listed(name, None, _sorted(hits.items())) for name, hits in run.items()]


def _json_lists(path: Path) -> list[Listed]:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise MissingFile(f"cannot read the run file {path}: {error.strerror}") from error
    found: dict[str, Listed] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            listed = _listed(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CorpusError(
                f"{where}: expected {{'query': {{'qid', 'text'}}, 'candidates': [{{'docid', 'score'}}, ...]}}, but "
                f"got {error!r}"
            ) from error
        if listed.id in found:
            raise DuplicateId(f"{where}: query {listed.id!r} stands twice in the run.")
        if len({name for name, _ in listed.hits}) < len(listed.hits):
            raise DuplicateId(f"{where}: a document stands twice for query {listed.id!r}.")
        found[listed.id] = listed
    if not found:
        raise CorpusError(f"{path} holds no query.")
    return list(found.values())


def _listed(body: Mapping[str, Any]) -> Listed:
    query = body["query"]
    text = query if isinstance(query, str) else _first(query, _QUERY_TEXTS, None)
    name = _first(body if isinstance(query, str) else query, _QUERY_IDS, ...)
    hits = [(str(_first(one, _DOCUMENT_IDS, ...)), float(one["score"])) for one in body["candidates"]]
    if any(score != score for _, score in hits):
        raise ValueError("a score is NaN")
    return Listed(str(name), str(text) if text else None, _sorted(hits))


def _first(body: Mapping[str, Any], names: Sequence[str], otherwise: Any) -> Any:
    for name in names:
        if body.get(name) is not None:
            return body[name]
    if otherwise is ...:
        raise KeyError(names[0])
    return otherwise


def _sorted(hits: Iterable[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(hits, key=lambda hit: -hit[1]))


def check_ids(lists: Sequence[Listed], out: Path) -> None:
    """:class:`UsageError` for an id that a TREC file at ``out`` could not hold, before anything is paid for."""
    if out.suffix.lower() in JSON_LINES:
        return
    for listed in lists:
        for name in (listed.id, *(name for name, _ in listed.hits)):
            if name.split() != [name]:
                raise UsageError(f"A TREC run cannot hold the id {name!r}: it has white space. Name an --out .jsonl.")


def write_lists(path: Path, found: Sequence[Reranked], tag: str) -> None:
    """The run in its new order, with scores that fall strictly; it appears whole or not at all."""
    if path.suffix.lower() in JSON_LINES:
        write_atomic(path, "".join(json.dumps(_line(one)) + "\n" for one in found).encode())
        return
    write_run(path, ((one.listed.id, scored(one)) for one in found), tag)


def scored(one: Reranked) -> list[tuple[str, float]]:
    """Documents with scores ``K .. 1``: those of the ranker and of the first stage cannot be compared."""
    return list(zip(one.order, run_scores(len(one.order)), strict=True))


def _line(one: Reranked) -> dict[str, JSON]:
    before = {name: rank for rank, (name, _) in enumerate(one.listed.hits, 1)}
    return {
        "query": {"qid": one.listed.id, "text": one.listed.query},
        "candidates": [{"docid": name, "score": score, "first_rank": before[name]} for name, score in scored(one)],
    }


def write_explanations(path: Path, found: Iterable[Reranked]) -> None:
    """One line a query: its status, what went otherwise than planned, and what was shown of each candidate."""
    write_atomic(path, "".join(json.dumps(explained(one)) + "\n" for one in found).encode())


def explained(one: Reranked) -> dict[str, JSON]:
    """What became of one list, as plain values."""
    body: dict[str, JSON] = {
        "query": one.listed.id,
        "status": one.status.value,
        "failure": one.failure or None,
        "seconds": one.seconds,
        "listed": len(one.order),
        "unknown_documents": list(one.unknown),
    }
    if one.ranking is None:
        return {**body, "candidates": [], "steps": [], "spent": None}
    whole = ranking_json(one.ranking)
    return {
        **body,
        "candidates": _candidates(one),
        "steps": _named(whole["steps"], one.ranked),
        "spent": whole["spent"],
    }


def _candidates(one: Reranked) -> list[dict[str, JSON]]:
    """Those that were ranked, in their new order."""
    ranking = one.ranking
    if ranking is None or not ranking.order:
        return []
    before = {name: rank for rank, (name, _) in enumerate(one.listed.hits, 1)}
    after = {name: rank for rank, name in enumerate(one.order, 1)}
    scores = ranking.scores or (None,) * len(ranking.order)
    found = []
    for item, score in zip(ranking.order, scores, strict=True):
        name = one.ranked[item]
        shown = exposure_json(ranking.exposures[item]) if ranking.exposures else {}
        found.append(
            {
                "doc_id": name,
                "rank": after[name],
                "first_rank": before[name],
                "score": score,
                "tokens_shown": shown.pop("shown", None),
                "tokens_total": shown.pop("total", None),
                **shown,
            }
        )
    return found


def _named(steps: Sequence[Mapping[str, JSON]], ranked: Sequence[str]) -> list[dict[str, JSON]]:
    """Steps with document ids for item numbers."""
    return [{**step, "items": [ranked[item] for item in step["items"]]} for step in steps]
