"""The ``context`` command: a question to a text for a language model, with its sources."""

from __future__ import annotations

from typing import Annotated

import typer

from unabridged.apps import options as o
from unabridged.apps.output import Output, exit_codes
from unabridged.apps.rerank_options import FEW, Rerank, RerankDepth, RerankOption
from unabridged.contracts import Level
from unabridged.rankers.context.contracts import Order
from unabridged.rankers.context.same import Duplicates
from unabridged.retrievers.result import Mode

CANDIDATES = 100
"""Segments that a pack is made of, at most: more than a usual budget holds."""


def context(  # noqa: PLR0913 - one parameter per option
    words: o.Asked,
    file: o.InPlace = None,
    budget: Annotated[int, typer.Option("--budget", help="Most tokens of the text.")] = 8_000,
    tokenizer: Annotated[
        str,
        typer.Option("--tokenizer", help="embedded, embedded-lm, cl100k_base, a folder or hub id of a tokenizer, ..."),
    ] = "embedded",
    k: Annotated[int, typer.Option("-k", "--k", help="Candidates: segments that may be in the text.")] = CANDIDATES,
    mode: o.ModeOption = Mode.HYBRID,
    level: Annotated[
        Level | None, typer.Option("--level", help="What to search [segment where there are any].")
    ] = None,
    filters: o.Filters = None,
    select: o.Select = None,
    prune: Annotated[
        float | None,
        typer.Option("--prune", help="Leave out sentences of the candidates that score less by the selector."),
    ] = None,
    rerank: Rerank = None,
    rerank_depth: RerankDepth = FEW,
    rerank_option: RerankOption = None,
    order: Annotated[
        Order | None, typer.Option("--order", help="Of the spans [source in one document, else two_stage].")
    ] = None,
    join_gap: Annotated[
        int, typer.Option("--join-gap", help="Characters between two spans that are filled up to make them one.")
    ] = 0,
    neighbours: o.Neighbours = 0,
    margin: Annotated[int, typer.Option("--margin", help="Characters on both sides that are shown too.")] = 0,
    headings: o.Headings = False,
    headers: Annotated[
        bool, typer.Option("--headers/--no-headers", help="A line with the document in front of each span.")
    ] = True,
    show_question: Annotated[
        str | None, typer.Option("--show-question", help="first or last: where the question stands in the text.")
    ] = None,
    duplicates: Annotated[
        Duplicates, typer.Option("--duplicates", help="Spans that are left out for their text.")
    ] = Duplicates.EXACT,
    trim: Annotated[
        bool, typer.Option("--trim", help="Cut the first span that does not fit at the end of a sentence.")
    ] = False,
    faults: Annotated[
        str, typer.Option("--faults", help="raise, or drop and record hits that cannot be verified.")
    ] = "raise",
    passage_tokens: o.PassageTokens = 160,
    encoder: o.EncoderOption = None,
    device: o.Device = None,
    network: o.Network = False,
    format: o.Format = None,  # noqa: A002 - the name of the option
    id_field: o.IdField = None,
    text_field: o.TextField = None,
    title_field: o.TitleField = None,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Assemble a text for a language model: verified spans with numbers, under a budget of tokens.

    From an index, or with --file from files that no index holds.  Exit code 7: some could not be read, or not ranked.
    """
    with exit_codes(output):
        from unabridged.apps.asked import asked_of
        from unabridged.apps.context_packs import run_context

        asked = asked_of(
            words, file=file, k=k, mode=mode, level=level, filters=filters, select=select, prune=prune, rerank=rerank,
            rerank_depth=rerank_depth, rerank_option=rerank_option, encoder=encoder, device=device, network=network,
            format=format, id_field=id_field, text_field=text_field, title_field=title_field,
            passage_tokens=passage_tokens,
        )  # fmt: skip
        packing = {
            "budget": budget, "tokenizer": tokenizer, "order": order, "join_gap": join_gap, "neighbours": neighbours,
            "margin": margin, "headings": headings, "headers": headers, "show_question": show_question,
            "duplicates": duplicates, "trim": trim, "faults": faults, "network": network,
        }  # fmt: skip
        run_context(asked, packing, output)
