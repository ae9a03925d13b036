"""Seconds and memory of Mamba's hidden states on a CPU: ours, transformers', and what the matmuls alone would take.

    python benchmarks/bench_mamba.py [--lengths 512 ... 131072] [--hf-limit 2048] [--bert-limit 2048] [--variant 1]

The models have the shape of mamba-130m or mamba2-130m (24 layers of 768, a small vocabulary) and random weights; all
run in float32, in one process, on the same threads, and ours in bfloat16 too where the CPU multiplies it (``bfloat16
error``: of the hidden states, relative to float32; ``bfloat16 faster``: than transformers in float32).  Ours reads a
text in blocks, with the state carried on; that of transformers reads it in one pass and has no other way; BERT (12
layers of 768, torch's attention) has one window.
``limit`` is the time of the layers' matmuls alone, at the rate that each of them reaches in this run, and ``of limit``
how many times as long ours takes.  At each length the systems take turns, and the best of ``--repeats`` counts.  Memory
is that of a fresh process at its peak, above what it held with the model loaded and warm.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
import transformers
from machine import machine, write_results

from unabridged.encoders.mamba.config import MambaConfig
from unabridged.encoders.mamba.model import MambaModel, initial
from unabridged.encoders.mamba.path import scan_path
from unabridged.encoders.mamba.scratch import Scratch

VOCABULARY = 1_000
ONCE = 2_048
"""Tokens up to which a pass is repeated; longer ones run once, in a process of their own."""
LENGTHS = [512, 2_048, 8_192, 32_768, 131_072]
SHAPES = {
    1: MambaConfig(1, 768, 24, VOCABULARY, 1_536, 16, dt_rank=48),
    2: MambaConfig(2, 768, 24, VOCABULARY, 1_536, 128, heads=24, head_dim=64),
}
TRAINED = MambaConfig(2, 384, 6, 8_000, 768, 64, heads=12, head_dim=64)
MIB = 1 << 20


def blocks(model: MambaModel, ids: torch.Tensor, block: int) -> Iterator[torch.Tensor]:
    """Hidden states of one text, block by block, with the state carried on."""
    state, scratch = None, Scratch(reused=True)
    for part in ids.split(block):
        hidden, state = model.hidden(part, np.array([0, len(part)]), state, scratch=scratch)
        yield hidden


def ours(model: MambaModel, block: int) -> Callable[[torch.Tensor], None]:
    def run(ids: torch.Tensor) -> None:
        for _ in blocks(model, ids, block):
            pass

    return run


def theirs(config: MambaConfig, own: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Their model with our weights."""
    shape = {
        "vocab_size": config.vocab, "hidden_size": config.width, "num_hidden_layers": config.layers,
        "state_size": config.state, "use_cache": False,
    }  # fmt: skip
    if config.variant == 1:
        model = transformers.MambaModel(transformers.MambaConfig(**shape))
    else:
        heads = {"num_heads": config.heads, "head_dim": config.head_dim, "n_groups": config.groups}
        model = transformers.Mamba2Model(transformers.Mamba2Config(**shape, **heads))
    model.load_state_dict(own)
    return model.eval()


def bert(limit: int, width: int = 768, layers: int = 12) -> torch.nn.Module:
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, max_position_embeddings=limit, hidden_size=width, intermediate_size=4 * width,
        num_hidden_layers=layers, num_attention_heads=width // 64,
    )  # fmt: skip
    return transformers.BertModel(config, add_pooling_layer=False).eval()


def batched(model: torch.nn.Module) -> Callable[[torch.Tensor], object]:
    def run(ids: torch.Tensor) -> object:
        return model(ids[None])

    return run


def seconds(run: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def limit(config: MambaConfig, tokens: int, repeats: int) -> float:
    """Seconds of all matmuls of all layers, each measured with its own shape over ``tokens`` rows."""
    return config.layers * sum(seconds(matmul, repeats + 2) for matmul in matmuls(config, tokens))


def matmuls(
    config: MambaConfig, tokens: int, device: str | torch.device = "cpu", kind: torch.dtype = torch.float32
) -> Iterator[Callable[[], object]]:
    """Each matmul of one layer, with its own shape over ``tokens`` rows."""
    names = ("in_proj", "x_proj", "dt_proj", "out_proj")
    shapes = [config.shapes().get(f"layers.0.mixer.{name}.weight") for name in names]
    for rows, columns in filter(None, shapes):
        x = torch.randn(tokens, columns, device=device, dtype=kind)
        yield partial(torch.nn.functional.linear, x, torch.randn(rows, columns, device=device, dtype=kind))


def resident() -> int:
    """Bytes that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak(run: Callable[[], object]) -> tuple[float, int]:
    """Seconds of ``run``, and bytes that the process held at most, above what it held before."""
    before = most = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.005):
            most = max(most, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        took = seconds(run, 1)
    finally:
        done.set()
        watcher.join()
    return took, most - before


def trim() -> None:
    """Gives back what was freed while the model was made; else a pass would seem to need less than it does."""
    gc.collect()
    if hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def alone(system: str, variant: int, length: int, block: int, threads: int) -> tuple[float, int]:
    """Seconds and peak of one system at one length; for a process of its own."""
    torch.set_num_threads(threads)
    config = SHAPES[variant]
    own = initial(config, 0)
    if system == "ours":
        run = ours(MambaModel(config, own), block)
    else:
        run = batched(theirs(config, own) if system == "transformers" else bert(length))

    del own
    with torch.inference_mode():
        run(text(64))
        trim()
        return peak(lambda: run(text(length)))


def fresh(system: str, variant: int, length: int, options: argparse.Namespace) -> tuple[float, int]:
    """:func:`alone` in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(alone, system, variant, length, options.block, options.threads).result()


def text(length: int) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (length,), generator=torch.Generator().manual_seed(length))


def compare(variant: int, options: argparse.Namespace) -> list[dict[str, object]]:
    config = SHAPES[variant]
    own = initial(config, 0)
    model = MambaModel(config, own)
    run = ours(model, options.block)
    other = batched(theirs(config, own)) if options.hf_limit else None
    window = batched(bert(options.bert_limit)) if options.bert_limit and variant == 1 else None
    rounded = MambaModel(config, {name: tensor.bfloat16() for name, tensor in own.items()})
    half = ours(rounded, options.block) if has_bfloat16() else None
    name = f"mamba{'' if variant == 1 else 2}-130m"
    rows = []
    run(torch.zeros(64, dtype=torch.int64))  # kernels are compiled, or read from their cache
    for length in options.lengths:
        ids = text(length)
        repeats = options.repeats if length <= ONCE else 0
        passes = {"ours": run, "transformers": other, "BERT": window, "bfloat16": half}
        most_tokens = {"transformers": options.hf_limit, "BERT": options.bert_limit, "bfloat16": ONCE}
        systems = {
            system: partial(once, ids)
            for system, once in passes.items()
            if once is not None and length <= most_tokens.get(system, length)
        }
        times: dict[str, list[float]] = {system: [] for system in systems}
        floor = []
        for _ in range(max(1, repeats)):
            for system in systems if repeats else ():
                times[system].append(seconds(systems[system], 1))
            part = min(length, options.block)
            floor.append(limit(config, part, 1) * length / part)
        row: dict[str, object] = {"model": name, "tokens": length, "path": model.path}
        for system in filter(lambda system: system != "bfloat16", systems):
            took, most = fresh(system, variant, length, options)
            if not repeats:
                times[system].append(took)
            row |= {f"{system} s": round(min(times[system]), 2), f"{system} MiB": round(most / MIB)}
        row |= ratios(times, length, min(floor))
        if "bfloat16" in times:
            row["bfloat16 error"] = round(distance(model, rounded, ids), 4)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16; elsewhere that type is only slower."""
    return "avx512_bf16" in Path("/proc/cpuinfo").read_text() or "amx_bf16" in Path("/proc/cpuinfo").read_text()


def distance(model: MambaModel, other: MambaModel, ids: torch.Tensor) -> float:
    """Of hidden states: the norm of the difference over the norm."""
    offsets = np.array([0, len(ids)])
    exact = model.hidden(ids, offsets)[0]
    return float((other.hidden(ids, offsets)[0].float() - exact).norm() / exact.norm())


def ratios(times: dict[str, list[float]], length: int, floor: float) -> dict[str, object]:
    """Of the best times of each system, and of the limit's."""
    best = {system: min(measured) for system, measured in times.items()}
    mine = best["ours"]
    row: dict[str, object] = {"tokens/s": round(length / mine)}
    row |= {"limit s": round(floor, 2), "of limit": round(mine / floor, 2)}
    if "transformers" in best:
        row["faster"] = round(best["transformers"] / mine, 1)
    if "bfloat16" in best:
        row["bfloat16 s"] = round(best["bfloat16"], 2)
    if {"bfloat16", "transformers"} <= {*best}:
        row["bfloat16 faster"] = round(best["transformers"] / best["bfloat16"], 1)
    return row


def training(options: argparse.Namespace) -> dict[str, object]:
    """Tokens a second of forward and backward at the shape of the shipped checkpoint, packed texts of 16-256 tokens."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(16, 257, 15)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    ids = torch.from_numpy(rng.integers(0, TRAINED.vocab, offsets[-1]))
    own = {name: tensor.requires_grad_() for name, tensor in initial(TRAINED, 0).items()}
    row: dict[str, object] = {"model": "mamba2, 6 layers of 384, training", "tokens": int(offsets[-1])}
    for path in dict.fromkeys((scan_path()[0], "torch")):
        model = MambaModel(TRAINED, own, path=path)

        def step(model: MambaModel = model) -> None:
            model.hidden(ids, offsets)[0].square().sum().backward()

        step()
        row[f"{path} tokens/s"] = round(int(offsets[-1]) / seconds(step, options.repeats))
    print(json.dumps(row), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--variant", type=int, nargs="+", default=[1, 2], choices=[1, 2])
    parser.add_argument("--block", type=int, default=2_048, help="tokens that ours reads at a time")
    parser.add_argument("--hf-limit", type=int, default=2_048, help="no longer texts for transformers' Mamba; 0: none")
    parser.add_argument("--bert-limit", type=int, default=2_048, help="no longer texts for BERT; 0: none")
    parser.add_argument("--repeats", type=int, default=3, help="up to 2,048 tokens; longer texts run once")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-training", action="store_true")
    parser.add_argument("--out", type=Path, help="write the results to this .json, and a table beside it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    on = machine()
    print(f"{on['processor']}, {on['cores']} cores, {options.threads} threads; scans: {': '.join(scan_path())}")
    with torch.inference_mode():
        rows = [row for variant in options.variant for row in compare(variant, options)]
    if not options.no_training:
        rows.append(training(options))
    if options.out:
        write_results(options.out, "Mamba's hidden states on a CPU", "bench_mamba.py", rows, on)


if __name__ == "__main__":
    main()
