"""Progress for people and for logs, always on stderr: a bar on a terminal, JSON lines otherwise."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict

from unabridged.progress import Listener, Progress

LINE_SECONDS = 5.0
"""Shortest time between two JSON lines."""


def as_line(event: Progress) -> str:
    """One event as a JSON line."""
    values = asdict(event)
    rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in values.items()}
    return json.dumps({"event": "progress", "fraction": round(event.fraction, 4), **rounded})


def describe(event: Progress) -> str:
    """One event as text: tokens, rate, time left."""
    left = "measuring" if event.eta is None else f"{duration(event.eta)} left"
    text = f"{event.documents:,}/{event.documents_total:,} documents · {event.tokens:,} tokens · "
    text += f"{event.tokens_per_second:,.0f} tokens/s · {left}"
    if event.revised:
        text += " (estimate revised: slower than before)"
    return text + (f" · {event.failed} failed" if event.failed else "")


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


@contextlib.contextmanager
def progress(quiet: bool = False) -> Iterator[Listener | None]:
    """A listener for a build; None when ``quiet``."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bar() as listener:
            yield listener
    else:
        yield _lines()


def _lines() -> Listener:
    last = [0.0]

    def listen(event: Progress) -> None:
        now = time.monotonic()
        if now - last[0] >= LINE_SECONDS or event.fraction >= 1:
            last[0] = now
            sys.stderr.write(as_line(event) + "\n")
            sys.stderr.flush()

    return listen


@contextlib.contextmanager
def _bar() -> Iterator[Listener]:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"))
    with Bars(*columns, console=Console(stderr=True), transient=False) as bars:
        task = bars.add_task("reading", total=1.0)
        yield lambda event: bars.update(task, completed=event.fraction, description=describe(event))
