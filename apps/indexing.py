"""The ``index`` command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unabridged.apps import backends
from unabridged.apps.loading import load_corpus, load_for
from unabridged.apps.output import Output, complain, counted, emit, say
from unabridged.apps.progress import duration, progress
from unabridged.apps.trials import reach_of
from unabridged.errors import EXIT_PARTIAL
from unabridged.halving import MemoryUse
from unabridged.index.backends import Address
from unabridged.retrievers.api import settings_from
from unabridged.retrievers.build import BuildReport, build
from unabridged.retrievers.engines.choice import Engine
from unabridged.retrievers.failures import FAILED_NAME


def run_index(  # noqa: PLR0913 - groups of options, passed through once
    sources: Sequence[str],
    reading: Mapping[str, Any],
    encoder: str | None,
    loading: Mapping[str, Any],
    building: Mapping[str, Any],
    out: Path,
    updating: Mapping[str, Any],
    quiet: bool,
    output: Output,
    engine: Address | None = None,
) -> None:
    """Builds or updates ``out``, then ``engine`` from it, and prints the report; exits with 7 when items failed."""
    corpus = load_corpus(sources, reading)
    chosen = load_for(out, encoder, loading)
    if engine is not None:
        backends.check_engine(engine, chosen)
    extended = (loading.get("extension") or {}).get("method") is not None

    def tell_reach() -> None:
        complain(reach_of(chosen))

    begin = tell_reach if extended and not quiet else None
    with progress(quiet) as listener:
        report = build(corpus, chosen, out, options=settings_from(building), listener=listener, begin=begin, **updating)
    loaded = None if engine is None else backends.load_engine(out, engine, quiet=quiet)
    if output is Output.JSON:
        failed = str(out / FAILED_NAME) if report.failed else None
        sent = {} if loaded is None else {"backend": loaded.as_json()}
        emit({**report.as_json(), "folder": str(out), "failed_file": failed, **sent})
    else:
        say(describe(report, out) + ("" if loaded is None else f"\n{backends.told(loaded)}"))
    if report.failed:
        raise SystemExit(EXIT_PARTIAL)


def processes_of(engine: str, workers: int | None, address: str | None, shared: bool | None) -> Engine:
    """Who encodes, by the options of the command line."""
    return Engine(engine, workers=workers, address=address, shared=shared)


def describe(report: BuildReport, out: Path) -> str:
    """The report for people, the ledger first."""
    lines = [
        f"{report.documents:,} documents in {out} ({report.added:,} added, {report.updated:,} updated, "
        f"{report.unchanged:,} unchanged, {report.deleted:,} deleted)",
        f"ledger: {report.tokens_seen:,} of {report.tokens_total:,} tokens read, "
        + (f"{report.truncated:,} documents not read to the end" if report.truncated else "every document to its end")
        + (", but for what was left out" if report.left_out else ""),
        f"{report.vectors:,} vectors, index {report.index['recipe']}, recall@10 {report.index['recall_at_10']}, "
        f"{duration(report.seconds)}",
    ]
    if report.left_out:
        lines.append(f"left out as asked: {report.tokens_left_out:,} tokens of {report.left_out:,} documents")
    if report.splits:
        lines.append(f"cut: {counted(report.splits)}")
    if report.empty:
        lines.append(f"{report.empty:,} documents are empty: they have a ledger line, and no search finds them")
    lines += [f"memory: {use}" for use in (MemoryUse(**use) for use in report.memory) if use.halved]
    if report.missing_kept:
        lines.append(
            f"{report.missing_kept:,} documents that the corpus does not name were kept: some items could not be read "
            "and may be them; mend those and run the same command again"
        )
    if report.skipped:
        lines.append(f"left aside: {counted(report.skipped)}")
    if report.failed:
        reasons = counted(report.failed_reasons)
        lines.append(
            f"{report.failed:,} items failed ({reasons}); listed in {out / FAILED_NAME}, retried by the same command"
        )
    return "\n".join(lines)
