"""The ``advise`` command: how far an encoder reads, by method, before anything is indexed."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from unabridged.apps import advise as a
from unabridged.apps import options as o
from unabridged.apps import plots
from unabridged.apps.kept import Kept
from unabridged.apps.loading import load_corpus
from unabridged.apps.output import Output, complain, emit, exit_codes, say
from unabridged.apps.places import check_plot
from unabridged.apps.trials import load_trials
from unabridged.errors import UsageError

METHODS = "truncate,split,aggregate,pcw,gp,rp,pi,ntk,selfextend"
LENGTHS = "256,512,1024,2048,4096"


def advise(  # noqa: PLR0913 - one parameter per option
    sources: Annotated[
        list[str] | None, typer.Argument(help="Your documents, for haystacks; without any, synthetic ones.")
    ] = None,
    encoder: o.EncoderOption = None,
    methods: Annotated[
        str, typer.Option("--methods", help="Comma-separated; each may go on with +name=value, as pi+temperature=0.8.")
    ] = METHODS,
    lengths: Annotated[str, typer.Option("--lengths", help="Nominal tokens of 0.75 word, comma-separated.")] = LENGTHS,
    tasks: Annotated[str, typer.Option("--tasks", help="passkey, needle or both.")] = "passkey,needle",
    queries: Annotated[int, typer.Option("--queries", help="Questions per length.")] = 50,
    documents: Annotated[int, typer.Option("--documents", help="Documents per length.")] = 100,
    positions: Annotated[int, typer.Option("--positions", help="Places of the dead-zone curve; 0 leaves it out.")] = 20,
    target_tokens: Annotated[
        int | None, typer.Option("--target-tokens", help="What extended methods read [the longest length].")
    ] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", help="Time limit; what does not fit is named.")] = None,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="File of measured cells: a run that was interrupted goes on from it.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the synthetic sets.")] = 0,
    plot: Annotated[Path | None, typer.Option("--plot", help="Folder for a PNG, an HTML page and a table.")] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the files in that folder.")] = "reach",
    device: o.Device = None,
    backend: o.Backend = None,
    network: o.Network = False,
    format: o.Format = None,  # noqa: A002 - the name of the option
    text_field: o.TextField = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Measure how far an encoder reads: passkey and needle by length and depth, dead zones, speed, per method."""
    with exit_codes(output):
        sizes = numbers(lengths, "--lengths")
        _check(positions, minutes)
        check_plot(plot, name)
        kept = Kept(keep)
        texts = None
        if sources:
            corpus = load_corpus(sources, o.given(format=format, text_field=text_field))
            texts = a.own_texts(corpus)
        sets = a.make_sets(_tasks(tasks), sizes, documents, queries, texts, seed)
        missing = a.left_out(_tasks(tasks), sizes, texts)
        longest = max(made.length for made in sets)
        loading = o.given(device=device, backend=backend, network=network or None)
        target = target_tokens if target_tokens is not None else longest
        trials, refused = load_trials(encoder, words(methods), target, loading)
        tell = (lambda text: None) if quiet else complain
        planned = a.plan_tokens(trials, sets, positions)
        for reason in missing:
            tell(f"left out: {reason}")
        tell("tokens to encode, about: " + ", ".join(f"{key} {value:,}" for key, value in planned.items()))
        clock = a.Clock(minutes)
        text = a.dead_text(longest, texts, seed)
        results = [a.try_out(trial, sets, text, positions, clock, tell, kept) for trial in trials]
        report = Report(results, refused, sizes, longest, trials[0].encoder.passport.source, missing)
        files = [] if plot is None else report.save(plot, name)
        if output is Output.JSON:
            emit({**report.as_json(), "planned_tokens": planned, "target_tokens": target, "files": files})
        else:
            say(report.as_text())
            for file in files:
                say(f"wrote {file}")


class Report:
    """All results of one run, in the forms that it is asked for."""

    def __init__(
        self,
        results: Sequence[a.Result],
        refused: dict[str, str],
        lengths: Sequence[int],
        longest: int,
        source: str,
        left_out: Sequence[str] = (),
    ) -> None:
        self.left_out = list(left_out)
        self.results = results
        self.refused = refused
        self.lengths = lengths
        self.longest = longest
        self.source = source

    @property
    def tasks(self) -> list[str]:
        """Those that were measured."""
        return list(dict.fromkeys(cell.task for result in self.results for cell in result.cells))

    @property
    def tables(self) -> list[list[list[str]]]:
        """One table of accuracy per task, one of what else is known of each method."""
        lengths = sorted({cell.length for result in self.results for cell in result.cells})
        tables = []
        for task in self.tasks:
            rows = [[f"{task} accuracy@1", *(f"{length:,}" for length in lengths), "usable"]]
            for result in self.results:
                found = result.accuracy(task)
                shown = [f"{found[length]:.2f}" if length in found else "" for length in lengths]
                usable = result.usable.get(task)
                rows.append([result.name, *shown, "none" if usable is None else f"{usable:,}"])
            tables.append(rows)
        rows = [["method", "window", "read at the longest", "dead positions", "tokens/s at the longest"]]
        for result in self.results:
            read = f"{result.cells[-1].read:.0%}" if result.cells else ""
            dead = "" if result.dead is None else f"{result.dead['dead_share']:.0%}"
            rows.append([result.name, f"{result.window:,}", read, dead, f"{result.tokens_per_second:,.0f}"])
        return [*tables, rows]

    @property
    def notes(self) -> list[str]:
        """The recommendation, and what was not measured and why."""
        notes = a.recommend(self.results, self.longest).split("\n")
        notes += [f"Not used: {name}. {reason}" for name, reason in self.refused.items()]
        notes += [
            f"No time for {result.name}: {', '.join(result.skipped)}." for result in self.results if result.skipped
        ]
        notes += [f"Left out: {reason}." for reason in self.left_out]
        return notes

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "encoder": self.source,
            "lengths": list(self.lengths),
            "methods": [result.as_json() for result in self.results],
            "not_fitting": self.refused,
            "left_out": self.left_out,
            "recommendation": a.recommend(self.results, self.longest),
        }

    def as_text(self) -> str:
        """Tables with aligned columns, then the notes."""
        return "\n\n".join([*map(aligned, self.tables), "\n".join(self.notes)])

    def save(self, folder: Path, name: str) -> list[str]:
        """Writes ``name``.png, .html and .md; returns their paths."""
        title = f"How far {self.source} reads"
        picture = folder / f"{name}.png"
        plots.save_panels(picture, self.panels(), title)
        plots.page(folder / f"{name}.html", title, picture, self.notes, self.tables)
        command = shlex.join(["unabridged", *sys.argv[1:]])
        parts = [f"# {title}", f"Written by `{command}`.", *self.notes, f"![{title}]({picture.name})"]
        parts += [plots.markdown(table) for table in self.tables]
        (folder / f"{name}.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        return [str(folder / f"{name}{end}") for end in (".png", ".html", ".md")]

    def panels(self) -> list[plots.Draw]:
        """Accuracy by length and by depth for each task, the dead-zone curve, tokens per second by length."""
        by_length = [
            plots.lines(
                {result.name: sorted(result.accuracy(task).items()) for result in self.results},
                f"{task}: accuracy@1 by length",
                "nominal tokens",
                "accuracy@1",
                log="x",
                unit=True,
            )
            for task in self.tasks
        ]
        by_depth = []
        for task in self.tasks:
            rows = {
                result.name: cell.depth
                for result in self.results
                for cell in result.cells
                if (cell.task, cell.length) == (task, self.longest)
            }
            if rows:
                by_depth.append(plots.heat(rows, f"{task}: accuracy@1 by depth at {self.longest:,}", "depth, from"))
        return [*by_length, *by_depth, self._dead_panel(), self._speed_panel()]

    def _dead_panel(self) -> plots.Draw:
        series = {
            result.name: [
                (depth, max(moved, 1e-9))
                for depth, moved in zip(result.dead["depth"], result.dead["cosine_distance"], strict=True)
            ]
            for result in self.results
            if result.dead is not None
        }
        return plots.lines(
            series, "how far other words at a depth move the vector", "depth", "cosine distance (1e-9: none)", log="y"
        )

    def _speed_panel(self) -> plots.Draw:
        task = self.tasks[0] if self.tasks else ""
        series = {
            result.name: [(c.length, c.tokens_per_second) for c in result.cells if c.task == task]
            for result in self.results
        }
        return plots.lines(series, "speed", "nominal tokens", "tokens read per second", log="xy")


def _check(positions: int, minutes: float | None) -> None:
    """:class:`UsageError` for a number that no run can follow."""
    if positions < 0:
        raise UsageError(f"--positions must be at least 0 (0: no dead-zone curve), got {positions}.")
    if minutes is not None and not 0 <= minutes < math.inf:
        raise UsageError(f"--minutes must be a number of at least 0, got {minutes}. Leave it out for no limit.")


def words(text: str) -> list[str]:
    """Comma-separated words; :class:`UsageError` without any."""
    found = [word.strip() for word in text.split(",") if word.strip()]
    if not found:
        raise UsageError(f"Expected comma-separated words, got {text!r}.")
    return found


def numbers(text: str, option: str) -> list[int]:
    """Comma-separated positive whole numbers; :class:`UsageError` for anything else."""
    found = words(text)
    if not all(word.isdecimal() and int(word) > 0 for word in found):
        raise UsageError(f"{option} takes whole numbers above 0, separated by commas, got {text!r}.")
    return [int(word) for word in found]


def _tasks(text: str) -> list[str]:
    tasks = words(text)
    for task in tasks:
        if task not in a.TASKS:
            raise UsageError(f"Unknown task {task!r}; choose from {', '.join(a.TASKS)}.")
    return tasks


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table as text with aligned columns; the first row is its head."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
