"""Trying an encoder in a process of its own, which reads a job and prints what it measured.

What the child takes to start and in memory is what ``index`` takes, and the plan itself loads no model.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from unabridged.apps.output import Output, emit, exit_codes
from unabridged.errors import RuntimeFailure
from unabridged.retrievers.calibration import Calibration, Sample, Spent
from unabridged.retrievers.settings import BuildSettings

CHILD = "from unabridged.apps.calibrating import main; main()"


def calibrate_apart(
    encoder: str | None, loading: Mapping[str, Any], settings: BuildSettings, sample: Sample
) -> Calibration:
    """What a child process measured; its stderr is ours.

    Raises:
        RuntimeFailure: it could not; the message has its own.
    """
    job = {
        "started": time.time(),
        "encoder": encoder,
        "loading": dict(loading),
        "settings": settings.as_json(),
        "sample": asdict(sample),
    }
    command = [sys.executable, "-P", "-c", CHILD]
    text = json.dumps(job, default=lambda value: value.value)
    done = subprocess.run(command, input=text.encode("utf-8", "surrogatepass"), stdout=subprocess.PIPE, check=False)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        found = {"error": {"message": f"it ended with exit code {done.returncode}"}}
    if "error" in found:
        raise RuntimeFailure(
            f"The encoder could not be tried: {found['error']['message']} Or plan with --no-calibrate."
        )
    return Calibration.from_json(found)


def main() -> None:
    """One job from stdin, one JSON object on stdout."""
    job = json.loads(sys.stdin.buffer.read().decode("utf-8", "surrogatepass"))
    with exit_codes(Output.JSON):
        from unabridged.apps import indexing  # noqa: F401 - what index loads
        from unabridged.encoders.load import load_encoder
        from unabridged.retrievers.calibrate import calibrate

        now = Spent.now()
        started = Spent(now.wall - (time.time() - job["started"]), 0.0)
        encoder = load_encoder(job["encoder"], **job["loading"])
        found = calibrate(encoder, Sample(**job["sample"]), BuildSettings.from_json(job["settings"]), started=started)
        emit(found.as_json())
