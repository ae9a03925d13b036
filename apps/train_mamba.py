"""``train mamba``: a retriever that reads a text once, from pairs and from a teacher."""

from __future__ import annotations

import shlex
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from unabridged.apps import options as o
from unabridged.apps.output import Output, emit, exit_codes, say

if TYPE_CHECKING:
    from unabridged.encoders.prompts import Prompts
    from unabridged.training.mamba.start import Shape, Start
    from unabridged.training.mamba.train import Data, Evaluating, Report


class Pooling(str, Enum):
    """Which states are a text's vector."""

    LAST = "last"
    MEAN = "mean"


def mamba(  # noqa: PLR0913 - one parameter per option
    out: Annotated[Path, typer.Option("--out", help="The model folder to make; it must not be there.")],
    pairs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DATA",
            help="Pairs: JSON lines {query, positive, negative}, triples .tsv, BEIR folders (.gz, .zst too).",
        ),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Of BEIR folders and LoCo.")] = "train",
    loco: Annotated[
        list[str] | None,
        typer.Option("--loco", help="QUERIES,DOCUMENTS,DATASET: a task of LoCo V1 from local copies; repeatable."),
    ] = None,
    texts: Annotated[
        list[str] | None, typer.Option("--texts", help="A corpus for the teacher alone; may be repeated.")
    ] = None,
    init: Annotated[
        Path | None, typer.Option("--init", help="A Mamba folder to start from [a fresh model of the shape below].")
    ] = None,
    embeddings_from: Annotated[
        str | None,
        typer.Option("--embeddings-from", help="Start with this encoder's word vectors and tokenizer ('embedded')."),
    ] = None,
    tokenizer_from: Annotated[
        str | None, typer.Option("--tokenizer-from", help="Start with its tokenizer alone [the embedded encoder].")
    ] = None,
    variant: Annotated[int, typer.Option("--variant", help="1 or 2: Mamba or Mamba-2.")] = 2,
    width: Annotated[int, typer.Option("--width", help="Of hidden states and vectors.")] = 384,
    layers: Annotated[int, typer.Option("--layers", help="Blocks.")] = 6,
    state: Annotated[int, typer.Option("--state", help="Numbers of the recurrence per channel.")] = 64,
    head_dim: Annotated[int, typer.Option("--head-dim", help="Mamba-2: channels of a head.")] = 64,
    pooling: Annotated[Pooling | None, typer.Option("--pooling", help="[last, or the checkpoint's own].")] = None,
    query_prompt: Annotated[
        str | None, typer.Option("--query-prompt", help="In front of queries [none, or the checkpoint's own].")
    ] = None,
    document_prompt: Annotated[
        str | None, typer.Option("--document-prompt", help="In front of documents [none, or the checkpoint's own].")
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Tokens of a text; what is cut is recorded.")] = 256,
    teacher: Annotated[
        str | None, typer.Option("--teacher", help="An encoder whose vectors are learned ('embedded').")
    ] = None,
    contrast: Annotated[float, typer.Option("--contrast", help="Weight: InfoNCE over a step's answers.")] = 1.0,
    both: Annotated[float, typer.Option("--both", help="Weight: InfoNCE from documents to queries.")] = 0.0,
    orthogonal: Annotated[float, typer.Option("--orthogonal", help="Weight: orthogonal projection loss.")] = 0.0,
    vectors: Annotated[float, typer.Option("--vectors", help="Weight: distance from the teacher's vectors.")] = 0.0,
    scores: Annotated[float, typer.Option("--scores", help="Weight: distance from the teacher's rankings.")] = 0.0,
    temperature: Annotated[float, typer.Option("--temperature", help="Of InfoNCE.")] = 0.05,
    teacher_temperature: Annotated[float, typer.Option("--teacher-temperature", help="Of rankings.")] = 0.05,
    distance: Annotated[str, typer.Option("--distance", help="Of vectors: cosine or mse.")] = "cosine",
    batch_pairs: Annotated[int, typer.Option("--batch-pairs", help="Pairs of a step.")] = 32,
    batch_texts: Annotated[int, typer.Option("--batch-texts", help="Texts of --texts in a step.")] = 32,
    negatives: Annotated[int, typer.Option("--negatives", help="Given wrong answers of a query, at most.")] = 1,
    random_negatives: Annotated[int, typer.Option("--random-negatives", help="And random ones.")] = 0,
    chunk_tokens: Annotated[int, typer.Option("--chunk-tokens", help="Tokens of one packed pass.")] = 4096,
    grad_cache: Annotated[
        bool, typer.Option("--grad-cache/--no-grad-cache", help="Hold one chunk's activations at a time.")
    ] = True,
    epochs: Annotated[int, typer.Option("--epochs", help="Times that every pair is seen.")] = 1,
    steps: Annotated[int | None, typer.Option("--steps", help="This many steps instead of --epochs.")] = None,
    lr: Annotated[float, typer.Option("--lr", help="The highest learning rate.")] = 1e-3,
    warmup_steps: Annotated[int, typer.Option("--warmup-steps", help="Steps in which the rate rises.")] = 100,
    decay: Annotated[str, typer.Option("--decay", help="How it falls: linear or cosine.")] = "cosine",
    weight_decay: Annotated[float, typer.Option("--weight-decay", help="Of matrices.")] = 0.01,
    clip: Annotated[float, typer.Option("--clip", help="Largest norm of the gradient.")] = 1.0,
    checkpoint_steps: Annotated[int, typer.Option("--checkpoint-steps", help="Steps between checkpoints.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Of every random choice.")] = 0,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, ...")] = "cpu",
    precision: Annotated[str, typer.Option("--precision", help="float32, or bfloat16 by autocast.")] = "float32",
    checkpoint_layers: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Compute layers again on the way back: less memory.")
    ] = False,
    freeze_words: Annotated[bool, typer.Option("--freeze-embeddings", help="Word vectors stay as they are.")] = False,
    evaluate: Annotated[
        Path | None, typer.Option("--eval", help="A BEIR folder of held-out queries: nDCG@10 while it learns.")
    ] = None,
    eval_split: Annotated[str, typer.Option("--eval-split", help="Its split.")] = "test",
    eval_queries: Annotated[int | None, typer.Option("--eval-queries", help="This many of its queries.")] = None,
    eval_steps: Annotated[int, typer.Option("--eval-steps", help="Steps between evaluations.")] = 200,
    keep: Annotated[str, typer.Option("--keep", help="Which weights: best (by --eval) or last.")] = "best",
    storage: Annotated[str, typer.Option("--storage", help="Of the weights: float16, bfloat16, float32.")] = "float16",
    segment_tokens: Annotated[
        int | None, typer.Option("--segment-tokens", help="Of a segment in later use [--max-tokens].")
    ] = None,
    carry: Annotated[
        bool, typer.Option("--carry/--no-carry", help="In later use the state goes on from segment to segment.")
    ] = True,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Where texts and the teacher's vectors stay for other runs.")
    ] = None,
    licence: Annotated[str, typer.Option("--licence", help="A line for the model card.")] = "",
    title: Annotated[str, typer.Option("--title", help="Of the model card.")] = "A Mamba retriever",
    network: o.Network = False,
    format: o.Format = None,  # noqa: A002 - the name of the option
    id_field: o.IdField = None,
    text_field: o.TextField = None,
    title_field: o.TitleField = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Train a Mamba retriever from pairs, from a teacher's vectors of your texts, or from both."""
    with exit_codes(output):
        from unabridged.apps.progress import progress
        from unabridged.encoders.load import load_encoder
        from unabridged.training.loop import Schedule
        from unabridged.training.mamba.start import Shape
        from unabridged.training.mamba.tower import Running
        from unabridged.training.mamba.train import Folder, Plan, train_mamba
        from unabridged.training.retriever import Drawing, Objective

        begin = _Begin(init, embeddings_from, tokenizer_from, None if pooling is None else pooling.value)
        plan = Plan(
            start=_start(begin, Shape(variant, width, layers, state, head_dim), seed, network),
            out=out,
            objective=Objective(
                contrast, both, orthogonal, vectors, scores, temperature, teacher_temperature, distance
            ),
            drawing=Drawing(batch_pairs, batch_texts, negatives, random_negatives, chunk_tokens, grad_cache, seed),
            schedule=Schedule(
                epochs=epochs, lr=lr, warmup_steps=warmup_steps, weight_decay=weight_decay, clip=clip,
                checkpoint_steps=checkpoint_steps, shape=decay, steps=steps,
            ),
            running=Running(device, precision, checkpoint_layers, freeze_words),
            folder=Folder(
                max_tokens, *_prompts(init, query_prompt, document_prompt, network), storage, segment_tokens, carry,
                licence, title, _command(),
            ),
            evaluating=_evaluating(evaluate, eval_split, eval_queries, eval_steps, keep, seed),
            cache=cache,
        )  # fmt: skip
        reading = o.given(format=format, id_field=id_field, text_field=text_field, title_field=title_field)
        data = _data(pairs or [], split, loco or [], texts or [], reading)
        with progress(quiet) as listener:
            taught = None if teacher is None else load_encoder(teacher, network=network)
            report = train_mamba(plan, data, taught, listener)
        show(report, output)


def show(report: Report, output: Output) -> None:
    """Prints what was trained."""
    if output is Output.JSON:
        emit(report.as_json())
        return
    say(
        f"{report.out}: {report.pairs:,} pairs and {report.texts:,} texts, {report.steps:,} steps, {report.tokens:,} "
        f"tokens at {report.tokens_per_second:,.0f} tokens/s; loss {report.first_loss:.3f} to {report.last_loss:.3f}"
    )
    for name, counts in report.read["read"].items():
        if counts["cut"]:
            text = f"{counts['cut']:,} of {counts['texts']:,} {name} are longer than was read: "
            say(text + f"{counts['tokens_cut']:,} tokens cut")
    if report.evaluations:
        curve = ", ".join(f"{step:,}: {value:.3f}" for step, value in report.evaluations)
        say(f"nDCG@10 by step: {curve}; of what is stored {report.stored_score or 0.0:.4f}")
    say(f"Use it as any model folder: unabridged index ... --encoder {report.out}")


class _Begin(NamedTuple):
    """The options that say where a training starts."""

    init: Path | None
    embeddings_from: str | None
    tokenizer_from: str | None
    pooling: str | None


def _start(begin: _Begin, shape: Shape, seed: int, network: bool) -> Start:
    from unabridged.encoders._resolve import resolve
    from unabridged.errors import UsageError
    from unabridged.training.mamba.start import fresh, from_checkpoint

    if sum(value is not None for value in begin[:3]) > 1:
        raise UsageError("A training starts from one place: pass --init, --embeddings-from or --tokenizer-from.")
    if begin.init is not None:
        return from_checkpoint(resolve(begin.init, network=network), begin.pooling, network=network)
    words = resolve(begin.embeddings_from or begin.tokenizer_from, network=network)
    return fresh(shape, words, begin.pooling or "last", seed, embeddings=begin.embeddings_from is not None)


def _prompts(init: Path | None, query: str | None, document: str | None, network: bool) -> Prompts:
    """What was asked for, else what the checkpoint that is started from was trained with."""
    from unabridged.encoders._resolve import resolve
    from unabridged.encoders.prompts import Prompts

    return Prompts.of({} if init is None else resolve(init, network=network).prompts, query, document)


def _evaluating(
    folder: Path | None, split: str, queries: int | None, every: int, keep: str, seed: int
) -> Evaluating | None:
    from unabridged.training.heldout import small_set
    from unabridged.training.mamba.train import Evaluating

    return None if folder is None else Evaluating(small_set(folder, split, queries, seed), every, keep)


def _data(pairs: list[Path], split: str, loco: list[str], texts: list[str], reading: dict[str, Any]) -> Data:
    from unabridged.apps.loading import load_corpus
    from unabridged.errors import MissingFile, UsageError
    from unabridged.files import sha256_files
    from unabridged.training.mamba.train import Data
    from unabridged.training.pairs import Source

    sources = [Source(path, split) for path in pairs]
    for named in loco:
        queries, documents, dataset, *more = (*named.split(","), "", "", "")
        if not dataset or any(more):
            raise UsageError(f"--loco {named}: expected QUERIES,DOCUMENTS,DATASET.")
        sources.append(Source(Path(queries), split, Path(documents), dataset))
    described = []
    for text in texts:
        place = Path(text)
        if not place.exists():
            raise MissingFile(f"There is no corpus at {place}.")
        described.append({"name": place.name, "files": sha256_files(place)})
    return Data(sources, load_corpus(texts, reading) if texts else None, described)


def _command() -> str:
    """The command line, with the program by its name alone."""
    return shlex.join(["unabridged", *sys.argv[1:]])
