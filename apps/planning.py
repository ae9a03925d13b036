"""The ``plan`` command, and ``index --dry-run``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unabridged.apps.loading import load_corpus
from unabridged.apps.output import Output, counted, emit, say
from unabridged.apps.progress import duration
from unabridged.encoders.load import load_encoder
from unabridged.retrievers.api import settings_from
from unabridged.retrievers.build import skipped_of
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
) -> None:
    """Reads the corpus once and prints what indexing it will take."""
    corpus = load_corpus(sources, reading)
    settings = BuildSettings(**settings_from(building))
    disk = shutil.disk_usage(Path.cwd())
    plan = make_plan(corpus, load_encoder(encoder, **loading), settings, machine_ram(), disk.total)
    if output is Output.JSON:
        emit({**plan.as_json(), "disk_free": disk.free, "skipped": skipped_of(corpus)})
    else:
        say(describe(plan, disk.free))
        if skipped := skipped_of(corpus):
            say(f"left aside: {counted(skipped)}")


def describe(plan: Plan, free: int) -> str:
    """The plan for people."""
    lines = [
        f"{plan.documents:,} documents, {plan.characters:,} characters, about {plan.tokens:,} tokens",
        f"{plan.over_window:,} documents ({plan.over_window / plan.documents:.1%}) are longer than the window of "
        f"{plan.window} tokens; {plan.tokens_read / max(plan.tokens, 1):.1%} of all tokens will be read",
        f"about {plan.vectors:,} vectors of {plan.dim} dimensions, index {plan.recipe['name']}",
        f"disk {size(plan.disk)} of {size(free)} free, memory {size(plan.ram)}, "
        + ("time unknown for this encoder" if plan.seconds is None else f"about {duration(plan.seconds)} on this CPU"),
    ]
    if plan.failed:
        lines.append(f"{plan.failed:,} items cannot be read ({counted(plan.failed_reasons)})")
    return "\n".join(lines)


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
