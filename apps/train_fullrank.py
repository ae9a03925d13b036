"""``train fullrank``: a language model that learns to write the order of a whole list."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unabridged.apps import options as o
from unabridged.apps.output import Output, complain, emit, exit_codes, say
from unabridged.errors import EXIT_PARTIAL

if TYPE_CHECKING:
    from unabridged.rankers.listwise.templates import Template
    from unabridged.training.fullrank.labels import Label
    from unabridged.training.fullrank.train import Report

EMBEDDED = "embedded"


def fullrank(  # noqa: PLR0913 - one parameter per option
    labels: Annotated[Path, typer.Argument(help="JSON lines {qid, initial_list, final_list}.")],
    queries: Annotated[Path, typer.Option("--queries", help="The queries that the labels are of.")],
    corpus: Annotated[list[str], typer.Option("--corpus", help="The documents; may be repeated.")],
    out: Annotated[Path, typer.Option("--out", help="The model folder to make; it must not be there.")],
    model: Annotated[str, typer.Option("--model", help="A causal model's folder, or 'embedded'.")] = EMBEDDED,
    objective: Annotated[str, typer.Option("--objective", help="list, or likelihood of the query.")] = "list",
    template: Annotated[
        Path | None, typer.Option("--template", help="lettered, turns, or a template file [listwise].")
    ] = None,
    passage_tokens: Annotated[int, typer.Option("--passage-tokens", help="Most tokens of a document, 0: all.")] = 100,
    most: Annotated[int | None, typer.Option("--most", help="Learn the best so many ids only.")] = None,
    context: Annotated[int | None, typer.Option("--context", help="Most tokens of a list [the model's].")] = None,
    held_out: Annotated[int, typer.Option("--held-out", help="Lists that are judged by and not learned.")] = 0,
    method: Annotated[str, typer.Option("--method", help="lora or full.")] = "lora",
    rank: Annotated[int, typer.Option("--rank", help="Of the low-rank additions.")] = 16,
    scale: Annotated[float, typer.Option("--scale", help="LoRA's alpha.")] = 32.0,
    batch: Annotated[int, typer.Option("--batch", help="Lists of a step.")] = 8,
    alpha: Annotated[float, typer.Option("--alpha", help="Weight of separators, 0 to 1.")] = 1.0,
    weighted: Annotated[bool, typer.Option("--weighted/--plain", help="Earlier ranks weigh more.")] = True,
    first: Annotated[
        float, typer.Option("--first", help="Weight of RankNet over the ids at the first position.")
    ] = 0.0,
    shuffle: Annotated[
        bool, typer.Option("--shuffle/--as-listed", help="Show documents in an order drawn by --seed.")
    ] = False,
    bfloat16: Annotated[
        bool | None, typer.Option("--bfloat16/--float32", help="How matrices are multiplied [bfloat16 on CUDA].")
    ] = None,
    noise: Annotated[float, typer.Option("--noise", help="NEFTune's alpha.")] = 0.0,
    epochs: Annotated[int, typer.Option("--epochs", help="Times that every list is seen.")] = 4,
    steps: Annotated[int | None, typer.Option("--steps", help="This many steps instead of --epochs.")] = None,
    lr: Annotated[float, typer.Option("--lr", help="The highest learning rate.")] = 1e-4,
    warmup_steps: Annotated[int, typer.Option("--warmup-steps", help="Steps in which the rate rises.")] = 20,
    checkpoint_steps: Annotated[int, typer.Option("--checkpoint-steps", help="Steps between checkpoints.")] = 20,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Compute layers again on the way back: less memory.")
    ] = False,
    storage: Annotated[str, typer.Option("--storage", help="Of the weights: float16, bfloat16, float32.")] = "float16",
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, ... [the best there is].")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of every random choice.")] = 0,
    format: o.Format = None,  # noqa: A002 - the name of the option
    id_field: o.IdField = None,
    text_field: o.TextField = None,
    title_field: o.TitleField = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Train a listwise reranker from complete lists; what is interrupted continues by the same command."""
    with exit_codes(output):
        from unabridged.apps.progress import progress
        from unabridged.corpora import read_queries
        from unabridged.training.fullrank.examples import Making
        from unabridged.training.fullrank.labels import read_labels
        from unabridged.training.fullrank.lessons import lessons, shuffled
        from unabridged.training.fullrank.train import Objective, Plan, train_fullrank
        from unabridged.training.fullrank.tuned import Method, Tuning
        from unabridged.training.loop import Schedule

        plan = Plan(
            base=_base(model), base_name=EMBEDDED if model == EMBEDDED else None, out=out,
            device=device, storage=storage,
            objective=_one_of(Objective, objective, "--objective"),
            making=Making(
                template=_template(template), passage_tokens=passage_tokens or None, most=most, context=context
            ),
            tuning=Tuning(
                method=_one_of(Method, method, "--method"), rank=rank, scale=scale, batch=batch, alpha=alpha,
                weighted=weighted, first=first, bfloat16=bfloat16, noise=noise, seed=seed,
                gradient_checkpointing=gradient_checkpointing,
            ),
            schedule=Schedule(
                epochs=epochs, lr=lr, warmup_steps=warmup_steps, checkpoint_steps=checkpoint_steps, shape="cosine",
                steps=steps,
            ),
        )  # fmt: skip
        found = read_labels(labels)
        reading = o.given(format=format, id_field=id_field, text_field=text_field, title_field=title_field)
        texts = texts_of({one for label in found for one in label.initial}, corpus, reading)
        asked = {query.id: query.text for query in read_queries(queries)}
        learned, kept = _held_out(found, held_out)
        taught, judged = (lessons(some, asked, texts) for some in (learned, kept))
        if shuffle:
            taught, judged = shuffled(taught, seed), shuffled(judged, seed)
        with progress(quiet) as listener:
            report = train_fullrank(plan, taught, judged, listener)
        show(report, output)
        if report.failures:
            raise SystemExit(EXIT_PARTIAL)


def show(report: Report, output: Output) -> None:
    """Prints what was trained."""
    if output is Output.JSON:
        emit(report.as_json())
        return
    say(
        f"{report.out}: {report.lists:,} lists, {report.parameters:,} numbers learned in {report.steps:,} steps of "
        f"{report.tokens:,} tokens; loss {report.first_loss:.3f} to {report.last_loss:.3f}"
    )
    if report.held_out_before is not None and report.held_out_after is not None:
        say(
            f"Of {report.held_out:,} lists that were not learned: loss {report.held_out_before:.3f} to "
            f"{report.held_out_after:.3f}"
        )
    if report.cut:
        say(f"{report.cut:,} of {report.candidates:,} documents were not shown whole, but by their best segments")
    for failure in report.failures:
        say(f"Left out: {failure.message}")


def _base(model: str) -> Path:
    from unabridged.rankers.lm.embedded import embedded_folder

    return embedded_folder(notify=complain) if model == EMBEDDED else Path(model)


def _template(path: Path | None) -> Template:
    from unabridged.rankers.listwise.prompts import LISTWISE, PROMPTS
    from unabridged.rankers.listwise.template_files import load_template

    if path is None:
        return LISTWISE
    return PROMPTS[str(path)] if str(path) in PROMPTS else load_template(path)


def _one_of(kind: Any, name: str, option: str) -> Any:
    """``name``, where it is one of the words of the literal ``kind``."""
    from typing import get_args

    from unabridged.errors import UsageError

    if name not in get_args(kind):
        raise UsageError(f"{option} {name}: {' or '.join(get_args(kind))}.")
    return name


def texts_of(wanted: Container[str], sources: Sequence[str], reading: dict[str, Any]) -> dict[str, str]:
    """The texts of the documents ``wanted``; others of the corpus are not kept."""
    from unabridged.apps.loading import load_corpus
    from unabridged.contracts import Document

    corpus = load_corpus(sources, reading)
    return {item.id: item.source for item in corpus if isinstance(item, Document) and item.id in wanted}


def _held_out(labels: Sequence[Label], number: int) -> tuple[list[Label], list[Label]]:
    """The labels to learn, and ``number`` others, chosen by the hash of their queries' ids."""
    from unabridged.errors import UsageError

    if not 0 <= number < max(1, len(labels)):
        raise UsageError(f"--held-out {number:,} of {len(labels):,} lists leaves nothing to learn from.")
    ordered = sorted(labels, key=lambda one: hashlib.sha256(one.qid.encode()).digest())
    kept = {one.qid for one in ordered[:number]}
    return [one for one in labels if one.qid not in kept], [one for one in labels if one.qid in kept]
