"""What each way to read further costs: time and peak memory by length, against native positions of that length.

    python benchmarks/bench_extension.py --out benchmarks/results/extension_cpu.json

Two models of 6 layers and width 384 with a trained length of 512 tokens: the embedded one (absolute positions) and a
rotary one from a seed.  ``native`` is the same architecture with 4,096 positions of its own.  One sequence of random
tokens goes through the packed backend (absolute) or the torch backend (rotary), whatever the method is, so that ratios
compare methods.  Systems of a model alternate in one process; the ratio is the median over rounds, so that other load
hits all.  Peak memory is that of a process that runs one system alone, weights and libraries included, read after each
length.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, write_results

from unabridged.encoders.extension import Extension
from unabridged.encoders.methods import LogN, Method, Positions
from unabridged.encoders.plan import NO_PLAN, Plan
from unabridged.encoders.positions import chunks

TRAINED, TARGET = 512, 4096
LENGTHS = (512, 1024, 2048, 4096)
WARM_UP = 64
NATIVE = "native"
ASKED = {
    "pcw": {"method": Method.PCW},
    "gp": {"method": Method.GP},
    "rp": {"method": Method.RP},
    "pi": {"method": Method.PI},
    "pi, log-n": {"method": Method.PI, "logn": LogN.PER_SEQUENCE},
    "pi, temperature 0.8": {"method": Method.PI, "temperature": 0.8},
    "ntk": {"method": Method.NTK},
    "selfextend": {"method": Method.SELFEXTEND},
}
METHODS = {
    Positions.ABSOLUTE: (NATIVE, "pcw", "gp", "rp", "pi", "pi, log-n", "pi, temperature 0.8"),
    Positions.ROTARY: (NATIVE, "pcw", "gp", "pi", "pi, log-n", "ntk", "selfextend"),
}


def build(root: Path) -> None:
    """The models that have to be built: both native ones; the rotary one is extended as well."""
    import torch
    import transformers

    size = {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
    size["max_position_embeddings"] = TARGET
    for kind, config in (
        (Positions.ABSOLUTE, transformers.BertConfig(**size)),
        (Positions.ROTARY, transformers.NomicBertConfig(**size)),
    ):
        torch.manual_seed(0)
        transformers.AutoModel.from_config(config).save_pretrained(root / kind.value)


def system(root: Path, kind: Positions, name: str) -> Any:
    """A function from token ids ``(L,)`` to hidden states, and what computes them."""
    from unabridged.encoders._hf import read_folder
    from unabridged.encoders._packed import PackedBackend
    from unabridged.encoders._resolve import resolve
    from unabridged.encoders._torch import TorchBackend

    own = name == NATIVE or kind is Positions.ROTARY
    folder = read_folder(root / kind.value) if own else resolve(None)
    plan: Plan = NO_PLAN
    if name != NATIVE:
        asked = Extension(target_tokens=TARGET, original_tokens=TRAINED, **ASKED[name])
        plan = asked.plan(kind, TARGET if own else TRAINED)
    chosen = PackedBackend if kind is Positions.ABSOLUTE else TorchBackend
    backend = chosen(folder, device="cpu", precision="float32", plan=plan)

    def run(ids: np.ndarray) -> Any:
        parts = [ids[a:b] for a, b in chunks(len(ids), TRAINED).tolist()] if name == "pcw" else [ids]
        offsets = np.concatenate(([0], np.cumsum([len(part) for part in parts]))).astype(np.int64)
        return backend.hidden(np.concatenate(parts), offsets)

    run(tokens(WARM_UP))
    return run, chosen.__name__.removesuffix("Backend").lower()


def tokens(length: int) -> np.ndarray:
    return np.random.default_rng(length).integers(1000, 30_000, length).astype(np.int32)


def peak_mib() -> float:
    """The highest resident memory of this process so far."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def memory(root: Path, kind: Positions, name: str, lengths: list[int]) -> dict[int, float]:
    """Peak MiB after each length in a process of its own, lengths rising."""
    call = [sys.executable, __file__, "--alone", kind.value, name, str(root), "--lengths", *map(str, lengths)]
    done = subprocess.run(call, check=True, capture_output=True, text=True)
    return dict(zip(lengths, json.loads(done.stdout.splitlines()[-1]), strict=True))


def measure(root: Path, kind: Positions, lengths: list[int], rounds: int) -> list[dict[str, Any]]:
    """One row per method and length."""
    systems = {name: system(root, kind, name) for name in METHODS[kind]}
    peaks = {name: memory(root, kind, name, lengths) for name in systems}
    rows = []
    for length in lengths:
        ids = tokens(length)
        seconds: dict[str, list[float]] = {name: [] for name in systems}
        for _ in range(rounds):
            for name, (run, _) in systems.items():
                start = time.perf_counter()
                run(ids)
                seconds[name].append(time.perf_counter() - start)
        for name, (_, backend) in systems.items():
            ratios = [a / b for a, b in zip(seconds[name], seconds[NATIVE], strict=True)]
            best = min(seconds[name])
            rows.append(
                {
                    "positions": kind.value,
                    "method": name,
                    "backend": backend,
                    "tokens": length,
                    "seconds": round(best, 3),
                    "tokens_per_s": round(length / best),
                    "time_to_native": round(statistics.median(ratios), 2),
                    "best_to_native": round(best / min(seconds[NATIVE]), 2),
                    "peak_mib": round(peaks[name][length]),
                    "memory_to_native": round(peaks[name][length] / peaks[NATIVE][length], 2),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the results to this .json, and a table beside it")
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        kind, name, root = options.alone
        run, _ = system(Path(root), Positions(kind), name)
        peaks = []
        for length in options.lengths:
            run(tokens(length))
            peaks.append(peak_mib())
        print(json.dumps(peaks))
        return
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-extension-") as root:
        build(Path(root))
        for kind in METHODS:
            rows += measure(Path(root), kind, sorted(options.lengths), options.rounds)
    if options.out:
        write_results(options.out, "Cost of reading further", "bench_extension.py", rows, machine())


if __name__ == "__main__":
    main()
