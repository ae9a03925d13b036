"""The ``eval`` commands: measures of encoders and of rankings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from unabridged.apps import options as o
from unabridged.apps import plots
from unabridged.apps.advising import aligned, numbers, words
from unabridged.apps.loading import load_corpus
from unabridged.apps.output import Output, complain, emit, exit_codes, say
from unabridged.apps.places import check_plot
from unabridged.contracts import Document, Encoder, Level, OverflowPolicy
from unabridged.encoders.layers import layer_states
from unabridged.encoders.load import load_encoder
from unabridged.errors import UsageError
from unabridged.eval.collapse import by_length, high_frequency

evaluation = typer.Typer(help="Measure encoders and rankings.", no_args_is_help=True)
BINS = "0,64,128,256,512"
CHARACTERS = 20_000_000
"""Of a corpus at most this much is read."""


@evaluation.callback()
def root() -> None:
    """Measure encoders and rankings."""


@evaluation.command()
def collapse(  # noqa: PLR0913 - one parameter per option
    sources: o.Sources,
    encoder: o.EncoderOption = None,
    temperatures: Annotated[
        str, typer.Option("--temperatures", help="Attention temperatures, comma-separated.")
    ] = "1,0.9,0.8,0.7",
    bins: Annotated[str, typer.Option("--bins", help="Where each bin of lengths begins, in tokens.")] = BINS,
    prefixes: Annotated[
        bool, typer.Option("--prefixes", help="Read each document up to every bin's end, so that only length differs.")
    ] = False,
    sample: Annotated[int, typer.Option("--sample", help="Texts per bin for the energy of each layer; 0: none.")] = 8,
    max_tokens: o.MaxTokens = None,
    extend: Annotated[str | None, typer.Option("--extend", help="pcw, gp, rp, pi, ntk or selfextend.")] = None,
    target_tokens: Annotated[int | None, typer.Option("--target-tokens", help="What --extend reads.")] = None,
    format: o.Format = None,  # noqa: A002 - the name of the option
    text_field: o.TextField = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Folder for a PNG and a table.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Measure how alike the vectors of long texts become, and how attention temperature changes that."""
    with exit_codes(output):
        edges = [0, *[edge for edge in numbers(bins.removeprefix("0,"), "--bins") if edge > 0]]
        if sample < 0:
            raise UsageError(f"--sample must be at least 0 (0: no energies), got {sample}.")
        check_plot(plot, "collapse")
        texts = _texts(load_corpus(sources, o.given(format=format, text_field=text_field)))
        loading = o.given(max_tokens=max_tokens, extend=extend, target_tokens=target_tokens)
        rows: list[dict[str, Any]] = []
        reading = Reading(0, 0, 1.0)
        for temperature in _temperatures(temperatures):
            chosen = load_encoder(encoder, temperature=temperature, **loading)
            read = _prefixes(chosen, texts, edges) if prefixes else texts
            found, reading = measured(chosen, read, edges, sample, temperature)
            rows += found
            if not quiet:
                complain(f"temperature {temperature:g}: {len(read):,} texts")
        files = [] if plot is None else save(plot, rows, reading.as_text())
        if output is Output.JSON:
            emit({"texts": len(texts), **asdict(reading), "bins": rows, "files": files})
        else:
            say(aligned(table(rows)))
            say(reading.as_text())
            for file in files:
                say(f"wrote {file}")


@dataclass(frozen=True, slots=True)
class Reading:
    """How much was read of the texts that a comparison is about; the temperature changes nothing of it."""

    window: int
    """Tokens, specials and prompt included."""
    cut: int
    """Texts that were not read to their end."""
    read: float
    """Share of all content tokens that were read."""

    def as_text(self) -> str:
        """One line for people."""
        return f"{self.cut:,} texts longer than the window of {self.window:,} tokens were cut; {self.read:.1%} was read"


def measured(
    encoder: Encoder, texts: Sequence[str], edges: Sequence[int], sample: int, temperature: float
) -> tuple[list[dict[str, Any]], Reading]:
    """One row per bin: cosine, variance, and the mean high-frequency energy after each layer; and what was read."""
    encoded = encoder.encode_documents(texts, level=Level.DOC, overflow=OverflowPolicy.TRUNCATE)
    if encoded.documents is None:
        raise UsageError("The encoder gives no document vectors.")
    tokens = encoded.coverage.seen
    held = tokens > 0
    found = by_length(encoded.documents[held], tokens[held], edges)
    place = np.searchsorted(np.asarray(edges), tokens, side="right") - 1
    rows = []
    for at, one in enumerate(found):
        own = np.flatnonzero(held & (place == at))[:sample]
        states = layer_states(encoder, [texts[row] for row in own]) if len(own) else iter(())
        energies = [[high_frequency(state) for state in layers] for layers in states]
        energy = np.mean(energies, axis=0).tolist() if energies else []
        rows.append({"temperature": temperature, **asdict(one), "energy": energy})
    total, seen = int(encoded.coverage.total.sum()), int(tokens.sum())
    return rows, Reading(encoder.window, encoded.coverage.truncated, seen / max(total, 1))


def table(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Rows as text, a head first."""
    head = ["tokens", "temperature", "texts", "mean cosine", "variance", "energy in", "energy out"]
    body = []
    for row in sorted(rows, key=lambda row: (row["first"], -row["temperature"])):
        span = f"{row['first']:,}-" + ("" if row["end"] is None else f"{row['end'] - 1:,}")
        values = [row["cosine"], row["variance"], *(row["energy"][at] if row["energy"] else None for at in (0, -1))]
        numbers_ = ["" if value is None else f"{value:.4f}" for value in values]
        body.append([span, f"{row['temperature']:g}", f"{row['documents']:,}", *numbers_])
    return [head, *body]


def save(folder: Path, rows: Sequence[dict[str, Any]], note: str) -> list[str]:
    """Writes collapse.png and collapse.md, the table with ``note`` below it; returns their paths."""
    temperatures = sorted({row["temperature"] for row in rows}, reverse=True)
    last = max((row["first"] for row in rows if row["energy"]), default=0)

    def curve(key: str) -> dict[str, list[tuple[float, float]]]:
        return {
            f"temperature {t:g}": [
                (row["first"], row[key]) for row in rows if row["temperature"] == t and row[key] is not None
            ]
            for t in temperatures
        }

    layers = {
        f"temperature {row['temperature']:g}": list(enumerate(row["energy"])) for row in rows if row["first"] == last
    }
    panels = [
        plots.lines(curve("cosine"), "how alike vectors are", "tokens, from", "mean pairwise cosine"),
        plots.lines(curve("variance"), "how far vectors spread", "tokens, from", "total variance"),
    ]
    if any(layers.values()):  # nothing with --sample 0
        title = f"texts of {last:,} tokens and more"
        panels.append(plots.lines(layers, title, "layer", "high-frequency energy ||HX||/||X||"))
    plots.save_panels(folder / "collapse.png", panels, "Length collapse", columns=len(panels))
    (folder / "collapse.md").write_text(f"{plots.markdown(table(rows))}\n\n{note}.\n", encoding="utf-8")
    return [str(folder / "collapse.png"), str(folder / "collapse.md")]


def _texts(corpus: Any) -> list[str]:
    texts: list[str] = []
    size = 0
    for item in corpus:
        if isinstance(item, Document) and item.source.strip():
            texts.append(item.source)
            size += len(item.source)
            if size > CHARACTERS:
                break
    if len(texts) < 2:
        raise UsageError(f"The corpus has {len(texts)} documents with text; a comparison needs two.")
    return texts


def _prefixes(encoder: Encoder, texts: Sequence[str], edges: Sequence[int]) -> list[str]:
    """Of each text a beginning for each bin that it reaches the end of, by its mean characters per token."""
    counts = encoder.count_tokens(texts).tolist()
    found = []
    for text, count in zip(texts, counts, strict=True):
        for end in edges[1:]:
            if count >= end:
                found.append(text[: int(0.9 * len(text) * end / count)])
    return found or list(texts)


def _temperatures(text: str) -> list[float]:
    try:
        return [float(word) for word in words(text)]
    except ValueError:
        raise UsageError(f"--temperatures takes numbers separated by commas, got {text!r}.") from None
