"""The ``plan`` command over a corpus, and ``index --dry-run``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unabridged.apps.calibrating import calibrate_apart
from unabridged.apps.loading import load_corpus
from unabridged.apps.output import Output, complain, counted, emit, say
from unabridged.apps.progress import duration
from unabridged.contracts import Encoder
from unabridged.encoders.load import load_encoder
from unabridged.errors import RuntimeFailure
from unabridged.retrievers.api import settings_from
from unabridged.retrievers.build import skipped_of
from unabridged.retrievers.calibration import Calibration, Sample
from unabridged.retrievers.dense import machine_ram
from unabridged.retrievers.plan import Plan, make_plan
from unabridged.retrievers.settings import BuildSettings


def run_plan(
    sources: Sequence[str],
    reading: Mapping[str, Any],
    encoder: str | None,
    loading: Mapping[str, Any],
    building: Mapping[str, Any],
    output: Output,
    calibrate: bool | None = None,
) -> None:
    """Reads the corpus once and prints what indexing it will take."""
    corpus = load_corpus(sources, reading)
    disk = shutil.disk_usage(Path.cwd())
    settings = BuildSettings(**settings_from(building))
    plan = planned(corpus, encoder, loading, settings, disk.total, calibrate)
    if output is Output.JSON:
        emit({**plan.as_json(), "disk_free": disk.free, "skipped": skipped_of(corpus)})
    else:
        say(describe(plan, disk.free))
        if skipped := skipped_of(corpus):
            say(f"left aside: {counted(skipped)}")


def planned(
    corpus: Any,
    encoder: str | None,
    loading: Mapping[str, Any],
    settings: BuildSettings,
    disk: int,
    calibrate: bool | None,
) -> Plan:
    """The plan, by trying the encoder unless ``calibrate`` is False; None tries it and does without where it fails."""
    loaded: Encoder = load_encoder(encoder, **loading)
    why: list[str] = []

    def tried(sample: Sample) -> Calibration | None:
        try:
            return calibrate_apart(encoder, loading, settings, sample)
        except RuntimeFailure as error:
            if calibrate:
                raise
            why.append(str(error))
            complain(str(error))
            return None

    return make_plan(
        corpus, loaded, settings, machine_ram(), disk, calibrate=None if calibrate is False else tried, why=why
    )


def describe(plan: Plan, free: int) -> str:
    """The plan for people."""
    lines = [
        f"{plan.documents:,} documents, {plan.characters:,} characters, about {plan.tokens:,} tokens",
        f"{plan.over_window:,} documents ({plan.over_window / plan.documents:.1%}) are longer than the window of "
        f"{plan.window} tokens; {plan.tokens_read / max(plan.tokens, 1):.1%} of all tokens will be read",
        f"about {plan.vectors:,} vectors of {plan.dim} dimensions, index {plan.recipe['name']}",
        f"disk {size(plan.disk)} of {size(free)} free, memory {size(plan.ram)}, "
        + (
            "time unknown for this encoder" if plan.seconds is None else f"about {duration(plan.seconds)} {where(plan)}"
        ),
        basis(plan),
    ]
    if plan.failed:
        lines.append(f"{plan.failed:,} items cannot be read ({counted(plan.failed_reasons)})")
    return "\n".join(lines)


def where(plan: Plan) -> str:
    """The device that the time is for."""
    device = plan.assumptions.get("measured", {}).get("device", "cpu")
    return "on this CPU" if device == "cpu" else f"on {device}"


def basis(plan: Plan) -> str:
    """Where time and memory come from."""
    measured = plan.assumptions.get("measured")
    if measured is None:
        return f"by arithmetic, nothing was tried ({plan.assumptions['why_not']})"
    tokens = sum(measured[kind]["tokens_tried"] for kind in ("short", "long"))
    rate = "" if plan.tokens_per_second is None else f": {plan.tokens_per_second:,.0f} tokens/s"
    load = "" if measured["load"] is None else f", load {measured['load']:.1f}"
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in plan.parts["seconds"].items() if value >= 0.05)
    ram = ", ".join(f"{name} {size(value)}" for name, value in plan.parts["ram"].items())
    return f"tried on {tokens:,} tokens{rate} ({measured['threads']} threads{load}); {seconds}; memory: {ram}"


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} PB"
