"""The ``ask`` command: a question to an answer with its sources."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from unabridged.apps import options as o
from unabridged.apps.output import Output, exit_codes
from unabridged.apps.rerank_options import FEW, Rerank, RerankDepth, RerankOption
from unabridged.retrievers.result import Mode


class Attribute(str, Enum):
    """What gives a sentence without a number its source."""

    WORDS = "words"
    CHOICE = "choice"
    NONE = "none"


class TemplateName(str, Enum):
    """The prompts that are known."""

    CITING = "citing"
    SHORT = "short"


def ask(  # noqa: PLR0913 - one parameter per option
    words: o.Asked,
    file: o.InPlace = None,
    model: Annotated[
        str, typer.Option("--model", help="embedded, a folder, a GGUF file, a hub id, or openai:MODEL@URL.")
    ] = "embedded",
    sure: Annotated[
        bool, typer.Option("--sure", help="Two candidate answers, each with a summary for it: seven or eight calls.")
    ] = False,
    budget: Annotated[
        int | None,
        typer.Option("--budget", help="Most tokens of the passages shown [1000 of a small local model, else 8000]."),
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Most tokens of the answer.")] = 160,
    template: Annotated[
        TemplateName | None, typer.Option("--template", help="How it is asked [short for a small model, else citing].")
    ] = None,
    attribute: Annotated[
        Attribute, typer.Option("--attribute", help="What gives sentences without a number a source.")
    ] = Attribute.WORDS,
    temperature: Annotated[float, typer.Option("--temperature", help="0: the same answer each time.")] = 0.0,
    seed: Annotated[int | None, typer.Option("--seed", help="Of a draw at a temperature above 0.")] = None,
    k: Annotated[int, typer.Option("-k", "--k", help="Candidates: segments that may be shown.")] = 100,
    mode: o.ModeOption = Mode.HYBRID,
    filters: o.Filters = None,
    select: o.Select = None,
    rerank: Rerank = None,
    rerank_depth: RerankDepth = FEW,
    rerank_option: RerankOption = None,
    neighbours: o.Neighbours = 0,
    headings: o.Headings = False,
    passage_tokens: o.PassageTokens = 160,
    context: Annotated[int | None, typer.Option("--context", help="Tokens of prompt and answer [the model's].")] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", help="Seconds to wait for a server's answer [180].")
    ] = None,
    attempts: Annotated[int | None, typer.Option("--attempts", help="Requests for one answer, at most [5].")] = None,
    require_found: Annotated[
        bool, typer.Option("--require-found", help="End with exit code 7 where the documents do not hold the answer.")
    ] = False,
    encoder: o.EncoderOption = None,
    device: o.Device = None,
    precision: o.Precision = None,
    network: o.Network = False,
    format: o.Format = None,  # noqa: A002 - the name of the option
    id_field: o.IdField = None,
    text_field: o.TextField = None,
    title_field: o.TitleField = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="The answer alone, without its sources.")] = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Answer a question from an index, or from files, with the passages that say it.

    That the documents do not hold the answer is an answer, with exit code 0.  Exit code 7: files that could not be read
    or hits that could not be ranked, and with --require-found no answer.
    """
    with exit_codes(output):
        from unabridged.apps.ask_run import Asking, run_ask
        from unabridged.apps.asked import asked_of

        asked = asked_of(
            words, file=file, k=k, mode=mode, filters=filters, select=select, rerank=rerank,
            rerank_depth=rerank_depth, rerank_option=rerank_option, encoder=encoder, device=device, network=network,
            format=format, id_field=id_field, text_field=text_field, title_field=title_field,
            passage_tokens=passage_tokens,
        )  # fmt: skip
        asking = Asking(
            model=model,
            loading=o.given(device=device, precision=precision, context=context),
            server=o.given(context=context, read_timeout=timeout, attempts=attempts),
            network=network,
            writing={
                "strategy": "sure" if sure else "plain", "budget": budget, "max_tokens": max_tokens,
                "template": None if template is None else template.value, "attribute": attribute.value,
                "temperature": temperature, "seed": seed,
                "packing": {"neighbours": neighbours, "headings": headings},
            },
        )  # fmt: skip
        run_ask(asked, asking, require_found, quiet, output)
