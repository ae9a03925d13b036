"""What ``rerank`` does: reads a run with its texts, ranks, and writes the run, the record and what it cost."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unabridged.apps.candidates import IndexedCorpus, IndexTexts, StoredTexts, Texts
from unabridged.apps.loading import load_corpus
from unabridged.apps.output import Output, complain, emit, say
from unabridged.apps.places import check_file
from unabridged.apps.progress import LINE_SECONDS
from unabridged.apps.rankers import OpenRanker, load_ranker
from unabridged.apps.rerank_files import check_ids, read_lists, scored, write_explanations, write_lists
from unabridged.apps.rerank_options import ranker_options
from unabridged.apps.reranking import Listed, Reranked, Reranking, check_depth
from unabridged.apps.reranking_costs import account, cost_table, estimated
from unabridged.contracts import JSON
from unabridged.corpora import read_queries
from unabridged.errors import EXIT_PARTIAL, CorpusError, RuntimeFailure, UsageError
from unabridged.retrievers.opened import Index
from unabridged.retrievers.result import Mode

ANSWERS = ".answers.sqlite"
"""Behind the name of the run that is written: its response cache."""
SHOWN_IDS = 5


@dataclass(frozen=True, slots=True)
class Files:
    """What is read and written."""

    run: Path
    corpus: Sequence[str]
    queries: Path | None
    index: Path | None
    out: Path | None
    explain: Path | None

    def check(self) -> None:
        """:class:`UsageError` for a place that cannot be written."""
        for path, option in ((self.out, "--out"), (self.explain, "--explain")):
            if path is not None:
                check_file(path, option)

    def write(self, found: Sequence[Reranked]) -> None:
        """The record, then the run."""
        if self.explain is not None:
            write_explanations(self.explain, found)
        if self.out is not None:
            write_lists(self.out, found, "unabridged")


def run_rerank(  # noqa: PLR0913 - groups of options, passed through once
    files: Files,
    model: str,
    strategy: str | None,
    options: Mapping[str, Any],
    reading: Mapping[str, Any],
    depth: int,
    mode: Mode,
    dry_run: bool,
    quiet: bool,
    output: Output,
) -> None:
    """Reranks the run; exits with 7 where queries or documents were left out, which are listed.

    Raises:
        UsageError: options that do not fit.
        CorpusError: no document or no query of the run is known.
        RuntimeFailure: no query could be ranked: that is no result.
    """
    files.check()
    check_depth(depth, "--depth")
    lists, unlisted = _asked(read_run_of(files.run), files)
    if files.out is not None:
        check_ids(lists, files.out)
        options = {"cache": files.out.with_name(files.out.name + ANSWERS), **options}
    texts = _texts(files, lists, reading, depth, mode)
    given = ranker_options(options)
    ranker = load_ranker(model, strategy, given)
    reranking = Reranking(ranker, texts, depth)
    before = None if quiet and not dry_run else estimated(ranker, reranking.requests(lists), given.prices)
    if before is not None and not quiet:
        complain(cost_table(before, None))
    if dry_run:
        emit({"estimate": before, "ranker": dict(ranker.facts)}) if output is Output.JSON else say("nothing was sent")
        return
    found = list(watched(reranking.run(lists), len(lists), quiet))
    _check_some(found, files)
    files.write(found)
    body = _report(ranker, found, files, depth, unlisted, before)
    if not quiet:
        complain(cost_table(before, body["used"]))
    _answer(body, found, files, output)
    if body["failed"] or body["unknown_documents"]:
        raise SystemExit(EXIT_PARTIAL)


def read_run_of(path: Path) -> list[Listed]:
    """The lists of a run; in one that an evaluation wrote, beside its record, ids are percent-encoded."""
    from unabridged.apps.runs import RECORD, RUN

    return read_lists(path, escaped=path.name == RUN and path.with_name(RECORD).is_file())


def _asked(lists: Sequence[Listed], files: Files) -> tuple[list[Listed], list[str]]:
    """The lists with their questions, and the questions without a list."""
    if files.queries is None:
        if any(one.query is None for one in lists):
            raise UsageError(f"{files.run} does not hold the text of its queries: name them with --queries.")
        return list(lists), []
    known = {query.id: query.text for query in read_queries(files.queries)}
    asked = [replace(one, query=known.get(one.id)) for one in lists]
    if all(one.query is None for one in asked):
        raise CorpusError(
            f"No query of {files.run} is in {files.queries}: the run has {some([one.id for one in lists])}, the file "
            f"{some(list(known))}. Name the queries that the run was made for."
        )
    listed = {one.id for one in lists}
    return asked, [name for name in known if name not in listed]


def _texts(files: Files, lists: Sequence[Listed], reading: Mapping[str, Any], depth: int, mode: Mode) -> Texts:
    if not files.corpus and files.index is None:
        raise UsageError("Name the documents of the run with --corpus, or an index of them with --index.")
    indexed = None if files.index is None else IndexTexts(Index(files.index), mode)
    wanted = {name for one in lists for name, _ in one.hits[:depth]}
    if not files.corpus and indexed is not None:
        texts: Texts = indexed
        example = ""
    else:
        stored = StoredTexts(load_corpus(files.corpus, reading), wanted)
        texts = stored if indexed is None else IndexedCorpus(stored, indexed)
        example = f"; it has {stored.documents:,} documents, such as {stored.example!r}"
    if all(texts.text(name) is None for name in wanted):
        place = ", ".join(files.corpus) or str(files.index)
        raise CorpusError(
            f"No document of {files.run} is in {place}: the run has {some(sorted(wanted))}{example}. Name the "
            "documents that the run was made for."
        )
    return texts


def watched(found: Iterable[Reranked], total: int, quiet: bool) -> Iterator[Reranked]:
    """``found``, with a JSON line on stderr every few seconds."""
    last = time.monotonic()
    for done, one in enumerate(found, 1):
        now = time.monotonic()
        if not quiet and now - last >= LINE_SECONDS:
            last = now
            sys.stderr.write(json.dumps({"event": "rerank", "queries": done, "of": total}) + "\n")
            sys.stderr.flush()
        yield one


def _check_some(found: Sequence[Reranked], files: Files) -> None:
    """:class:`RuntimeFailure` where every query that was asked failed."""
    asked = [one for one in found if one.listed.query is not None and one.listed.hits]
    if asked and all(one.failure for one in asked):
        raise RuntimeFailure(
            f"None of the {len(asked):,} queries of {files.run} could be ranked, the first with: {asked[0].failure}"
        )


def _report(
    ranker: OpenRanker,
    found: Sequence[Reranked],
    files: Files,
    depth: int,
    unlisted: Sequence[str],
    before: Mapping[str, JSON] | None,
) -> dict[str, Any]:
    unknown = {one.listed.id: list(one.unknown) for one in found if one.unknown}
    shown = [one.ranking.exposures for one in found if one.ranking is not None]
    exposures = [exposure for each in shown for exposure in each]
    return {
        "ranker": dict(ranker.facts),
        "depth": depth,
        "queries": len(found),
        "failed": {one.listed.id: one.failure for one in found if one.failure},
        "unknown_documents": unknown,
        "queries_without_list": list(unlisted),
        "tokens_total": sum(one.total for one in exposures),
        "tokens_shown": sum(one.shown for one in exposures),
        "shown_in_part": sum(0 < one.shown < one.total for one in exposures),
        "unread": sum(one.prompts == 0 for one in exposures),
        "estimate": before,
        "used": account(ranker, found),
        "out": None if files.out is None else str(files.out),
        "explain": None if files.explain is None else str(files.explain),
    }


def _answer(body: Mapping[str, Any], found: Sequence[Reranked], files: Files, output: Output) -> None:
    if output is Output.JSON:
        results = {one.listed.id: scored(one) for one in found}
        emit({**body, **({} if files.out is not None else {"results": results})})
        return
    if files.out is None:
        for one in found:
            for rank, (name, score) in enumerate(scored(one), 1):
                say(f"{one.listed.id} Q0 {name} {rank} {score:g} unabridged")
    else:
        say(f"{body['queries']:,} queries, run written to {files.out}")
    for line in notes(body):
        complain(line)


def notes(body: Mapping[str, Any]) -> list[str]:
    """What to know before believing the new order."""
    lines = []
    if body["shown_in_part"]:
        share = 100 * body["tokens_shown"] / max(1, body["tokens_total"])
        lines.append(
            f"{body['shown_in_part']:,} documents were shown in part, {share:.1f} % of all tokens (see --explain)"
        )
    if body["failed"]:
        name, reason = next(iter(body["failed"].items()))
        lines.append(f"{len(body['failed']):,} queries keep their order, the first: {name}: {reason}")
    if body["unknown_documents"]:
        missing = [name for names in body["unknown_documents"].values() for name in names]
        lines.append(f"{len(missing):,} documents have no text here and keep their places: {some(missing)}")
    if body["queries_without_list"]:
        lines.append(f"{len(body['queries_without_list']):,} queries are not in the run")
    return lines


def some(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(map(repr, names[:SHOWN_IDS])) + (", ..." if len(names) > SHOWN_IDS else "")
