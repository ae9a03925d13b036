"""A look at every machine of a Ray cluster on which a worker may come to run, before any work is sent there."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from unabridged.errors import RuntimeFailure
from unabridged.retrievers.engines.connection import RAY

PACKAGE = "unabridged"
ANSWER_SECONDS = 120.0
"""A machine that has to start a process for the question answers in some seconds."""


@dataclass(frozen=True, slots=True)
class Node:
    """What a machine said."""

    host: str
    missing: tuple[str, ...]
    """Packages that cannot be found there."""
    version: str
    """Of this package."""
    expected: str
    """What it is here."""
    sees_folder: bool


def look_at(folder: Path, packages: Sequence[str], *, gpu: bool) -> list[Node]:
    """Asks every machine that has cores (or GPUs, for workers that need one); ``folder`` is there here.

    Raises:
        RuntimeFailure: a machine gives no answer.
    """
    mark = folder / f"seen-{secrets.token_hex(8)}"
    mark.touch()
    try:
        asked = []
        for node in RAY.nodes():
            if node["Alive"] and node["Resources"].get("GPU" if gpu else "CPU", 0) >= 1:
                place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                ask = RAY.remote(num_cpus=0, scheduling_strategy=place, max_retries=1)(question())
                asked.append((node["NodeManagerHostname"], ask.remote(PACKAGE, list(packages), str(mark))))
        return [_answer(host, answer) for host, answer in asked]
    finally:
        mark.unlink(missing_ok=True)


def _answer(host: str, answer: Any) -> Node:
    try:
        missing, found, seen = ray.get(answer, timeout=ANSWER_SECONDS)
    except ray.exceptions.RayError as error:
        raise RuntimeFailure(
            f"The machine {host} of the cluster gives no answer ({type(error).__name__}). Look at it with 'ray "
            "status', or take it out of the cluster."
        ) from error
    return Node(host, tuple(missing), found, version(PACKAGE), seen)


def question() -> Callable[[str, list[str], str], tuple[list[str], str, bool]]:
    """The function that runs there.

    It is local to this one, so that Ray sends its code and not its name: the module need not be on a machine that is
    asked whether it is.
    """

    def ask(package: str, packages: list[str], mark: str) -> tuple[list[str], str, bool]:
        import importlib.metadata
        import importlib.util
        import os

        missing = [name for name in (package, *packages) if importlib.util.find_spec(name) is None]
        found = "none" if package in missing else importlib.metadata.version(package)
        return missing, found, os.path.exists(mark)  # noqa: PTH110 - nothing of this module may be used there

    return ask
