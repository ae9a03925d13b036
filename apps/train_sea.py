"""``train sea``: what of a document's blocks is the document's own, from pairs of questions and code."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unabridged.apps import options as o
from unabridged.apps.output import Output, emit, exit_codes, say

if TYPE_CHECKING:
    from unabridged.training.sea.train import Judging, Report


def sea(  # noqa: PLR0913 - one parameter per option
    pairs: Annotated[
        list[Path],
        typer.Argument(
            metavar="PAIRS",
            help="Pairs: JSON lines {query, positive, negative}, triples .tsv, BEIR folders (.gz, .zst too).",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to make; it must not be there.")],
    split_of: Annotated[str, typer.Option("--pairs-split", help="Of BEIR folders.")] = "train",
    encoder: o.EncoderOption = None,
    split: Annotated[str, typer.Option("--split", help="Blocks: syntax, lines, spaces, tokens, prose.")] = "syntax",
    language: Annotated[
        str | None, typer.Option("--language", help="Of code that does not tell its own [it is guessed].")
    ] = None,
    header: Annotated[
        bool, typer.Option("--header", help="Read path and enclosing signatures in front of each later block.")
    ] = False,
    max_tokens: o.MaxTokens = None,
    overlap: o.Overlap = 0,
    aggregator: Annotated[
        str, typer.Option("--aggregator", help="attention, attention_plus_mean, attention_plus_max, sea_legacy.")
    ] = "attention_plus_mean",
    layers: Annotated[int, typer.Option("--layers", help="Of the attention, 1 or 2.")] = 1,
    hidden: Annotated[int, typer.Option("--hidden", help="With --layers 2: its width between them.")] = 128,
    full: Annotated[
        bool, typer.Option("--full", help="The encoder learns too, end to end; else its blocks are encoded once.")
    ] = False,
    paper: Annotated[
        bool,
        typer.Option("--paper", help="Dot products without a temperature over the batch alone, as SEA's authors."),
    ] = False,
    temperature: Annotated[float, typer.Option("--temperature", help="Of InfoNCE over cosines.")] = 0.05,
    contrast: Annotated[float, typer.Option("--contrast", help="Weight: InfoNCE over a step's answers.")] = 1.0,
    both: Annotated[float, typer.Option("--both", help="Weight: InfoNCE from documents to queries.")] = 0.0,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", help="An encoder whose best blocks rank, for --scores; 'base' is --encoder."),
    ] = None,
    scores: Annotated[float, typer.Option("--scores", help="Weight: distance from the teacher's rankings.")] = 0.0,
    teacher_temperature: Annotated[float, typer.Option("--teacher-temperature", help="Of rankings.")] = 0.05,
    batch_pairs: Annotated[int, typer.Option("--batch-pairs", help="Pairs of a step.")] = 64,
    negatives: Annotated[int, typer.Option("--negatives", help="Given wrong answers of a query, at most.")] = 1,
    random_negatives: Annotated[int, typer.Option("--random-negatives", help="And random ones.")] = 0,
    chunk_tokens: Annotated[
        int, typer.Option("--chunk-tokens", help="Of one pass: tokens with --full, else blocks.")
    ] = 8192,
    epochs: Annotated[int, typer.Option("--epochs", help="Times that every pair is seen.")] = 10,
    steps: Annotated[int | None, typer.Option("--steps", help="This many steps instead of --epochs.")] = None,
    lr: Annotated[
        float | None, typer.Option("--lr", help="The highest learning rate [0.05; with --full 2e-5].")
    ] = None,
    warmup_steps: Annotated[int, typer.Option("--warmup-steps", help="Steps in which the rate rises.")] = 10,
    decay: Annotated[str, typer.Option("--decay", help="How it falls: linear or cosine.")] = "linear",
    weight_decay: Annotated[float, typer.Option("--weight-decay", help="Of matrices.")] = 0.0,
    clip: Annotated[float, typer.Option("--clip", help="Largest norm of the gradient.")] = 1.0,
    checkpoint_steps: Annotated[int, typer.Option("--checkpoint-steps", help="Steps between checkpoints.")] = 100,
    hold_out: Annotated[
        int, typer.Option("--hold-out", help="This many of the pairs are for judging, among all documents.")
    ] = 0,
    evaluate: Annotated[
        Path | None, typer.Option("--eval", help="A BEIR folder to judge by instead: MRR while it learns.")
    ] = None,
    eval_split: Annotated[str, typer.Option("--eval-split", help="Its split.")] = "test",
    eval_steps: Annotated[int, typer.Option("--eval-steps", help="Steps between evaluations.")] = 50,
    keep: Annotated[str, typer.Option("--keep", help="Which parameters: best (of the evaluations) or last.")] = "best",
    seed: Annotated[int, typer.Option("--seed", help="Of every random choice.")] = 0,
    device: Annotated[str, typer.Option("--device", help="With --full: cpu, cuda, ...")] = "cpu",
    cache: Annotated[Path | None, typer.Option("--cache", help="Where block vectors stay for other runs.")] = None,
    licence: Annotated[str, typer.Option("--licence", help="A line for the model card.")] = "",
    title: Annotated[str, typer.Option("--title", help="Of the model card.")] = "An aggregator of code blocks",
    network: o.Network = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Train an aggregator of code blocks (SEA), alone in minutes or with its encoder (--full)."""
    with exit_codes(output):
        from unabridged.apps.progress import progress
        from unabridged.encoders.load import load_encoder
        from unabridged.training.loop import Schedule
        from unabridged.training.pairs import Source
        from unabridged.training.retriever import Drawing, Objective
        from unabridged.training.sea.train import Plan, Shape, train_sea

        _check_paper(paper, teacher, scores)
        cut: dict[str, Any] = o.given(split=split, language=language, header=header or None, max_tokens=max_tokens)
        with progress(quiet) as listener:
            base = load_encoder(encoder, device=device, overlap=overlap, network=network, **cut)
            same = teacher == "base"
            taught = base if same else None if teacher is None else load_encoder(teacher, network=network, **cut)
            plan = Plan(
                base=base,
                out=out,
                shape=Shape(aggregator, layers, hidden),
                full=full,
                dot=paper,
                objective=Objective(
                    contrast, both, scores=scores, temperature=1.0 if paper else temperature,
                    teacher_temperature=teacher_temperature,
                ),
                drawing=Drawing(
                    batch_pairs, 0, 0 if paper else negatives, 0 if paper else random_negatives, chunk_tokens, full,
                    seed,
                ),
                schedule=Schedule(
                    epochs=epochs, lr=lr if lr is not None else 2e-5 if full else 0.05, warmup_steps=warmup_steps,
                    weight_decay=weight_decay, clip=clip, checkpoint_steps=checkpoint_steps, shape=decay, steps=steps,
                ),
                judging=_judging(hold_out, evaluate, eval_split, eval_steps, keep),
                device=device,
                cache=cache,
                licence=licence,
                title=title,
                command=shlex.join(["unabridged", *sys.argv[1:]]),
            )  # fmt: skip
            report = train_sea(plan, [Source(path, split_of) for path in pairs], taught, listener)
        show(report, output)


def _check_paper(paper: bool, teacher: str | None, scores: float) -> None:
    from unabridged.errors import UsageError

    if paper and (teacher is not None or scores):
        raise UsageError("--paper learns from the batch alone: leave --teacher and --scores out.")


def _judging(hold_out: int, folder: Path | None, split: str, every: int, keep: str) -> Judging:
    from unabridged.training.pairs import Source
    from unabridged.training.sea.train import Judging

    if folder is None:
        return Judging(hold_out, every=every, keep=keep)
    from unabridged.eval.sets import read_beir

    among = [document.source for document in read_beir(folder, split).corpus]
    return Judging(hold_out, list(Source(folder, split)), among, every, keep)


def show(report: Report, output: Output) -> None:
    """Prints what was trained."""
    if output is Output.JSON:
        emit(report.as_json())
        return
    counts = report.counts
    say(
        f"{report.out}: {counts['pairs']:,} pairs, {counts['documents']:,} documents in {counts['blocks']:,} blocks, "
        f"{report.steps:,} steps; loss {report.first_loss:.3f} to {report.last_loss:.3f}"
    )
    if counts.get("questions_cut"):
        say(f"{counts['questions_cut']:,} questions are longer than a block, whose first is read")
    if report.score is not None:
        say(
            f"MRR of {counts['questions']:,} held-out questions among {counts['candidates']:,} documents, all / the "
            f"{counts['long']:,} whose code has several blocks:"
        )
        for name, said in {"this aggregator": report.score, **report.baselines}.items():
            say(f"  {name:<16} {said['all']:.4f} / {said['long']:.4f}")
        better = max(report.baselines.items(), key=lambda one: one[1]["long"])
        if better[1]["long"] > report.score["long"]:
            say(f"Without training '{better[0]}' is better on those: learn longer, from more pairs, or use that.")
    say(f"Use it as any encoder: unabridged index ... --encoder {report.out}")
