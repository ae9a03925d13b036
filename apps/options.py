"""The options that several commands share, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from unabridged.apps.output import Output
from unabridged.contracts import Level, OverflowPolicy
from unabridged.retrievers.result import Mode

Sources: TypeAlias = Annotated[list[str], typer.Argument(help="Files, globs, folders, a BEIR folder, or - for stdin.")]
Folder: TypeAlias = Annotated[Path, typer.Argument(help="An index folder.")]
OutputOption: TypeAlias = Annotated[Output, typer.Option("--output", help="json: one JSON object on stdout.")]
EncoderOption: TypeAlias = Annotated[
    str | None, typer.Option("--encoder", help="Model folder or hub id; default: the embedded all-MiniLM-L6-v2.")
]
OverflowOption: TypeAlias = Annotated[
    OverflowPolicy | None, typer.Option("--overflow", help="What to do with texts longer than the window [split].")
]
LevelOption: TypeAlias = Annotated[Level | None, typer.Option("--level", help="Vectors to keep [both].")]
RecipeOption: TypeAlias = Annotated[
    str | None, typer.Option("--recipe", help="auto, flat, hnsw, ivf, ... or a FAISS factory string [auto].")
]
MaxTokens: TypeAlias = Annotated[int | None, typer.Option("--max-tokens", help="Window in tokens [the model's own].")]
Overlap: TypeAlias = Annotated[int, typer.Option("--overlap", help="Tokens that neighbouring windows share.")]
Device: TypeAlias = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps [best there is].")]
Backend: TypeAlias = Annotated[str | None, typer.Option("--backend", help="auto, torch, onnx, openvino, ... [auto].")]
Precision: TypeAlias = Annotated[str | None, typer.Option("--precision", help="float32, bfloat16, int8 [float32].")]
Network: TypeAlias = Annotated[bool, typer.Option("--network", help="Allow a model to be downloaded by its hub id.")]
Format: TypeAlias = Annotated[str | None, typer.Option("--format", help="Format of the sources [from their names].")]
IdField: TypeAlias = Annotated[str | None, typer.Option("--id-field", help="Field that holds the id.")]
TextField: TypeAlias = Annotated[str | None, typer.Option("--text-field", help="Field that holds the text.")]
TitleField: TypeAlias = Annotated[str | None, typer.Option("--title-field", help="Field that holds the title.")]
ModeOption: TypeAlias = Annotated[Mode, typer.Option("--mode", help="Which rankings to use.")]


def given(**options: Any) -> dict[str, Any]:
    """The options that were given, without None and without switches that are off."""
    return {name: value for name, value in options.items() if value is not None and value is not False}
