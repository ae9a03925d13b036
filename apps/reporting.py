"""Runs as one HTML page: tables, and plots of score by length, by depth, by both, and against latency."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from unabridged.apps import plots
from unabridged.apps.bins import LENGTHS, TENTHS
from unabridged.apps.leaderboard import (
    Board,
    Entry,
    bins,
    contents,
    costs,
    depth_label,
    differences,
    pooled,
    scores,
    tokens_label,
    winners,
)
from unabridged.apps.runs import QUERIES

PAGE = "report.html"
LEAST = LENGTHS[0] / 2
"""Where the shortest bin of lengths is drawn."""
MOST_MAPS = 6
"""Systems that get a map of length by depth."""


def write_report(board: Board, out: Path, baseline: str | None) -> Path:
    """Writes :data:`PAGE` into ``out`` and returns its path; it needs no other file and no network.

    :class:`unabridged.errors.MissingExtra` without matplotlib.
    """
    measure = board.entries[0].measure
    tables = [contents(board), scores(board, measure)]
    if baseline is not None and baseline in board.systems and len(board.systems) > 1:
        tables.append(differences(board, baseline))
    tables += [held for held in (bins(board, "by_length", tokens_label), bins(board, "by_depth", depth_label)) if held]
    tables.append(costs(board))
    said = [
        f"{measure} in hundredths, with half the width of the 95 % bootstrap interval; means by length and depth are "
        "over all sets, with the number of queries in parentheses.",
        *(line.removeprefix("- ").replace("**", "") for line in winners(board)),
    ]
    with tempfile.TemporaryDirectory() as work:
        picture = Path(work) / "report.png"
        plots.save_panels(picture, panels(board), f"{measure} of {len(board.systems)} systems")
        path = out / PAGE
        plots.page(path, "unabridged: report", picture, said, tables)
    return path


def panels(board: Board) -> list[plots.Draw]:
    """The plots, those without data left out."""
    measure = board.entries[0].measure
    found = []
    for which, x, title in (
        ("by_length", "tokens of the relevant document, at least", "by length"),
        ("by_depth", "where the evidence begins", "by depth of the evidence"),
    ):
        series = {system: _series(board, system, which) for system in board.systems}
        if any(series.values()):
            held = {system: curve for system, curve in series.items() if curve}
            log = "x" if which == "by_length" else ""
            found.append(plots.lines(held, f"{measure} {title}", x, measure, log=log, unit=True))
    latency = {
        system: [
            (entry.record["speed"]["query_ms_p50"], entry.record["measures"][measure]["value"])
            for entry in board.entries
            if entry.system == system
        ]
        for system in board.systems
    }
    found.append(plots.points(latency, "quality and latency, a point for each set", "ms per query (median)", measure))
    for system in board.systems[:MOST_MAPS]:
        grid = length_by_depth([entry for entry in board.entries if entry.system == system])
        if grid:
            found.append(plots.heat(grid, f"{system}: {measure} by length and depth", "depth of the evidence"))
    return found


def _series(board: Board, system: str, which: str) -> list[tuple[float, float]]:
    least = LEAST if which == "by_length" else 0.0  # a logarithmic axis has no 0
    found = {at: mean for (name, at), (mean, _) in pooled(board, which).items() if name == system}
    return [(max(float(at), least), found[at]) for at in sorted(found)]


def length_by_depth(entries: Sequence[Entry]) -> Mapping[str, Sequence[float | None]]:
    """Mean of the first measure for each bin of lengths, by tenth of depth; nothing where no depth is known."""
    cells: dict[tuple[int, int], list[float]] = {}
    for entry in entries:
        for line in (entry.folder / QUERIES).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["depth"] is not None and row["tokens"] is not None:
                place = int(np.searchsorted(LENGTHS, row["tokens"], side="right"))
                tenth = min(TENTHS - 1, int(row["depth"] * TENTHS))
                cells.setdefault((place, tenth), []).append(float(row["values"][entry.measure]))
    edges = (0, *LENGTHS)
    grid: dict[str, list[float | None]] = {}
    for place in sorted({place for place, _ in cells}):
        held = [cells.get((place, tenth)) for tenth in range(TENTHS)]
        grid[f"{edges[place]:,}+"] = [None if values is None else float(np.mean(values)) for values in held]
    return grid
