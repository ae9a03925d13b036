"""Figures as PNG, and pages of one file that need nothing else."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from unabridged._extras import require

Draw: TypeAlias = Callable[[Any], None]
"""Draws into one pair of axes."""
STYLES = ("-", "--", "-.", ":")
MARKERS = "os^Dv*PX"
FEW_NAMES = 5
"""Names of curves that find room inside a panel; more stand beside it, where they hide nothing."""


def save_panels(path: Path, panels: Sequence[Draw], title: str, columns: int = 2) -> None:
    """One PNG with the panels row by row; drawn without a display, and without touching pyplot's state.

    :class:`unabridged.errors.MissingExtra` without matplotlib.
    """
    require("matplotlib", extra="plot", purpose="plots")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(7.0 * columns, 4.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, draw in zip(axes, panels, strict=False):
        draw(place)
    for place in axes[len(panels) :]:
        place.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]],
    title: str,
    x: str,
    y: str,
    *,
    log: str = "",
    unit: bool = False,
) -> Draw:
    """A panel of named curves; ``log`` names the axes on a logarithmic scale, ``unit`` fixes y to 0..1."""

    def draw(axes: Any) -> None:
        for at, (name, points) in enumerate(series.items()):
            if points:
                style = STYLES[at // 10 % len(STYLES)]
                width = 1.2 + 3.0 * (1 - at / len(series))  # a curve below another still shows at its sides
                axes.plot(*zip(*points, strict=True), style, marker=".", lw=width, color=f"C{at % 10}", label=name)
        if "x" in log:
            ticks = sorted({at for points in series.values() for at, _ in points})
            axes.set_xscale("log", base=2)
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        if "y" in log:
            axes.set_yscale("log")
        if unit:
            axes.set_ylim(-0.03, 1.03)
        _label(axes, title, x, y, any(series.values()))

    return draw


def points(series: Mapping[str, Sequence[tuple[float, float]]], title: str, x: str, y: str) -> Draw:
    """A panel of named clouds; x is on a logarithmic scale."""

    def draw(axes: Any) -> None:
        for at, (name, found) in enumerate(series.items()):
            if found:
                axes.scatter(
                    *zip(*found, strict=True), marker=MARKERS[at % len(MARKERS)], color=f"C{at % 10}", label=name
                )
        axes.set_xscale("log")
        _label(axes, title, x, y, any(series.values()))

    return draw


def _label(axes: Any, title: str, x: str, y: str, legend: bool) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    if legend:
        many = len(axes.get_legend_handles_labels()[1]) > FEW_NAMES
        beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if many else {}
        axes.legend(fontsize=8, **beside)


def heat(rows: Mapping[str, Sequence[float | None]], title: str, x: str) -> Draw:
    """A panel of one named row per curve, coloured from 0 to 1; None stays white."""

    def draw(axes: Any) -> None:
        grid = [[float("nan") if value is None else value for value in row] for row in rows.values()]
        axes.imshow(grid, vmin=0, vmax=1, aspect="auto", cmap="viridis")
        axes.set_yticks(range(len(rows)), list(rows), fontsize=8)
        width = len(grid[0]) if grid else 0
        axes.set_xticks(range(width), [f"{at / width:.1f}" for at in range(width)])
        for at, row in enumerate(grid):
            for column, value in enumerate(row):
                if value == value:  # not NaN
                    shade = "black" if value > 0.6 else "white"
                    axes.text(column, at, f"{value:.1f}", ha="center", va="center", fontsize=7, color=shade)
        axes.set_title(title)
        axes.set_xlabel(x)

    return draw


def page(
    path: Path, title: str, picture: Path, paragraphs: Sequence[str], tables: Sequence[Sequence[Sequence[str]]]
) -> None:
    """One HTML file with the picture inside; the first row of each table is its head."""
    image = base64.b64encode(picture.read_bytes()).decode("ascii")
    body = [f"<h1>{html.escape(title)}</h1>"]
    body += [f"<p>{html.escape(text)}</p>" for text in paragraphs]
    body += [_table(table) for table in tables]
    body.append(f'<img alt="{html.escape(title)}" src="data:image/png;base64,{image}">')
    style = (
        "body{font:16px/1.5 sans-serif;margin:2em auto;max-width:75em;padding:0 1em}img{max-width:100%}"
        "table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #bbb;padding:.2em .6em;text-align:right}"
        "td:first-child,th:first-child{text-align:left}"
    )
    path.write_text(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{style}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n",
        encoding="utf-8",
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    cells = [
        "<tr>" + "".join(f"<{tag}>{_cell(cell)}</{tag}>" for cell in row) + "</tr>"
        for tag, row in [("th" if at == 0 else "td", row) for at, row in enumerate(rows)]
    ]
    return "<table>\n" + "\n".join(cells) + "\n</table>"


def _cell(text: str) -> str:
    """Escaped; ``**bold**`` and code marks of Markdown become tags."""
    marked = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", html.escape(text))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", marked)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first row is its head.  A bar inside a cell is escaped."""
    head, *rest = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rest])
