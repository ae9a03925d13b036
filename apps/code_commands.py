"""``eval codesearchnet``: a system on local copies of CodeSearchNet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unabridged.apps import options as o
from unabridged.apps.evaluating import evaluation
from unabridged.apps.output import Output, exit_codes
from unabridged.apps.run_commands import TEST, Name, Options, Out, Quiet, Rank, named, run_sets
from unabridged.contracts import Level
from unabridged.eval.codesearchnet import CodeText, read_codesearchnet
from unabridged.retrievers.result import Mode

MEASURES = ["RR", "R@1", "R@5", "R@10", "R@100"]
"""What results on CodeSearchNet are reported by."""


@evaluation.command()
def codesearchnet(  # noqa: PLR0913 - one parameter per option
    data: Annotated[Path, typer.Option("--data", help="A local copy: a folder for each language.")],
    languages: Annotated[
        list[str], typer.Option("--language", help="go, java, javascript, php, python, ruby; may be repeated.")
    ],
    out: Out,
    part: Annotated[str, typer.Option("--part", help="Whose docstrings ask: test or valid.")] = TEST,
    text: Annotated[
        CodeText, typer.Option("--code", help="source, without docstrings; or tokens, as published models read them.")
    ] = CodeText.SOURCE,
    measures: Annotated[
        list[str] | None, typer.Option("-m", "--measure", help="May be repeated [RR, R@1, R@5, R@10, R@100].")
    ] = None,
    name: Name = None,
    encoder: o.EncoderOption = None,
    mode: o.ModeOption = Mode.HYBRID,
    rank: Rank = Level.DOC,
    overflow: o.OverflowOption = None,
    split: o.SplitOption = None,
    max_tokens: o.MaxTokens = None,
    device: o.Device = None,
    backend: o.Backend = None,
    precision: o.Precision = None,
    network: o.Network = False,
    quiet: Quiet = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Score the whole pipeline on CodeSearchNet: every candidate is cut by the same rule, whether relevant or not.

    Candidates are those of codebase.jsonl (the cleaned protocol), or the functions of valid and test.
    """
    with exit_codes(output):
        loading = o.given(
            split=split, max_tokens=max_tokens, device=device, backend=backend, precision=precision,
            network=network or None,
        )  # fmt: skip
        system = Options(name, encoder, mode, rank, o.given(overflow=overflow), loading)
        found = [named(read_codesearchnet(data, one, part, text=text), part) for one in languages]
        run_sets(system, [(one, {}) for one in found], measures or MEASURES, out, quiet, output)
