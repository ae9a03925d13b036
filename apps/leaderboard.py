"""Records of runs as tables of systems by sets, in Markdown: nothing in them is typed in by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unabridged.apps.plots import markdown
from unabridged.apps.runs import QUERIES, RECORD, Record, configuration, read_queries, read_record
from unabridged.errors import CorpusError, MissingFile, UsageError
from unabridged.eval.significance import holm, randomization_p

Table: TypeAlias = list[list[str]]
"""Rows of cells; the first is the head."""
MEAN = "mean"
MARKED = 0.05
"""Corrected p below this is marked."""
UNMEASURED = "An empty cell was not measured."
RATES = (
    "Systems that differ in search alone share one index: tokens/s and index MB of word search (BM25) are those of the "
    "index that it shares with an encoder, whose vectors are in it.  Rates are of the machine as it was at that time; "
    "between rows that were made at other times they cannot be compared."
)
"""What tokens/s, size and latency do not say."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished run: its record, and the value of its first measure for each query."""

    folder: Path
    record: Record
    values: Mapping[str, float]

    @property
    def system(self) -> str:
        """The name of the system."""
        return str(self.record["system"]["name"])

    @property
    def set(self) -> str:
        """The name of the set."""
        return str(self.record["set"]["name"])

    @property
    def measure(self) -> str:
        """The measure by which systems are compared."""
        return str(self.record["primary"])


def collect(out: Path) -> list[Entry]:
    """Every finished run below ``out``, by path.

    Raises:
        MissingFile: there is none.
        ValidationError: a record or its values are damaged.
    """
    paths = sorted(out.rglob(RECORD)) if out.is_dir() else []
    if not paths:
        raise MissingFile(
            f"There is no {RECORD} below {out}. Evaluate something first: unabridged eval beir SET --out {out}"
        )
    found = []
    for path in paths:
        record = read_record(path)
        measure = record["primary"]
        rows = read_queries(path.with_name(QUERIES), [measure])
        found.append(Entry(path.parent, record, {row["query"]: float(row["values"][measure]) for row in rows}))
    return found


class Board:
    """Entries by system and set; Q differs by set, and every system of a set has the same queries."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.systems = list(dict.fromkeys(entry.system for entry in entries))
        self.sets = list(dict.fromkeys(entry.set for entry in entries))
        self._cells = {(entry.system, entry.set): entry for entry in entries}
        _check(entries)

    def check_baseline(self, name: str | None) -> None:
        """:class:`UsageError` if ``name`` is no system of this board."""
        if name is not None and name not in self.systems:
            raise UsageError(f"there is no system {name!r} to compare with; there are {', '.join(self.systems)}.")

    def ordered(self, systems: Sequence[str], sets: Sequence[str]) -> Board:
        """The same with named systems and sets first, in that order."""
        place = {name: at for at, name in enumerate(systems)}
        spot = {name: at for at, name in enumerate(sets)}
        key = [(place.get(e.system, len(place)), spot.get(e.set, len(spot)), e.system, e.set) for e in self.entries]
        return Board([self.entries[at] for at in sorted(range(len(key)), key=key.__getitem__)])

    def cell(self, system: str, name: str) -> Entry | None:
        """The run of a system on a set."""
        return self._cells.get((system, name))

    def value(self, system: str, name: str, measure: str) -> float | None:
        """The value of a measure, 0 to 1; the mean over all sets for :data:`MEAN`, None unless all are there."""
        if name == MEAN:
            found = [self.value(system, one, measure) for one in self.sets]
            known = [value for value in found if value is not None]
            return float(np.mean(known)) if len(known) == len(found) else None
        entry = self.cell(system, name)
        if entry is None or measure not in entry.record["measures"]:
            return None
        return float(entry.record["measures"][measure]["value"])

    def against(self, system: str, other: str, name: str) -> tuple[NDArray[np.float64], float] | None:
        """Per-query differences of the first measure on a set, and the randomisation p; None if a run is missing."""
        a, b = self.cell(system, name), self.cell(other, name)
        if a is None or b is None:
            return None
        shared = sorted(a.values.keys() & b.values.keys())
        left, right = (np.array([entry.values[query] for query in shared]) for entry in (a, b))
        return left - right, randomization_p(left, right)


def _check(entries: Sequence[Entry]) -> None:
    """Refuses what would put unlike numbers side by side."""
    seen: dict[tuple[str, str], Path] = {}
    for entry in entries:
        first = seen.setdefault((entry.system, entry.set), entry.folder)
        if first != entry.folder:
            raise CorpusError(
                f"{entry.system} on {entry.set} is there twice, in {first} and in {entry.folder}; move one away."
            )
    _alike(
        entries,
        lambda one: one.set,
        lambda one: one.record["set"]["revision"],
        "The runs on {} are of {} different contents",
    )
    _alike(
        entries,
        lambda one: one.system,
        lambda one: configuration(one.record["system"]),
        "The runs of {} are of {} different systems (encoder, settings or scoring)",
    )
    _alike(entries, lambda _: "", lambda one: one.measure, "The runs{} have {} different first measures (-m)")


def _alike(entries: Sequence[Entry], key: Callable[[Entry], str], fact: Callable[[Entry], str], said: str) -> None:
    found: dict[str, set[str]] = {}
    for entry in entries:
        found.setdefault(key(entry), set()).add(fact(entry))
    for name, facts in found.items():
        if len(facts) > 1:
            raise CorpusError(f"{said.format(name, len(facts))}; run them again alike, or under names of their own.")


def scores(board: Board, measure: str) -> Table:
    """A table of a measure in hundredths with half the width of its 95 % interval; the best of each column is bold."""
    columns = [*board.sets, MEAN]
    best = {
        name: max((v for s in board.systems if (v := board.value(s, name, measure)) is not None), default=0.0)
        for name in columns
    }

    def shown(system: str, name: str) -> str:
        value = board.value(system, name, measure)
        if value is None:
            return ""
        text = f"{100 * value:.1f}"
        text = f"**{text}**" if round(value, 3) == round(best[name], 3) else text
        entry = board.cell(system, name)
        if entry is None:
            return text
        found = entry.record["measures"][measure]
        return f"{text} ±{50 * (found['high'] - found['low']):.1f}"

    return table(board.systems, columns, shown)


def differences(board: Board, baseline: str) -> Table:
    """Each system less ``baseline``, in hundredths; ``*`` where Holm's corrected p is below :data:`MARKED`."""
    others = [system for system in board.systems if system != baseline]
    cells = {
        (system, name): found
        for system in others
        for name in board.sets
        if (found := board.against(system, baseline, name)) is not None
    }
    corrected = dict(zip(cells, holm([p for _, p in cells.values()]), strict=True))

    def shown(system: str, name: str) -> str:
        found = cells.get((system, name))
        if found is None:
            return ""
        return f"{100 * float(found[0].mean()):+.1f}{'*' if corrected[system, name] < MARKED else ''}"

    return table(others, board.sets, shown)


def costs(board: Board) -> Table:
    """Share of tokens and documents not read, speed, size, latency, by system and set."""
    rows = [["system", "set", "not read", "cut", "tokens/s", "index MB", "ms per query (p95)", "missing", "tied"]]
    for entry in board.entries:
        cover, speed = entry.record["coverage"], entry.record["speed"]
        unread = 1 - cover["tokens_seen"] / max(1, cover["tokens_total"])
        rate = speed["tokens_per_second"]
        rows.append([
            entry.system,
            entry.set,
            f"{100 * unread:.1f} %",
            f"{cover['truncated']:,} of {cover['documents']:,}",
            "" if rate is None else f"{rate:,.0f}",
            f"{entry.record['index']['bytes'] / 1e6:.1f}",
            f"{speed['query_ms_p50']:.1f} ({speed['query_ms_p95']:.1f})",
            str(len(entry.record["missing"])),
            str(entry.record["tied"]),
        ])  # fmt: skip
    return rows


def contents(board: Board) -> Table:
    """What the sets are."""
    facts = {entry.set: entry.record["set"] for entry in board.entries}
    rows = [["set", "documents", "queries", "duplicate texts", "content"]]
    for name in board.sets:
        one = facts[name]
        share = f"{100 * one['duplicate_share']:.1f} %"
        rows.append([name, f"{one['documents']:,}", f"{one['queries']:,}", share, f"`{one['revision'][:12]}`"])
    return rows


def pooled(board: Board, which: str) -> dict[tuple[str, float], tuple[float, int]]:
    """System and start of a bin (``by_length``, ``by_depth``) -> mean of the first measure over all sets, queries."""
    sums: dict[tuple[str, float], tuple[float, int]] = {}
    for entry in board.entries:
        for one in entry.record[which]:
            total, count = sums.get((entry.system, one["from"]), (0.0, 0))
            place = entry.system, one["from"]
            sums[place] = total + one["queries"] * one[entry.measure], count + one["queries"]
    return {place: (total / count, count) for place, (total, count) in sums.items()}


def bins(board: Board, which: str, label: Callable[[Mapping[str, Any]], str]) -> Table:
    """The first measure by bins of ``by_length`` or ``by_depth``, pooled over all sets; nothing without bins."""
    labels = {one["from"]: label(one) for entry in board.entries for one in entry.record[which]}
    if not labels:
        return []
    cells = {(system, labels[at]): mean for (system, at), mean in pooled(board, which).items()}

    def shown(system: str, name: str) -> str:
        mean, count = cells.get((system, name), (0.0, 0))
        return f"{100 * mean:.1f} ({count})" if count else ""

    columns = [labels[at] for at in sorted(labels)]
    return table(board.systems, columns, shown)


def winners(board: Board) -> list[str]:
    """What wins, said plainly: for every set the best system, the next, and whether they can be told apart."""
    lines = []
    measure = board.entries[0].measure
    for name in board.sets:
        ranked = sorted(
            (s for s in board.systems if board.cell(s, name)), key=lambda s: -(board.value(s, name, measure) or 0.0)
        )
        if len(ranked) < 2:
            continue
        found = board.against(ranked[0], ranked[1], name)
        if found is None:
            continue
        apart = "" if found[1] < MARKED else ", which this set cannot tell from chance"
        lines.append(
            f"- **{name}**: {ranked[0]} is best, {100 * float(found[0].mean()):.1f} above {ranked[1]} "
            f"(p {_p(found[1])}{apart})."
        )
    return lines


def _p(value: float) -> str:
    """No p is 0."""
    return f"= {value:.3f}" if value >= 0.001 else "< 0.001"


def table(rows: Sequence[str], columns: Sequence[str], shown: Callable[[str, str], str]) -> Table:
    """A head, and one row for each of ``rows``."""
    return [["", *columns], *([row, *(shown(row, column) for column in columns)] for row in rows)]


def tokens_label(one: Mapping[str, Any]) -> str:
    """A bin of lengths for people."""
    return f"{one['from']:,}+" if one["to"] is None else f"{one['from']:,}-{one['to']:,}"


def depth_label(one: Mapping[str, Any]) -> str:
    """A tenth of a document for people."""
    return f"{one['from']:.1f}-{one['to']:.1f}"


def render(board: Board, baseline: str | None, command: str) -> str:
    """The whole page."""
    measure = board.entries[0].measure
    rest = [name for name in board.entries[0].record["measures"] if name != measure]
    lines = ["# Results", "", f"Made by `{command}` from the records of its runs.  {UNMEASURED}", ""]
    lines += [markdown(contents(board))]
    lines += ["", f"## {measure}", "", "In hundredths, with half the width of the 95 % bootstrap interval.", ""]
    lines += [markdown(scores(board, measure)), ""]
    told = winners(board)
    lines += ["What wins:", "", *told, ""] if told else []
    if baseline is not None and baseline in board.systems and len(board.systems) > 1:
        lines += [f"## Difference to {baseline}", "", f"{measure}, paired; `*`: Holm's p below {MARKED}.", ""]
        lines += [markdown(differences(board, baseline)), ""]
    for name in rest:
        lines += [f"## {name}", "", markdown(scores(board, name)), ""]
    for title, which, label in (
        (f"{measure} by tokens of the relevant document", "by_length", tokens_label),
        (f"{measure} by depth of the evidence", "by_depth", depth_label),
    ):
        held = bins(board, which, label)
        if held:
            lines += [f"## {title}", "", "All sets pooled; number of queries in parentheses.", "", markdown(held), ""]
    lines += ["## What it costs", "", markdown(costs(board)), "", f"{RATES}  {UNMEASURED}", "", "## Versions", ""]
    seen = dict.fromkeys(json.dumps(entry.record["versions"], sort_keys=True) for entry in board.entries)
    for text in seen:
        lines.append(", ".join(f"{name} {value}" for name, value in json.loads(text).items()) + ".")
    return "\n".join(lines) + "\n"
