"""The ``search`` command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unabridged.apps import backends, evidence
from unabridged.apps.code_lines import is_code, line_range, numbered
from unabridged.apps.loading import load_for
from unabridged.apps.output import Output, emit, one_line, say
from unabridged.apps.rerank_hits import RerankedHits
from unabridged.apps.search_reranking import Again, end, in_json, told
from unabridged.contracts import Hit
from unabridged.corpora import read_queries
from unabridged.errors import UsageError
from unabridged.eval.trec import write_run
from unabridged.retrievers.backends.opened import BackendIndex
from unabridged.retrievers.opened import Index
from unabridged.retrievers.result import Mode, SearchResult

QUERIES_AT_ONCE = 256
"""Queries encoded together; bounds memory for large query files."""
SHOWN_CHARACTERS = 300


def open_for(
    folder: Path,
    mode: Mode,
    encoder: str | None,
    loading: Mapping[str, Any],
    backend: str | None = None,
    index_device: str = "auto",
) -> Index:
    """The index, with an encoder where one was named or the mode needs one on a chosen device.

    With ``backend`` an engine finds the candidates of a search by vectors; words are searched in the folder.
    ``index_device`` is where the folder's own vectors are searched.
    """
    if backend is not None and index_device not in ("auto", "cpu"):
        raise UsageError(
            f"name an engine or a device for the folder's own vectors, not both: found --backend and --index-device "
            f"{index_device}"
        )
    if backend is not None and mode is not Mode.BM25:
        named = encoder is not None or bool(loading)
        return backends.open_with(folder, backend, load_for(folder, encoder, loading) if named else None)
    if encoder is None and not loading:
        return Index(folder, device=index_device)
    index = Index(folder, device=index_device)
    if mode is Mode.BM25:
        return index
    return Index(folder, encoder=load_for(folder, encoder, loading), device=index_device)


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


def run_query(  # noqa: PLR0913 - groups of options, passed through once
    folder: Path,
    query: str | None,
    run: Path | None,
    filters: Sequence[str],
    asked: Mapping[str, Any],
    encoder: str | None,
    loading: Mapping[str, Any],
    output: Output,
    lines: bool | None = None,
    again: Again | None = None,
    backend: str | None = None,
    index_device: str = "auto",
) -> None:
    """Answers one question.  ``lines``: show hits by their lines; None: those in source code.

    ``again`` ranks the best hits anew; exit code 7 where it could not.
    """
    if run is not None:
        raise UsageError("--run writes the answers to a file of questions: name one with --queries")
    if query is None:
        raise UsageError(
            'name a question, as in: unabridged search DIR "who signed the annex?", or a file with --queries'
        )
    with open_for(folder, asked["mode"], encoder, loading, backend, index_device) as index:
        [(result, found)] = searched(index, [query], filters, asked, again)
        if output is Output.JSON:
            emit({**in_json(as_json(result, index, lines=lines), found), **applied(index)})
        else:
            say(describe(result, index, lines=lines))
            if found is not None:
                say(told(found))
            if isinstance(index, BackendIndex):
                say(backends.said_of(index))
    end({} if found is None else {query: found})


def searched(
    index: Index, queries: Sequence[str], filters: Sequence[str], asked: Mapping[str, Any], again: Again | None
) -> list[tuple[SearchResult, RerankedHits | None]]:
    """The result of each query, and how its order was come by where it was ranked again."""
    wanted = parse_filters(filters) or None
    results = index.search(queries, filter=wanted, **(asked if again is None else again.widened(asked)))
    if again is None:
        return [(result, None) for result in results]
    return [again.applied(result, index, asked["level"]) for result in results]


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
    lines: bool | None = None,
    again: Again | None = None,
    backend: str | None = None,
    index_device: str = "auto",
) -> None:
    """Answers a file of questions, as a TREC run, a JSON object or text; ``again`` as for :func:`run_query`."""
    if query is not None:
        raise UsageError(f"name a question or --queries, not both (got {query!r} and {queries})")
    with open_for(folder, asked["mode"], encoder, loading, backend, index_device) as index:
        wanted = read_queries(queries)
        found: dict[str, SearchResult] = {}
        orders: dict[str, RerankedHits] = {}
        for start in range(0, len(wanted), QUERIES_AT_ONCE):
            part = wanted[start : start + QUERIES_AT_ONCE]
            results_of = searched(index, [q.text for q in part], filters, asked, again)
            for q, (result, order) in zip(part, results_of, strict=True):
                found[q.id] = result
                if order is not None:
                    orders[q.id] = order
        if run is not None:
            write_run(run, ((name, [(hit.doc_id, hit.score) for hit in result]) for name, result in found.items()))
        if output is Output.JSON:
            if run is None:
                results = {name: as_json(result, index, lines=lines) for name, result in found.items()}
                body = {"results": {name: in_json(one, orders.get(name)) for name, one in results.items()}}
            else:
                body = {"rerank": {name: one.as_json() for name, one in orders.items()}} if orders else {}
            emit({"queries": len(found), "run": None if run is None else str(run), **body, **applied(index)})
        elif run is None:
            for name, result in found.items():
                say(f"== {name}\n{describe(result, index, lines=lines)}" + (told_of(orders, name)) + "\n")
        else:
            say(f"{len(found):,} queries, run written to {run}")
    end(orders)


def applied(index: Index) -> dict[str, Any]:
    """What an engine did, where one was searched."""
    return {"backend": index.applied()} if isinstance(index, BackendIndex) else {}


def told_of(orders: Mapping[str, RerankedHits], name: str) -> str:
    """A line about the order of a query's hits; nothing where the search ranked them."""
    return f"\n{told(orders[name])}" if name in orders else ""


def as_json(result: SearchResult, index: Index, *, lines: bool | None) -> dict[str, Any]:
    """Plain values; hits that are shown by their lines have the first and the last one, counted from 1.

    Of an encoder that aggregates blocks, each hit has its blocks with their weights.
    """
    body = result.as_json()
    for hit, shown in zip(result, body["hits"], strict=True):
        if by_lines(hit, lines):
            shown["lines"] = list(line_range(index.source(hit.doc_id), hit.span))
        if result.mode is not Mode.BM25 and (found := evidence.blocks(index, hit.doc_id)):
            shown["blocks"] = found
    return body


def by_lines(hit: Hit, lines: bool | None) -> bool:
    """Whether a hit is shown by its lines: as was asked for, else where it is in a file of source code."""
    return is_code(hit.doc_id) if lines is None else lines


def describe(result: SearchResult, index: Index, *, lines: bool | None = None) -> str:
    """The hits for people: id, score, where the span stands, its beginning."""
    shown = [f"{result.query}  ({result.mode.value}, {result.timings['total_ms']:.0f} ms)"]
    for hit in result:
        if by_lines(hit, lines):
            source = index.source(hit.doc_id)
            first, last = line_range(source, hit.span)
            shown.append(f"{hit.rank:>3}. {one_line(hit.doc_id)}:{first}-{last}  {hit.score:.4f}")
            shown.append(numbered(hit.doc_id, source, hit.span))
            if result.mode is not Mode.BM25 and (weights := evidence.described(index, hit.doc_id)):
                shown.append(weights)
            continue
        text = " ".join(hit.span.text.split())
        text = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + " ..."
        shown.append(
            f"{hit.rank:>3}. {one_line(hit.doc_id)}  {hit.score:.4f}  characters {hit.span.start:,}-{hit.span.end:,}"
        )
        shown.append(f"     {text}")
    shown += [] if len(result) else ["     nothing found"]
    return "\n".join([*shown, *(f"note: {note}" for note in result.notes)])
