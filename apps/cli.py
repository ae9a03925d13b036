"""The command line.  Each command parses its options, calls one function of the library, and prints."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

import unabridged
from unabridged.apps import (  # noqa: F401 - they add their commands to eval and train
    benchmarking,
    code_commands,
    datasets,
    fetching,
    measuring,
    plan_command,
    run_commands,
    select_runs,
    synth_runs,
)
from unabridged.apps import options as o
from unabridged.apps.advising import advise
from unabridged.apps.ask_command import ask as ask_command
from unabridged.apps.context_command import context as context_command
from unabridged.apps.evaluating import evaluation
from unabridged.apps.output import EXIT_INTERRUPTED, Output, complain, emit, exit_codes, fail, say
from unabridged.apps.rerank_command import rerank as rerank_command
from unabridged.apps.rerank_options import FEW, Rerank, RerankDepth, RerankOption
from unabridged.apps.training import train
from unabridged.contracts import Level
from unabridged.retrievers.result import Mode

app = typer.Typer(
    help="Index, search and rank long documents: nothing is truncated without a record.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    rich_markup_mode="markdown",  # as markup of rich the defaults in brackets would vanish
)


def show_version(wanted: bool) -> None:
    """Prints the version and ends."""
    if wanted:
        say(f"unabridged {unabridged.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Index, search and rank long documents: nothing is truncated without a record."""


app.command()(plan_command.plan)


@app.command()
def index(  # noqa: PLR0913 - one parameter per option
    sources: o.Sources,
    out: Annotated[Path, typer.Option("--out", help="The index folder to build, continue or update.")],
    encoder: o.EncoderOption = None,
    overflow: o.OverflowOption = None,
    level: o.LevelOption = None,
    recipe: o.RecipeOption = None,
    add: Annotated[bool, typer.Option("--add", help="Add to a finished index and keep its settings.")] = False,
    delete_missing: Annotated[
        bool, typer.Option("--delete-missing", help="Remove documents that the corpus does not name.")
    ] = False,
    max_tokens: o.MaxTokens = None,
    overlap: o.Overlap = 0,
    late_tokens: o.LateTokens = None,
    late_overlap: o.LateOverlap = None,
    carry: o.Carry = None,
    pooling: o.Pooling = None,
    landmark_tokens: o.LandmarkTokens = None,
    split: o.SplitOption = None,
    language: o.LanguageOption = None,
    header: o.Header = False,
    comments: o.Comments = None,
    docstrings: o.Docstrings = None,
    extend: o.Extend = None,
    target_tokens: o.TargetTokens = None,
    original_tokens: o.OriginalTokens = None,
    temperature: o.Temperature = None,
    logn: o.LogNOption = None,
    extend_option: o.ExtendOption = None,
    processes: o.Processes = "local",
    workers: o.Workers = None,
    address: o.Address = None,
    shared: o.Shared = None,
    device: o.Device = None,
    index_device: o.IndexDevice = "auto",
    backend: o.Backends = None,
    precision: o.Precision = None,
    network: o.Network = False,
    format: o.Format = None,  # noqa: A002 - the name of the option
    id_field: o.IdField = None,
    text_field: o.TextField = None,
    title_field: o.TitleField = None,
    max_file_mb: o.MaxFileMb = None,
    skip_generated: o.SkipGenerated = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Index a corpus.  Interrupted at any moment, the same line continues.  Exit code 7: some items failed."""
    with exit_codes(output):
        from unabridged.apps.backends import split_backends
        from unabridged.apps.indexing import processes_of, run_index
        from unabridged.apps.planning import run_plan

        runs, engine = split_backends(backend)
        reading = o.given(
            format=format,
            id_field=id_field,
            text_field=text_field,
            title_field=title_field,
            max_file_mb=max_file_mb,
            skip_generated=skip_generated or None,
        )
        loading = o.given(
            max_tokens=max_tokens,
            overlap=overlap or None,
            late_tokens=late_tokens,
            late_overlap=late_overlap,
            carry=carry,
            pooling=pooling,
            landmark_tokens=landmark_tokens,
            split=split,
            language=language,
            header=header or None,
            comments=comments,
            docstrings=docstrings,
            device=device,
            backend=runs,
            precision=precision,
            network=network or None,
            extension=o.extension(extend, target_tokens, original_tokens, temperature, logn, extend_option),
        )
        building = o.given(overflow=overflow, level=level, recipe=recipe)
        if dry_run:
            run_plan(sources, reading, encoder, loading, building, output)
        else:
            who = processes_of(processes, workers, address, shared)
            updating = o.given(
                add=add or None, delete_missing=delete_missing or None, engine=who, index_device=index_device
            )
            run_index(sources, reading, encoder, loading, building, out, updating, quiet, output, engine)


@app.command()
def search(  # noqa: PLR0913 - one parameter per option
    folder: o.Folder,
    query: Annotated[str | None, typer.Argument(help="The question.")] = None,
    k: Annotated[int, typer.Option("-k", help="Hits per query.")] = 10,
    mode: o.ModeOption = Mode.HYBRID,
    level: Annotated[Level, typer.Option("--level", help="What to rank.")] = Level.DOC,
    filters: o.Filters = None,
    queries: Annotated[Path | None, typer.Option("--queries", help="TSV id<TAB>text or BEIR JSONL.")] = None,
    run: Annotated[Path | None, typer.Option("--run", help="Write a six-column TREC run here.")] = None,
    lines: Annotated[
        bool | None, typer.Option("--lines/--no-lines", help="Show hits by their lines [those in source code].")
    ] = None,
    rerank: Rerank = None,
    rerank_depth: RerankDepth = FEW,
    rerank_option: RerankOption = None,
    encoder: o.EncoderOption = None,
    device: o.Device = None,
    index_device: o.IndexDevice = "auto",
    backend: o.Engine = None,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Search an index.  Each hit shows the span of the document that answers best.

    With --rerank a model orders the best hits anew.  Exit code 7: it could not, and the order is the search's.
    """
    with exit_codes(output):
        from unabridged.apps.search_reranking import again_of
        from unabridged.apps.searching import run_batch, run_query

        again = again_of(rerank, rerank_depth, rerank_option, k)
        loading = o.given(device=device)
        asked = {"k": k, "mode": mode, "level": level}
        rest = (filters or [], asked, encoder, loading, output, lines, again, backend, index_device)
        if queries is None:
            run_query(folder, query, run, *rest)
        else:
            run_batch(folder, query, queries, run, *rest)


@app.command()
def info(
    folder: o.Folder,
    ledger: Annotated[bool, typer.Option("--ledger", help="List tokens total and seen of every document.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read every byte and check it.")] = False,
    index_device: Annotated[
        str | None,
        typer.Option("--index-device", help="Also show where vectors would be searched: auto, cpu, cuda, ..."),
    ] = None,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Show what an index holds, how much of it was read, and with which encoder."""
    with exit_codes(output):
        from unabridged.apps.inspecting import run_info

        run_info(folder, ledger, verify, output, index_device)


@app.command()
def compact(folder: o.Folder, output: o.OutputOption = Output.TEXT) -> None:
    """Rewrite an index without its deleted documents and with few shards; nothing is encoded again."""
    with exit_codes(output):
        from unabridged.retrievers.compact import compact as rewrite

        report = rewrite(folder)
        if output is Output.JSON:
            emit(report)
        else:
            removed = f"{report['removed']:,} deleted rows removed"
            say(f"{report['documents']:,} documents in {report['shards']} shards; {removed}")


@app.command()
def doctor(output: o.OutputOption = Output.TEXT) -> None:
    """Show what is installed, which devices and backends would be used, and what is missing."""
    with exit_codes(output):
        from unabridged.apps.doctor import run_doctor

        run_doctor(output)


app.command("rerank")(rerank_command)
app.command("context")(context_command)
app.command("ask")(ask_command)
app.command()(advise)
app.command()(run_commands.verify)
app.add_typer(evaluation, name="eval")
app.add_typer(train, name="train")


def main() -> None:
    """The entry point of the ``unabridged`` command."""
    try:
        code = app(standalone_mode=False)
    except KeyboardInterrupt:
        complain("Interrupted.")
        raise SystemExit(EXIT_INTERRUPTED) from None
    except Exception as error:
        if not hasattr(error, "format_message"):  # not an error of the command line itself
            raise
        wants_json = any(pair == ("--output", "json") for pair in pairwise(sys.argv)) or "--output=json" in sys.argv
        fail(Output.JSON if wants_json else Output.TEXT, "UsageError", error.format_message(), 2)
    raise SystemExit(code or 0)
