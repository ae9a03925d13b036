"""The options that several commands share, with their help."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from unabridged.apps.output import Output
from unabridged.contracts import Level, OverflowPolicy
from unabridged.encoders.code.split import Split
from unabridged.encoders.methods import LogN, Method
from unabridged.errors import UsageError
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
LateTokens: TypeAlias = Annotated[
    int | None, typer.Option("--late-tokens", help="Late chunking: encode documents first, then cut into these.")
]
LateOverlap: TypeAlias = Annotated[
    int | None, typer.Option("--late-overlap", help="Tokens of context before each later window [a sixteenth].")
]
Carry: TypeAlias = Annotated[
    bool | None,
    typer.Option("--carry/--no-carry", help="A Mamba's state goes on from segment to segment [the model's own]."),
]
Pooling: TypeAlias = Annotated[
    str | None, typer.Option("--pooling", help="mean, cls, last, landmark, ... [the model's own].")
]
LandmarkTokens: TypeAlias = Annotated[
    int | None, typer.Option("--landmark-tokens", help="With --pooling landmark: tokens between landmarks [32].")
]
SplitOption: TypeAlias = Annotated[
    Split | None,
    typer.Option("--split", help="Where to cut: prose, or for source code syntax, lines, spaces, tokens [prose]."),
]
Cut: TypeAlias = Annotated[
    Split | None,
    typer.Option("--cut", help="What --split is elsewhere: prose, or for code syntax, lines, spaces, tokens [prose]."),
]
LanguageOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--language", help="With --split syntax: of texts that do not tell theirs, as by a suffix [guessed]."),
]
Header: TypeAlias = Annotated[
    bool, typer.Option("--header", help="With --split syntax: read path and signatures in front of each later window.")
]
Comments: TypeAlias = Annotated[
    bool | None,
    typer.Option("--comments/--no-comments", help="With --split syntax: whether vectors are of comments too [yes]."),
]
Docstrings: TypeAlias = Annotated[
    bool | None,
    typer.Option("--docstrings/--no-docstrings", help="With --split syntax: whether they are of docstrings too [yes]."),
]
MaxFileMb: TypeAlias = Annotated[
    float | None, typer.Option("--max-file-mb", help="Record larger texts and code files as failures, in MiB [none].")
]
SkipGenerated: TypeAlias = Annotated[
    bool, typer.Option("--skip-generated", help="Record generated and minified code as failures.")
]
Extend: TypeAlias = Annotated[
    Method | None, typer.Option("--extend", help="How to read beyond the model's trained length.")
]
TargetTokens: TypeAlias = Annotated[
    int | None, typer.Option("--target-tokens", help="With --extend: how far, specials and prompt included.")
]
OriginalTokens: TypeAlias = Annotated[
    int | None, typer.Option("--original-tokens", help="The trained length [the model's number of positions].")
]
Temperature: TypeAlias = Annotated[
    float | None, typer.Option("--temperature", help="Divide attention scores by this; below 1 is sharper [1].")
]
LogNOption: TypeAlias = Annotated[
    LogN | None, typer.Option("--logn", help="Let queries grow with the logarithm of the length [off].")
]
ExtendOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--extend-option",
        help="name=value of the method, may be repeated: dynamic, group, neighbours, base_factor, long_only, "
        "pcw_weights, pcw_normalize.",
    ),
]
IndexDevice: TypeAlias = Annotated[
    str,
    typer.Option(
        "--index-device",
        help="Where vectors are searched and lists built: auto, cpu, cuda, cuda:0,1, cuda+float16, cuda:0,1+shard.",
    ),
]
Device: TypeAlias = Annotated[
    str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps, or several: cuda:0,cuda:1 [auto].")
]
Backend: TypeAlias = Annotated[
    str | None, typer.Option("--backend", help="auto, torch, varlen, onnx, openvino, ... [auto].")
]
Backends: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--backend",
        help="What runs the model: auto, torch, onnx, openvino, ... [auto].  Given again, or alone, as milvus://... or "
        "postgresql://...: the engine to load the vectors into.",
    ),
]
Engine: TypeAlias = Annotated[
    str | None,
    typer.Option("--backend", help="Let an engine find candidates: milvus://..., postgresql://... or remembered."),
]
Processes: TypeAlias = Annotated[
    str, typer.Option("--engine", help="Who encodes: local, pool (processes of this machine) or ray (a cluster).")
]
Workers: TypeAlias = Annotated[
    int | None, typer.Option("--workers", help="With --engine: how many [one per GPU, else 2, or one per core of Ray].")
]
Address: TypeAlias = Annotated[
    str | None, typer.Option("--address", help="With --engine ray: auto, host:port or local [local].")
]
Shared: TypeAlias = Annotated[
    bool | None,
    typer.Option("--shared/--no-shared", help="With --engine ray: whether all machines see the index folder [asked]."),
]
Precision: TypeAlias = Annotated[str | None, typer.Option("--precision", help="float32, bf16, fp16, int8 [float32].")]
Network: TypeAlias = Annotated[bool, typer.Option("--network", help="Allow a model to be downloaded by its hub id.")]
Format: TypeAlias = Annotated[str | None, typer.Option("--format", help="Format of the sources [from their names].")]
IdField: TypeAlias = Annotated[str | None, typer.Option("--id-field", help="Field that holds the id.")]
TextField: TypeAlias = Annotated[str | None, typer.Option("--text-field", help="Field that holds the text.")]
TitleField: TypeAlias = Annotated[str | None, typer.Option("--title-field", help="Field that holds the title.")]
ModeOption: TypeAlias = Annotated[Mode, typer.Option("--mode", help="Which rankings to use.")]
Filters: TypeAlias = Annotated[list[str] | None, typer.Option("--filter", help="field=value; may be repeated.")]
Asked: TypeAlias = Annotated[list[str], typer.Argument(metavar="[DIR] QUESTION", help="An index and the question.")]
InPlace: TypeAlias = Annotated[
    list[str] | None, typer.Option("--file", help="A file in place of the index; may be repeated.")
]
Select: TypeAlias = Annotated[
    str | None, typer.Option("--select", help="What scores the candidates: bm25, vectors, hybrid, cross:MODEL, ...")
]
Neighbours: TypeAlias = Annotated[
    int, typer.Option("--neighbours", help="Segments on both sides of each that are shown too.")
]
Headings: TypeAlias = Annotated[bool, typer.Option("--headings", help="Show the headings over each span.")]
PassageTokens: TypeAlias = Annotated[
    int, typer.Option("--passage-tokens", help="With --file: tokens of a passage, of the embedded tokenizer.")
]


def given(**options: Any) -> dict[str, Any]:
    """The options that were given: those that are not None.

    A switch that says nothing when it is off is passed as ``switch or None``; of ``carry``, which may be left out, off
    is a value.
    """
    return {name: value for name, value in options.items() if value is not None}


EXTEND_OPTIONS = ("dynamic", "group", "neighbours", "base_factor", "long_only", "pcw_weights", "pcw_normalize")


def extension(
    method: Method | None,
    target_tokens: int | None,
    original_tokens: int | None,
    temperature: float | None,
    logn: LogN | None,
    options: Sequence[str] | None,
) -> dict[str, Any] | None:
    """The fields of an extension that were given, for ``load_encoder(extension=)``; None without any.

    :class:`UsageError` for an option that is not ``name=value`` with a known name.
    """
    fields: dict[str, Any] = {
        "method": method,
        "target_tokens": target_tokens,
        "original_tokens": original_tokens,
        "temperature": temperature,
        "logn": logn,
    }
    for option in options or ():
        name, sign, value = option.partition("=")
        if not sign or name not in EXTEND_OPTIONS:
            raise UsageError(
                f"--extend-option takes name=value with one of {', '.join(EXTEND_OPTIONS)}; got {option!r}."
            )
        fields[name] = _value(value)
        if fields[name] is None:
            raise UsageError(f"--extend-option {option} gives no value. Leave it out to keep what the method suggests.")
    return {name: value for name, value in fields.items() if value is not None} or None


def _value(text: str) -> Any:
    """A number, true or false where ``text`` is one, else the text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
