"""The ``train`` commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unabridged.apps import options as o
from unabridged.apps.output import Output, emit, exit_codes, say
from unabridged.apps.train_fullrank import fullrank
from unabridged.apps.train_labels import fullrank_labels
from unabridged.apps.train_mamba import mamba
from unabridged.apps.train_mine import mine
from unabridged.apps.train_sea import sea

if TYPE_CHECKING:
    from unabridged.contracts import Corpus
    from unabridged.encoders._hf import ModelFolder
    from unabridged.training.loop import Schedule
    from unabridged.training.made import FolderTask, Report

train = typer.Typer(
    help="Train encoders and rankers; what is interrupted continues by the same command.", no_args_is_help=True
)

Out = Annotated[Path, typer.Option("--out", help="The model folder to make; it must not be there.")]
Epochs = Annotated[int, typer.Option("--epochs", help="Times that every text is seen.")]
Rate = Annotated[float, typer.Option("--lr", help="The highest learning rate.")]
BatchTokens = Annotated[int, typer.Option("--batch-tokens", help="Tokens of a batch; changes what is learned.")]
Seed = Annotated[int, typer.Option("--seed", help="Of every random choice.")]
STUDENT_CHECKPOINT_STEPS = 50
"""A checkpoint of a whole model is 130 MB: more often would cost more than it saves."""
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]


@train.callback()
def root() -> None:
    """Train encoders and rankers; what is interrupted continues by the same command."""


train.command("mamba")(mamba)
train.command("mine")(mine)
train.command("sea")(sea)
train.command("fullrank")(fullrank)
train.command("fullrank-labels")(fullrank_labels)


@train.command("positions")
def positions(  # noqa: PLR0913 - one parameter per option
    sources: o.Sources,
    out: Out,
    target_tokens: Annotated[int, typer.Option("--target-tokens", help="How far the model shall read.")],
    encoder: o.EncoderOption = None,
    epochs: Epochs = 1,
    lr: Rate = 0.004,
    batch_tokens: BatchTokens = 8192,
    seed: Seed = 0,
    network: o.Network = False,
    format: o.Format = None,  # noqa: A002 - the name of the option
    id_field: o.IdField = None,
    text_field: o.TextField = None,
    title_field: o.TitleField = None,
    quiet: Quiet = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Learn positions beyond the trained ones from your texts; the model and its short vectors stay as they are."""
    with exit_codes(output):
        from unabridged.training.loop import Schedule
        from unabridged.training.tuned_positions import Tuning, position_task

        reading = o.given(format=format, id_field=id_field, text_field=text_field, title_field=title_field)
        make = partial(position_task, tuning=Tuning(target_tokens, batch_tokens, seed))
        _train(make, Schedule(epochs=epochs, lr=lr), sources, reading, encoder, network, out, quiet, output)


@train.command("rope-student")
def rope_student(  # noqa: PLR0913 - one parameter per option
    sources: o.Sources,
    out: Out,
    tokens: Annotated[int, typer.Option("--tokens", help="The student's trained length.")] = 160,
    encoder: Annotated[str | None, typer.Option("--encoder", help="The teacher, a BERT [the embedded model].")] = None,
    epochs: Epochs = 2,
    lr: Rate = 0.0005,
    batch_tokens: BatchTokens = 2048,
    seed: Seed = 0,
    network: o.Network = False,
    format: o.Format = None,  # noqa: A002 - the name of the option
    id_field: o.IdField = None,
    text_field: o.TextField = None,
    title_field: o.TitleField = None,
    quiet: Quiet = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Teach a BERT's twin with rotary positions, which extends to longer texts, from the BERT's own vectors."""
    with exit_codes(output):
        from unabridged.training.loop import Schedule
        from unabridged.training.rope_student import Student, student_task

        reading = o.given(format=format, id_field=id_field, text_field=text_field, title_field=title_field)
        schedule = Schedule(epochs=epochs, lr=lr, checkpoint_steps=STUDENT_CHECKPOINT_STEPS)
        make = partial(student_task, student=Student(tokens, batch_tokens, seed))
        _train(make, schedule, sources, reading, encoder, network, out, quiet, output)


def _train(  # noqa: PLR0913 - groups of options, passed through once
    make: Callable[[ModelFolder, Corpus], FolderTask],
    schedule: Schedule,
    sources: Sequence[str],
    reading: Mapping[str, Any],
    encoder: str | None,
    network: bool,
    out: Path,
    quiet: bool,
    output: Output,
) -> None:
    """Trains the task of a model folder and a corpus, and prints the report."""
    from unabridged.apps.loading import load_corpus
    from unabridged.apps.progress import progress
    from unabridged.encoders._resolve import resolve
    from unabridged.training.made import train_folder

    with progress(quiet) as listener:
        corpus = load_corpus(sources, reading)
        task = make(resolve(encoder, network=network), corpus)
        report = train_folder(task, schedule, out, listener)
    show(report, output)


def show(report: Report, output: Output) -> None:
    """Prints what was trained."""
    if output is Output.JSON:
        emit(report.as_json())
        return
    say(
        f"{report.out}: learned from {report.texts:,} texts in {report.steps:,} steps ({report.tokens:,} tokens); loss "
        f"{report.first_loss:.3f} to {report.last_loss:.3f}"
    )
    say(f"Use it as any model folder: unabridged index ... --encoder {report.out}")
