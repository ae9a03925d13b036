"""The ``search`` command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unabridged.apps.loading import load_for
from unabridged.apps.output import Output, emit, say
from unabridged.corpora import read_queries
from unabridged.errors import UsageError
from unabridged.eval.trec import write_run
from unabridged.retrievers.opened import Index
from unabridged.retrievers.result import Mode, SearchResult

QUERIES_AT_ONCE = 256
"""Queries encoded together; bounds memory for large query files."""
SHOWN_CHARACTERS = 300


def open_for(folder: Path, mode: Mode, encoder: str | None, loading: Mapping[str, Any]) -> Index:
    """The index, with an encoder where one was named or the mode needs one on a chosen device."""
    if encoder is None and not loading:
        return Index(folder)
    index = Index(folder)
    return index if mode is Mode.BM25 else Index(folder, encoder=load_for(folder, encoder, loading))


def parse_filters(filters: Sequence[str]) -> dict[str, Any]:
    """``field=value`` pairs; a value that is a JSON number, true, false or null is that value."""
    import orjson

    wanted: dict[str, Any] = {}
    for text in filters:
        field, sign, value = text.partition("=")
        if not sign or not field:
            raise UsageError(f"a filter is field=value, got {text!r}")
        try:
            parsed = orjson.loads(value)
        except orjson.JSONDecodeError:
            parsed = value
        both = [value, parsed] if not isinstance(parsed, (dict, list)) else [value]
        wanted.setdefault(field, []).extend(both)
    return wanted


def run_query(
    folder: Path,
    query: str | None,
    run: Path | None,
    filters: Sequence[str],
    asked: Mapping[str, Any],
    encoder: str | None,
    loading: Mapping[str, Any],
    output: Output,
) -> None:
    """Answers one question."""
    if run is not None:
        raise UsageError("--run writes the answers to a file of questions: name one with --queries")
    if query is None:
        raise UsageError(
            'name a question, as in: unabridged search DIR "who signed the annex?", or a file with --queries'
        )
    index = open_for(folder, asked["mode"], encoder, loading)
    result = index.search_one(query, filter=parse_filters(filters) or None, **asked)
    if output is Output.JSON:
        emit(result.as_json())
    else:
        say(describe(result))


def run_batch(  # noqa: PLR0913 - groups of options, passed through once
    folder: Path,
    query: str | None,
    queries: Path,
    run: Path | None,
    filters: Sequence[str],
    asked: Mapping[str, Any],
    encoder: str | None,
    loading: Mapping[str, Any],
    output: Output,
) -> None:
    """Answers a file of questions, as a TREC run, a JSON object or text."""
    if query is not None:
        raise UsageError(f"name a question or --queries, not both (got {query!r} and {queries})")
    index = open_for(folder, asked["mode"], encoder, loading)
    wanted = read_queries(queries)
    found: dict[str, SearchResult] = {}
    for start in range(0, len(wanted), QUERIES_AT_ONCE):
        part = wanted[start : start + QUERIES_AT_ONCE]
        results = index.search([q.text for q in part], filter=parse_filters(filters) or None, **asked)
        found.update({q.id: result for q, result in zip(part, results, strict=True)})
    if run is not None:
        write_run(run, ((name, [(hit.doc_id, hit.score) for hit in result]) for name, result in found.items()))
    if output is Output.JSON:
        body = {"results": {name: result.as_json() for name, result in found.items()}} if run is None else {}
        emit({"queries": len(found), "run": None if run is None else str(run), **body})
    elif run is None:
        for name, result in found.items():
            say(f"== {name}\n{describe(result)}\n")
    else:
        say(f"{len(found):,} queries, run written to {run}")


def describe(result: SearchResult) -> str:
    """The hits for people: id, score, where the span stands, its beginning."""
    lines = [f"{result.query}  ({result.mode.value}, {result.timings['total_ms']:.0f} ms)"]
    for hit in result:
        text = " ".join(hit.span.text.split())
        shown = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + " ..."
        lines.append(f"{hit.rank:>3}. {hit.doc_id}  {hit.score:.4f}  characters {hit.span.start:,}-{hit.span.end:,}")
        lines.append(f"     {shown}")
    return "\n".join(lines if len(result) else [*lines, "     nothing found"])
