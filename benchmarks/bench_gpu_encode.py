"""Encoding on a GPU against sentence-transformers on the same GPU, in the same run: tokens a second, and what is left.

    python benchmarks/bench_gpu_encode.py [--documents 2000] [--out benchmarks/results/gpu_encode.json]
    python benchmarks/bench_gpu_encode.py --smoke                  a minute's worth, nothing is written
    python benchmarks/bench_gpu_encode.py --smoke --device cpu     only tries the script out

Two models: the embedded MiniLM (6 layers, width 384), and one of BERT-base's shape (12 layers, width 768) with random
weights, for the arithmetic that a small model does not have; its vectors mean nothing and are compared all the same.
Texts are those of ``bench_encode``: stretches of the standard library with log-normal lengths, cut by our splitter, and
every system gets the same window texts.

``tokens/s`` is from texts to vectors on the CPU, tokenising included, the median of ``--rounds`` in which systems
alternate; sentence-transformers runs with the best of three batch sizes.  ``ratio`` is against it in the same
precision.  ``device tokens/s`` leaves tokenising out (ours only: the second half of an encoder's work), ``of limit`` is
that against the layers' matrix products alone, timed in this run in the same precision on 65,536 tokens: attention,
LayerNorms and waiting are what is missing to 1.  ``busy`` is the share of a pass in which the GPU had a kernel, by
torch's profiler.  ``cosine`` is the lowest against sentence-transformers in float32.

Without a CUDA device it ends with exit code 3 and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_encode import folder, windows
from bench_mamba_gpu import NO_DEVICE, Device
from machine import machine, write_results

from unabridged.contracts import Level, OverflowPolicy
from unabridged.encoders._hf import read_folder
from unabridged.encoders._packed_weights import read_weights
from unabridged.encoders._tokens import Tokenizer
from unabridged.encoders.load import load_encoder

PRECISIONS = ("float32", "bfloat16", "float16")
ST = "sentence-transformers"
BATCHES = (64, 256, 1024)
TOKENS = 65_536
"""Of the matrix products that are the limit."""
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}

Encode = Callable[[list[str]], np.ndarray]


@dataclass(frozen=True, slots=True)
class Model:
    """A folder that both systems load, and the window they read it with."""

    name: str
    path: Path
    window: int


def drawn(path: Path, shape: dict[str, int], window: int) -> Path:
    """The embedded model's folder with another shape and random weights."""
    from transformers import BertConfig, BertModel

    source = folder().path
    shutil.copytree(source, path, ignore=shutil.ignore_patterns("*.safetensors", "*.bin", "onnx*", "openvino*"))
    config = BertConfig(vocab_size=json.loads((source / "config.json").read_text())["vocab_size"], **shape)
    torch.manual_seed(0)
    BertModel(config).save_pretrained(path)
    for place in path.glob("*Pooling/config.json"):
        pooling = json.loads(place.read_text())
        width = {key: shape["hidden_size"] for key in pooling if key.endswith("embedding_dimension")}
        place.write_text(json.dumps({**pooling, **width}))
    limits = path / "sentence_bert_config.json"
    if limits.is_file():
        limits.write_text(json.dumps({**json.loads(limits.read_text()), "max_seq_length": window}))
    return path


def theirs(model: Model, precision: str, device: str, batch: int) -> Encode:
    from sentence_transformers import SentenceTransformer

    found = SentenceTransformer(str(model.path), device=device, local_files_only=True)
    found.max_seq_length = model.window
    found = found.to(dtype=getattr(torch, precision))

    def encode(texts: list[str]) -> np.ndarray:
        vectors = found.encode(texts, batch_size=batch, show_progress_bar=False, convert_to_tensor=True)
        return vectors.float().cpu().numpy()

    return encode


@dataclass(slots=True)
class Ours:
    """An encoder of ours, whole and in its two halves."""

    encoder: Any

    @classmethod
    def of(cls, model: Model, backend: str, precision: str, device: str) -> Ours:
        """By the front door."""
        return cls(
            load_encoder(model.path, device=device, backend=backend, precision=precision, max_tokens=model.window)
        )

    def halves(self, texts: list[str]) -> Callable[[], Any]:
        """Tokenises; what it returns computes."""
        return self.encoder.prepare_documents(texts, level=Level.SEGMENT, overflow=OverflowPolicy.TRUNCATE)

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Texts to vectors ``(S, D)``."""
        return self.halves(texts)().segments


def limit(path: Path, precision: str, device: Device, tokens: int) -> tuple[float, float]:
    """Tokens a second if the layers' matrix products were everything, and their TFLOP/s."""
    weights = read_weights(read_folder(path))
    kind = getattr(torch, precision)
    first = weights.layers[0]
    shapes = [part.weight.shape for part in (first.qkv, first.out, first.up, first.down)]
    seconds = flops = 0.0
    for out, wide in shapes:
        a = torch.randn(tokens, wide, device=device.place, dtype=kind)
        b = torch.randn(out, wide, device=device.place, dtype=kind).T
        for _ in range(3):
            a @ b
        seconds += min(device.seconds(lambda a=a, b=b: a @ b, 5) for _ in range(3))
        flops += 2.0 * tokens * out * wide
    return tokens / (seconds * len(weights.layers)), flops / seconds / 1e12


def busy(run: Callable[[], object], device: Device) -> float | None:
    """The share of a run in which the GPU had a kernel; None without a GPU."""
    if not device.is_cuda:
        return None
    from torch.profiler import ProfilerActivity, profile

    device.wait()
    with profile(activities=[ProfilerActivity.CUDA]) as watched:
        started = time.perf_counter()
        run()
        device.wait()
        seconds = time.perf_counter() - started
    kernels = sum(event.self_device_time_total for event in watched.key_averages())
    return round(kernels / 1e6 / seconds, 3) if kernels else None


def best_batch(model: Model, precision: str, device: Device, texts: list[str]) -> tuple[int, Encode]:
    """The fastest of three batch sizes for sentence-transformers, on a part of the texts."""
    found = []
    for batch in BATCHES if device.is_cuda else BATCHES[:1]:
        encode = theirs(model, precision, str(device.place), batch)
        encode(texts[:batch])
        found.append((device.seconds(lambda encode=encode: encode(texts)), batch, encode))
    _, batch, encode = min(found, key=lambda one: one[0])
    return batch, encode


def measure(
    model: Model, texts: list[str], device: Device, backends: list[str], rounds: int, precisions: list[str]
) -> list[dict[str, Any]]:
    """Rows of the table for one model."""
    counts = np.minimum(Tokenizer(read_folder(model.path)).count(texts) + 2, model.window)
    total = int(counts.sum())
    exact = None
    rows = []
    for precision in precisions:
        device.clean()
        most, rate = limit(model.path, precision, device, TOKENS if device.is_cuda else 2048)
        batch, reference = best_batch(model, precision, device, texts[: max(16, len(texts) // 4)])
        systems: dict[str, Any] = {ST: reference}
        systems |= {name: Ours.of(model, name, precision, str(device.place)) for name in backends}
        vectors, peaks = {}, {}
        for name, encode in systems.items():
            held = device.held()
            vectors[name] = encode(texts)
            peaks[name] = (device.peak() - held) >> 20
        if exact is None:
            exact = vectors[ST] / np.linalg.norm(vectors[ST], axis=1, keepdims=True)
        seconds: dict[str, list[float]] = {name: [] for name in systems}
        for _ in range(rounds):
            for name, encode in systems.items():
                seconds[name].append(device.seconds(lambda encode=encode: encode(texts)))
        for name, encode in systems.items():
            row: dict[str, Any] = {
                "model": model.name,
                "precision": precision,
                "system": f"{ST} (batch {batch})" if name == ST else name,
                "tokens/s": round(total / statistics.median(seconds[name])),
                "ratio": round(statistics.median(a / b for a, b in zip(seconds[ST], seconds[name], strict=True)), 2),
            }
            if name != ST:
                parts = [device.seconds(encode.halves(texts)) for _ in range(rounds)]
                rated = total / statistics.median(parts)
                row |= {"device tokens/s": round(rated), "of limit": round(rated / most, 3)}
                (use,) = encode.encoder.memory_report()
                row["halved"] = use.halved
            row |= {
                "limit tokens/s": round(most),
                "limit TFLOP/s": round(rate, 1),
                "busy": busy(lambda encode=encode: encode(texts), device),
                "peak MiB": peaks[name],
                "cosine": round(float((vectors[name] * exact).sum(1).min()), 6),
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", nargs="*", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--backend", nargs="*", default=["torch", "varlen"], help="torch, varlen, compiled")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--smoke", action="store_true", help="few texts; nothing is written")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu_encode.json"))
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("No CUDA device: nothing was measured and nothing written.", file=sys.stderr)
        return NO_DEVICE
    if not options.device.startswith("cuda") and not options.smoke:
        print(f"{options.device} is no GPU: only --smoke runs there. Nothing was written.", file=sys.stderr)
        return 2
    device = Device(torch.device(options.device))
    documents, rounds = (30 if device.is_cuda else 6, 1) if options.smoke else (options.documents, options.rounds)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        base = drawn(Path(place) / "base", BASE if device.is_cuda else TINY, 512)
        plan = [
            (Model("MiniLM", folder().path, 256), documents),
            (Model("BERT-base shape, random", base, 512), max(5, documents // 2)),
        ]
        for model, count in plan:
            texts = windows(count, model.window)
            rows += measure(model, texts, device, options.backend, rounds, options.precision)
    if options.smoke:
        return 0
    command = " ".join(["bench_gpu_encode.py", *sys.argv[1:]])
    described = device.described()
    found = {**machine(), **described}
    found["processor"] = f"{described['device']} beside {found['processor']}"
    write_results(options.out, "Encoding on a GPU against sentence-transformers", command, rows, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
