"""The ``eval longembed``, ``eval longembed-data`` and ``eval mteb`` commands."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unabridged.apps import options as o
from unabridged.apps.advising import aligned, numbers, words
from unabridged.apps.bins import bin_lines
from unabridged.apps.evaluating import evaluation
from unabridged.apps.loading import load_for_mode
from unabridged.apps.output import Output, emit, exit_codes, say
from unabridged.apps.places import check_folder
from unabridged.apps.progress import progress
from unabridged.contracts import Level
from unabridged.encoders.load import load_encoder
from unabridged.errors import EXIT_PARTIAL, UsageError
from unabridged.progress import Listener
from unabridged.retrievers.result import Mode

if TYPE_CHECKING:
    from unabridged.apps.integrations.mteb_records import Records
    from unabridged.apps.integrations.mteb_run import Row


class System(str, Enum):
    """What is evaluated."""

    PIPELINE = "pipeline"
    """Windows, index, search: what a user of ``index`` and ``search`` gets."""
    VECTOR = "vector"
    """The encoder alone, one vector a text, in mteb's own search."""


Out = Annotated[Path, typer.Option("--out", help="Folder for results, indexes and records; what is there is kept.")]
As = Annotated[System, typer.Option("--as", help="pipeline: index and search; vector: one vector a text, no index.")]
SearchLevel = Annotated[Level, typer.Option("--search-level", help="What to rank.")]
Lengths = Annotated[str | None, typer.Option("--lengths", help="Of passkey and needle, comma-separated [all].")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]
NAMES = "passkey, needle, narrativeqa, qmsum, summ_screen_fd, 2wikimqa"


@evaluation.command("longembed")
def longembed(  # noqa: PLR0913 - one parameter per option
    out: Out,
    data: Annotated[Path | None, typer.Option("--data", help="Folder of data sets [those of the hub].")] = None,
    tasks: Annotated[str | None, typer.Option("--tasks", help=f"Some of {NAMES} [all].")] = None,
    lengths: Lengths = None,
    system: As = System.PIPELINE,
    encoder: o.EncoderOption = None,
    mode: o.ModeOption = Mode.HYBRID,
    search_level: SearchLevel = Level.DOC,
    overflow: o.OverflowOption = None,
    level: o.LevelOption = None,
    recipe: o.RecipeOption = None,
    max_tokens: o.MaxTokens = None,
    overlap: o.Overlap = 0,
    late_tokens: o.LateTokens = None,
    late_overlap: o.LateOverlap = None,
    pooling: o.Pooling = None,
    landmark_tokens: o.LandmarkTokens = None,
    extend: o.Extend = None,
    target_tokens: o.TargetTokens = None,
    original_tokens: o.OriginalTokens = None,
    temperature: o.Temperature = None,
    logn: o.LogNOption = None,
    extend_option: o.ExtendOption = None,
    device: o.Device = None,
    backend: o.Backend = None,
    precision: o.Precision = None,
    network: o.Network = False,
    quiet: Quiet = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Run LongEmbed's tasks, offline from a folder with --data.  Interrupted, the same line continues."""
    with exit_codes(output):
        loading = o.given(
            max_tokens=max_tokens,
            overlap=overlap or None,
            late_tokens=late_tokens,
            late_overlap=late_overlap,
            pooling=pooling,
            landmark_tokens=landmark_tokens,
            device=device,
            backend=backend,
            precision=precision,
            network=network or None,
            extension=o.extension(extend, target_tokens, original_tokens, temperature, logn, extend_option),
        )
        asked = Asked(
            system, encoder, loading, mode, search_level, o.given(overflow=overflow, level=level, recipe=recipe)
        )
        names = NAMES.split(", ") if tasks is None else words(tasks)
        sizes = None if lengths is None else numbers(lengths, "--lengths")

        def find(records: Records) -> list[Any]:
            from unabridged.apps.integrations.mteb_tasks import longembed_tasks

            return longembed_tasks(data, out / "work", records, names=names, lengths=sizes)

        _run(asked, find, out, local=data is not None, quiet=quiet, output=output)


@evaluation.command("mteb")
def run_mteb(  # noqa: PLR0913 - one parameter per option
    names: Annotated[list[str], typer.Argument(help="Tasks or benchmarks, as mteb calls them.", metavar="TASK...")],
    out: Out,
    system: As = System.PIPELINE,
    encoder: o.EncoderOption = None,
    mode: o.ModeOption = Mode.HYBRID,
    search_level: SearchLevel = Level.DOC,
    overflow: o.OverflowOption = None,
    level: o.LevelOption = None,
    recipe: o.RecipeOption = None,
    max_tokens: o.MaxTokens = None,
    overlap: o.Overlap = 0,
    late_tokens: o.LateTokens = None,
    late_overlap: o.LateOverlap = None,
    pooling: o.Pooling = None,
    landmark_tokens: o.LandmarkTokens = None,
    extend: o.Extend = None,
    target_tokens: o.TargetTokens = None,
    original_tokens: o.OriginalTokens = None,
    temperature: o.Temperature = None,
    logn: o.LogNOption = None,
    extend_option: o.ExtendOption = None,
    device: o.Device = None,
    backend: o.Backend = None,
    precision: o.Precision = None,
    network: o.Network = False,
    quiet: Quiet = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Run tasks or benchmarks of mteb; their data comes from the local cache, or with --network from the hub."""
    with exit_codes(output):
        loading = o.given(
            max_tokens=max_tokens,
            overlap=overlap or None,
            late_tokens=late_tokens,
            late_overlap=late_overlap,
            pooling=pooling,
            landmark_tokens=landmark_tokens,
            device=device,
            backend=backend,
            precision=precision,
            network=network or None,
            extension=o.extension(extend, target_tokens, original_tokens, temperature, logn, extend_option),
        )
        asked = Asked(
            system, encoder, loading, mode, search_level, o.given(overflow=overflow, level=level, recipe=recipe)
        )

        def find(records: Records) -> list[Any]:
            from unabridged.apps.integrations.mteb_tasks import named_tasks

            return named_tasks(names, records)

        _run(asked, find, out, local=False, quiet=quiet, output=output)


@evaluation.command("longembed-data")
def longembed_data(
    out: Annotated[Path, typer.Argument(help="Folder to make the data sets in.")],
    lengths: Lengths = None,
    seed: Annotated[int, typer.Option("--seed", help="Of names, numbers and places.")] = 0,
    raw: Annotated[
        list[str] | None,
        typer.Option("--raw", help=f"NAME=FOLDER of published rows to convert instead; NAME is one of {NAMES}."),
    ] = None,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Make folders for ``eval longembed --data``: passkey and needle in our own wording, or from published rows."""
    with exit_codes(output):
        from unabridged.apps.integrations.longembed_folder import convert, generate
        from unabridged.eval.synth.passkey import LENGTHS

        check_folder(out, "OUT")
        if raw:
            made = [convert(folder, out / name, name) for name, folder in map(_raw, raw)]
        else:
            made = generate(out, LENGTHS if lengths is None else numbers(lengths, "--lengths"), seed)
        if output is Output.JSON:
            emit({"folders": [str(folder) for folder in made]})
        else:
            for folder in made:
                say(f"made {folder}")


@dataclass(frozen=True, slots=True)
class Asked:
    """A system, as the command line names it."""

    system: System
    encoder: str | None
    loading: Mapping[str, Any]
    mode: Mode
    search_level: Level
    building: Mapping[str, Any]

    def model(self, out: Path, records: Records, listener: Listener | None) -> tuple[Any, dict[str, Any]]:
        """The mteb model, and its description."""
        from unabridged.apps.integrations.mteb_encoder import MtebEncoder
        from unabridged.apps.integrations.mteb_search import MtebSearch
        from unabridged.apps.pipeline import Pipeline
        from unabridged.retrievers.api import settings_from

        if self.system is System.VECTOR:
            self._check_vector()
            encoder = load_encoder(self.encoder, **self.loading)
            overflow = {name: value for name, value in settings_from(self.building).items() if name == "overflow"}
            vector = MtebEncoder(encoder, records=records, **overflow)
            return vector, {"kind": "vector", "overflow": vector.overflow.value}
        encoder = load_for_mode(self.mode, self.encoder, self.loading)
        pipeline = Pipeline(self.mode, self.search_level, dict(self.building))
        model = MtebSearch(encoder, out / "indexes", pipeline, records=records, listener=listener)
        return model, pipeline.as_json()

    def _check_vector(self) -> None:
        idle = [name for name in ("level", "recipe") if name in self.building]
        idle += ["mode"] if self.mode is not Mode.HYBRID else []
        idle += ["search-level"] if self.search_level is not Level.DOC else []
        if idle:
            raise UsageError(f"--{idle[0]} belongs to an index, and --as vector makes none. Leave one of them out.")


def _run(
    asked: Asked, find: Callable[[Records], Sequence[Any]], out: Path, *, local: bool, quiet: bool, output: Output
) -> None:
    """Evaluates and prints; exits with 7 when some tasks could not be run."""
    from unabridged.apps.integrations.mteb_hub import hub
    from unabridged.apps.integrations.mteb_records import Records
    from unabridged.apps.integrations.mteb_run import means, run_tasks, save_report

    check_folder(out / "work", "--out")
    network = bool(asked.loading.get("network"))
    with (
        tempfile.TemporaryDirectory(dir=out / "work", prefix="hub-") as scratch,
        hub(Path(scratch), network=network, local=local),
        progress(quiet) as listener,
    ):
        kept = Records()
        model, system = asked.model(out, kept, listener)
        meta = model.mteb_model_meta
        model.records = records = Records(out / "records" / meta.model_name_as_path() / meta.revision)
        outcome = run_tasks(model, find(records), out, records)
        report = save_report(out, model, system, outcome)
    body = {"name": meta.name, "revision": meta.revision, "tasks": means(outcome.rows)}
    if output is Output.JSON:
        rows = [asdict(row) for row in outcome.rows]
        emit({**body, "rows": rows, "errors": dict(outcome.errors), "report": str(report)})
    else:
        say(f"{meta.name} at revision {meta.revision}")
        say(aligned(table(outcome.rows)))
        for line in places(outcome.rows):
            say(line)
        for name, score in body["tasks"].items():
            say(f"{name}: {score:.4f}, the mean over its splits")
        for line in notes(outcome.rows, outcome.errors):
            say(line)
        say(f"wrote {report}; results for mteb are in {out / 'results'}")
    if outcome.errors:
        raise SystemExit(EXIT_PARTIAL)


def table(rows: Sequence[Row]) -> list[list[str]]:
    """The rows as text, a head first."""
    head = ["task", "split", "measure", "score", "95 % interval", "queries", "missing", "documents cut", "tokens cut"]
    body = []
    for row in rows:
        ends = "" if row.low is None else f"{row.low:.4f}-{row.high:.4f}"
        cut = [_percent(row.documents_cut), _percent(row.tokens_cut)]
        counts = [_number(row.queries), _number(row.missing)]
        speed = _number(row.tokens_per_second)
        body.append([row.task, _split(row), row.measure, f"{row.score:.4f}", ends, *counts, *cut, speed])
    return [[*head, "tokens/s"], *body]


def places(rows: Sequence[Row]) -> list[str]:
    """The scores by length of the relevant document and by depth of the evidence, where they are known."""
    lines = []
    for row in rows:
        held = bin_lines(row.by_length, row.by_depth, row.measure)
        lines += (
            [f"{row.task} {_split(row)}, {row.measure} by length and depth of what answers:", *held] if held else []
        )
    return lines


def notes(rows: Sequence[Row], errors: Mapping[str, str]) -> list[str]:
    """What a reader of the table must know."""
    lines = [f"not run: {name}: {text}" for name, text in errors.items()]
    for row in rows:
        if row.failed_documents:
            lines.append(f"{row.task} {row.split}: {row.failed_documents:,} documents failed, and no query finds them")
    made = dict.fromkeys(row.task for row in rows if row.data == "generated")
    if made:
        lines.append(f"{', '.join(made)}: generated in our own wording; not to be compared with published results")
    return lines


def _raw(text: str) -> tuple[str, Path]:
    name, sign, folder = text.partition("=")
    if not sign or not folder or name not in NAMES.split(", "):
        raise UsageError(f"--raw takes NAME=FOLDER with one of {NAMES}; got {text!r}.")
    return name, Path(folder)


def _split(row: Row) -> str:
    return row.split if row.subset == "default" else f"{row.split}/{row.subset}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
