"""The ``rerank`` command: a run in, a better one out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unabridged.apps import options as o
from unabridged.apps.output import Output, exit_codes
from unabridged.retrievers.result import Mode


def rerank(  # noqa: PLR0913 - one parameter per option
    run: Annotated[Path, typer.Argument(help="The run: TREC columns, or JSON lines in a .jsonl file.")],
    model: Annotated[
        str, typer.Option("--model", help="MODEL[:strategy]: embedded, a folder, openai:MODEL@URL, cross:FOLDER, ...")
    ],
    corpus: Annotated[
        list[str] | None, typer.Option("--corpus", help="The documents, as index takes them; may be repeated.")
    ] = None,
    queries: Annotated[
        Path | None, typer.Option("--queries", help="TSV id<TAB>text or JSONL; a .jsonl run may hold them itself.")
    ] = None,
    index: Annotated[
        Path | None, typer.Option("--index", help="An index of the documents: its texts, and its best segments.")
    ] = None,
    strategy: Annotated[
        str | None, typer.Option("--strategy", help="full, sliding, topdown, attention, likelihood, ... [full].")
    ] = None,
    depth: Annotated[int, typer.Option("--depth", help="How many documents of a query are ranked.")] = 100,
    out: Annotated[Path | None, typer.Option("--out", help="The new run: .jsonl, or TREC columns.")] = None,
    explain: Annotated[
        Path | None, typer.Option("--explain", help="JSON lines: what was shown of each document, and each status.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Answers are kept here [beside --out: OUT.answers.sqlite].")
    ] = None,
    window: Annotated[
        int | None, typer.Option("--window", help="Documents of one prompt, of strategies in parts.")
    ] = None,
    step: Annotated[int | None, typer.Option("--step", help="By how many documents a window moves.")] = None,
    passes: Annotated[int | None, typer.Option("--passes", help="How often the windows go over the list.")] = None,
    template: Annotated[
        str | None, typer.Option("--template", help="listwise, turns, lettered, yes-no, or a template file.")
    ] = None,
    passage_tokens: Annotated[
        int | None, typer.Option("--passage-tokens", help="Most tokens of a document in a prompt [as many as fit].")
    ] = None,
    thinking: Annotated[int, typer.Option("--thinking", help="Tokens for a thought before the answer.")] = 0,
    first_token: Annotated[
        bool, typer.Option("--first-token", help="Order by the log-probabilities of the first position.")
    ] = False,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", help="Requests to a server at the same time [8].")
    ] = None,
    context: Annotated[int | None, typer.Option("--context", help="Tokens of prompt and answer [the model's].")] = None,
    max_calls: Annotated[int | None, typer.Option("--max-calls", help="Stop before there are more calls.")] = None,
    max_model_tokens: Annotated[
        int | None, typer.Option("--max-model-tokens", help="Stop before more tokens are used.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option("--max-cost", help="Stop before it costs more; needs --price.")
    ] = None,
    price: Annotated[
        str | None, typer.Option("--price", help="Of a million tokens: PROMPT,ANSWER or PROMPT,ANSWER,CACHED.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", help="Seconds to wait for a server's answer [180].")
    ] = None,
    attempts: Annotated[int | None, typer.Option("--attempts", help="Requests for one answer, at most [5].")] = None,
    device: o.Device = None,
    precision: o.Precision = None,
    network: o.Network = False,
    format: o.Format = None,  # noqa: A002 - the name of the option
    id_field: o.IdField = None,
    text_field: o.TextField = None,
    title_field: o.TitleField = None,
    mode: o.ModeOption = Mode.HYBRID,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would take.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No costs and no progress on stderr.")] = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Rank the documents of a run again.  Exit code 7: some queries kept their order, and are listed.

    --mode says which ranking of --index chooses the segments of long documents.
    """
    with exit_codes(output):
        from unabridged.apps.rerank_runs import Files, run_rerank

        files = Files(run, corpus or (), queries, index, out, explain)
        reading = o.given(format=format, id_field=id_field, text_field=text_field, title_field=title_field)
        options = o.given(
            cache=cache, window=window, step=step, passes=passes, template=template, passage_tokens=passage_tokens,
            thinking=thinking or None, first_token=first_token or None, concurrency=concurrency, context=context,
            max_calls=max_calls, max_model_tokens=max_model_tokens, max_cost=max_cost, price=price, timeout=timeout,
            attempts=attempts, device=device, precision=precision, network=network or None,
        )  # fmt: skip
        run_rerank(files, model, strategy, options, reading, depth, mode, dry_run, quiet, output)
