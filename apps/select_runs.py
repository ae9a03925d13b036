"""``eval select``: selectors of passages judged by the evidence that they find, on synthetic and on real texts.

single, niah, vartrack and twohop are made (:mod:`unabridged.eval.synth`); a folder is a real set whose answers are
marked (``evidence.jsonl``).  A text is cut into passages, a selector scores them for its question, and what fits an
allowance of words, best first, is the context; no language model has to answer.  One record for each set, length and
selector, so that an interrupted line continues::

    OUT/selections/TASK/SELECTOR-HASH.json    the same as for ``eval synth``: what was printed, and its settings
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

import unabridged
from unabridged.apps import options as o
from unabridged.apps.advising import aligned, numbers
from unabridged.apps.evaluating import evaluation
from unabridged.apps.generating import ALSO, SAMPLES, Order, Task, task_named
from unabridged.apps.output import Output, complain, emit, exit_codes, say
from unabridged.apps.selector_names import SelectorOptions, identity, load_selector, options_of
from unabridged.apps.synth_runs import ALLOWANCE, FORMAT, RETRIEVAL, STRETCH, kept_record, made_folder, record_place
from unabridged.apps.versions import versions
from unabridged.errors import UsageError
from unabridged.eval._set import facts
from unabridged.eval.choices import Case, Choice, case_of, cases_of, judge, summary
from unabridged.eval.evidence import read_evidence
from unabridged.eval.sets import read_set
from unabridged.eval.synth import sentences
from unabridged.eval.synth.folders import read_samples
from unabridged.eval.synth.selection import Span
from unabridged.files import write_atomic
from unabridged.rankers.contracts import by_score
from unabridged.rankers.select.contracts import Cost, Passage, Selector

SINGLE = "single"
"""niah with one key: the needle that stands alone."""
LENGTHS = "10667"
"""Nominal tokens: 8,000 words."""


@dataclass(frozen=True, slots=True)
class Source:
    """Cases of one kind, and what identifies them."""

    task: str
    length: int | None
    """Nominal tokens; None of a real set."""
    settings: Mapping[str, Any]
    cases: Sequence[Case]


@evaluation.command()
def select(  # noqa: PLR0913 - one parameter per option
    sources: Annotated[
        list[str],
        typer.Argument(help="single, niah, vartrack (vt), twohop (multihop), or folders with evidence.jsonl."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for samples and records; the same line continues.")],
    selectors: Annotated[
        list[str] | None,
        typer.Option("--selector", help="bm25, vectors:ENCODER, hybrid, linked, bm25>xl3m, ...; may be repeated."),
    ] = None,
    lengths: Annotated[str, typer.Option("--lengths", help="Nominal tokens of made texts, comma-separated.")] = LENGTHS,
    samples: Annotated[int, typer.Option("--samples", help="Of each length; of a real set the most.")] = SAMPLES,
    seed: Annotated[int, typer.Option("--seed", help="Of all that is drawn.")] = 0,
    allowance: Annotated[int, typer.Option("--allowance", help="Words of context that may be chosen.")] = ALLOWANCE,
    stretch: Annotated[int, typer.Option("--stretch", help="Sentences of a passage.")] = STRETCH,
    depth: Annotated[
        int | None, typer.Option("--depth", help="Passages that go from stage to stage, as in bm25>xl3m [32].")
    ] = None,
    device: o.Device = None,
    network: o.Network = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show calls and tokens of models.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Judge selectors of passages by the evidence that they find within an allowance of words."""
    with exit_codes(output):
        if min(allowance, stretch, samples) < 1:
            raise UsageError(
                f"--allowance, --stretch and --samples must be at least 1, got {allowance}, {stretch} and {samples}."
            )
        named = list(dict.fromkeys(selectors or ["bm25", "linked"]))
        loaded = [load_selector(one, _options(one, depth, device, network=network)) for one in named]
        asked = list(dict.fromkeys(numbers(lengths, "--lengths")))
        rows: list[dict[str, Any]] = []
        for source in _sources(sources, out, asked, samples, seed, allowance, stretch):
            for name, selector in zip(named, loaded, strict=True):
                if dry_run:
                    rows.append(_planned(source, name, selector))
                    continue
                rows.append(_row(source, name, selector, out, allowance))
                if not quiet:
                    complain(_told(rows[-1]))
        _show(rows, output, dry_run=dry_run)


def chosen(case: Case, selector: Selector, allowance: int) -> Choice:
    """What ``selector`` puts into the context of a case; passages without a score are not chosen."""
    start = time.perf_counter()
    found = selector.score(case.question, passages_of(case))
    seconds = time.perf_counter() - start
    ranked = [row for row in by_score(found.scores) if found.scores[row] is not None]
    return replace(
        judge(case, ranked, allowance),
        seconds=seconds,
        calls=found.spent.calls,
        tokens=found.spent.usage.total,
        unscored=len(case.passages) - len(ranked),
    )


def passages_of(case: Case) -> list[Passage]:
    """The passages of a case, as selectors take them."""
    return [Passage(case.id, start, end, case.text[start:end]) for start, end in case.passages]


def stretches(text: str, stretch: int) -> list[Span]:
    """A real text in passages of ``stretch`` sentences, the last one with what is left."""
    from unabridged.rankers.select.splitting import sentences as split

    spans = split(text)
    return [(spans[at][0], spans[min(at + stretch, len(spans)) - 1][1]) for at in range(0, len(spans), stretch)]


def _options(name: str, depth: int | None, device: str | None, *, network: bool) -> SelectorOptions:
    """The options that this selector takes: one line names several, and words have no device."""
    given = {"depth": depth, "device": device, "network": network}
    known = options_of(name)
    return SelectorOptions(**{key: value for key, value in given.items() if key in known})  # type: ignore[arg-type]


def _sources(
    named: Sequence[str], out: Path, lengths: Sequence[int], samples: int, seed: int, allowance: int, stretch: int
) -> Iterator[Source]:
    """The cases of every name, made or read one after the other."""
    orders = {ALSO[name].value if name in ALSO else name: _order(name, lengths, samples, seed) for name in named}
    for name, order in orders.items():
        if order is None:
            yield _real(Path(name), samples, allowance, stretch)
            continue
        for length in lengths:
            made = read_samples(made_folder(order, length, out / "sets"))
            settings = {"generator": sentences.VERSION, "seed": seed, "samples": samples, "stretch": stretch}
            cases = [case_of(one, stretch) for one in made]
            yield Source(SINGLE if name == SINGLE else order.task.value, length, settings, cases)


def _order(name: str, lengths: Sequence[int], samples: int, seed: int) -> Order | None:
    """What is to be made under this name; None for a folder."""
    if name == SINGLE:
        return Order(Task.NIAH, lengths, seed, options={"samples": samples, "keys": 1})
    known = {task.value for task in Task if task not in RETRIEVAL} | set(ALSO)
    if name in known:
        return Order(task_named(name), lengths, seed, options={"samples": samples})
    if not Path(name).is_dir():
        listed = ", ".join([SINGLE, *sorted(known)])
        raise UsageError(f"{name!r} is neither a folder nor one of {listed}. passkey and needle are retrieval sets.")
    return None


def _real(folder: Path, samples: int, allowance: int, stretch: int) -> Source:
    whole, evidence = read_set(folder), read_evidence(folder)
    cases, short = cases_of(whole, evidence, lambda text: stretches(text, stretch), allowance=allowance, most=samples)
    settings = {"revision": facts(whole).revision, "short": short, "samples": samples, "stretch": stretch}
    return Source(whole.name, None, settings, cases)


def _row(source: Source, name: str, selector: Selector, out: Path, allowance: int) -> dict[str, Any]:
    """What was found, now or by the same selector under the same settings before."""
    settings = {
        "task": source.task,
        "length": source.length,
        **source.settings,
        "allowance": allowance,
        "selector": identity(selector),
        "unabridged": unabridged.__version__,
    }
    path = record_place(out, name.replace(">", " to "), settings)
    record = kept_record(path, name, settings)
    if record is None:
        found = [chosen(case, selector, allowance) for case in source.cases]
        whole = asdict(summary(source.cases, found, allowance))
        row = {"task": source.task, "length": source.length, "selector": name, **whole}
        record = {
            "format": FORMAT,
            "system": name,
            "settings": settings,
            "versions": versions(),
            "selections": [row],
            "cases": [{"id": case.id, **asdict(one)} for case, one in zip(source.cases, found, strict=True)],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())
    return {**record["selections"][0], "record": str(path)}


def _planned(source: Source, name: str, selector: Selector) -> dict[str, Any]:
    cost = sum((selector.cost(case.question, passages_of(case)) for case in source.cases), Cost())
    cases = len(source.cases)
    return {"task": source.task, "length": source.length, "selector": name, "cases": cases, **asdict(cost)}


def _told(row: Mapping[str, Any]) -> str:
    size = "" if row["length"] is None else f" {row['length']:,}"
    return f"{row['task']}{size} by {row['selector']}: evidence recall {row['recall']['value']:.3f}"


def _show(rows: Sequence[Mapping[str, Any]], output: Output, *, dry_run: bool) -> None:
    if output is Output.JSON:
        emit({"planned": rows} if dry_run else {"selections": rows})
        return
    if dry_run:
        body = [
            [_name(row), row["selector"], *(f"{row[key]:,}" for key in ("cases", "calls", "tokens"))] for row in rows
        ]
        say(aligned([["texts", "selector", "cases", "calls", "tokens"], *body]))
        return
    head = ["texts", "words", "cases", "selector", "evidence recall", "95 % interval", "all evidence", "some evidence"]
    body = [
        [_name(row), f"{row['words']:,.0f}", str(row["cases"]), row["selector"], f"{row['recall']['value']:.3f}"]
        + [f"{row['recall']['low']:.3f}-{row['recall']['high']:.3f}"]
        + [f"{row[key]['value']:.3f}" for key in ("all_evidence", "hit", "precision")]
        + [f"{row['seconds']:.2f}", f"{row['calls']:,.0f}", f"{row['tokens']:,.0f}"]
        for row in rows
    ]
    say(aligned([[*head, "precision", "s/text", "calls", "tokens"], *body]))
    say("")
    say("evidence recall by depth, in tenths of the text (- where no evidence stands):")
    tenths = [["-" if share is None else f"{share:.2f}" for _, share in row["by_depth"]] for row in rows]
    deep = [[_name(row), row["selector"], *own] for row, own in zip(rows, tenths, strict=True)]
    say(aligned([["texts", "selector", *(f"{10 * tenth} %" for tenth in range(len(tenths[0])))], *deep]))
    for row in rows:
        say(f"record: {row['record']}")


def _name(row: Mapping[str, Any]) -> str:
    return str(row["task"]) if row["length"] is None else f"{row['task']} {row['length']:,}"
