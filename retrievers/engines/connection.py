"""Ray, started for one build or joined where it runs: on the loopback address, without a report to anyone, quietly.

What Ray 2.60 does otherwise: servers on all addresses of the machine, a report of use to its makers, notes about dead
workers on stdout, where a command's JSON goes.  Its log files stay below its own folder for temporary files.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

import ray

from unabridged.errors import RuntimeFailure

LOCAL = "local"
LOOPBACK = "127.0.0.1"
REACH_SECONDS = 10.0
SILENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
"""Read by Ray and its processes when they start."""
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""What lets Ray keep the loopback address, on any system: it takes the machine's own for it where machines may join."""

RAY: Any = ray
"""The package without its own type hints, which leave out options and whole functions."""

logger = logging.getLogger(__name__)


def connect(address: str, workers: int) -> dict[str, str | None]:
    """Starts Ray on this machine for this process alone (``local``), or joins the one at ``address``.

    Returns what Ray leaves changed in the environment (it takes ``breakpoint()`` over, for one): the values before.

    Raises:
        RuntimeFailure: there is none, or it cannot be started.
    """
    own: dict[str, Any] = {
        "num_cpus": max(workers, os.cpu_count() or 1),
        "include_dashboard": False,
        "_node_ip_address": LOOPBACK,
    }
    alone = address == LOCAL
    before = dict(os.environ)
    with quiet(), _alone() if alone else contextlib.nullcontext():
        try:
            _reach(address)
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                configure_logging=False,
                **(own if alone else {}),
            )
        except BaseException as error:
            with contextlib.suppress(Exception):
                ray.shutdown()  # what was started of it
            _put_back({name: before.get(name) for name in {*before, *os.environ}})
            if not isinstance(error, Exception):
                raise
            raise RuntimeFailure(_refusal(address, error)) from error
    return {name: before.get(name) for name in {*before, *os.environ} if before.get(name) != os.environ.get(name)}


def _refusal(address: str, error: Exception) -> str:
    """Why there is no Ray, and what to do; Ray says some of it by a plain ``Exception``."""
    first = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    if address == LOCAL:
        return (
            f"Ray cannot be started on this machine: {first}. Run the same command again when the machine has less to "
            "do or more memory free; --engine pool needs no Ray."
        )
    return (
        f"There is no Ray at address {address!r}: {first}. Start one with 'ray start --head', name its address, or use "
        "--address local for this machine alone. A cluster with tokens, Ray's default, lets nobody in without its "
        "token in ~/.ray/auth_token and RAY_AUTH_MODE=token."
    )


def _reach(address: str) -> None:
    """:class:`OSError` within seconds where nothing listens at ``[ray://]host:port``: Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()


def disconnect(before: dict[str, str | None]) -> None:
    """Ends what :func:`connect` began; processes that it started end with it.  ``before`` is what it returned."""
    with quiet():
        ray.shutdown()
    _put_back(before)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Ray's report to its makers and its talk on the terminal; what was set before is set again."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    levels = [log.level for log in loggers]
    notes = importlib.import_module("ray._private.worker")
    shown = getattr(notes, "print_to_stdstream", None)
    with _set(SILENT):
        for log in loggers:
            log.setLevel(logging.CRITICAL)
        if shown is not None:
            notes.print_to_stdstream = _note  # type: ignore[attr-defined, unused-ignore]
        try:
            yield
        finally:
            for log, level in zip(loggers, levels, strict=True):
                log.setLevel(level)
            if shown is not None:
                notes.print_to_stdstream = shown  # type: ignore[attr-defined, unused-ignore]


def _note(data: Any, *_: Any, **__: Any) -> None:
    """One of Ray's notes, into this package's log in the place of stdout."""
    logger.info("ray: %s", " ".join(map(str, data.get("lines", []))) if isinstance(data, dict) else data)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Ray for one machine: the switch is read from the environment when Ray is imported, which may have been before."""
    constants = importlib.import_module("ray._private.ray_constants")
    before = getattr(constants, "ENABLE_RAY_CLUSTER", None)
    with _set(ALONE):
        if before is not None:
            constants.ENABLE_RAY_CLUSTER = False  # type: ignore[attr-defined, unused-ignore]
        try:
            yield
        finally:
            if before is not None:
                constants.ENABLE_RAY_CLUSTER = before  # type: ignore[attr-defined, unused-ignore]


@contextlib.contextmanager
def _set(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        _put_back(before)


def _put_back(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
