"""Encoding throughput, memory and loss against sentence-transformers, on the embedded model and a CPU.

    python benchmarks/bench_encode.py --documents 200 --out benchmarks/results/encode_cpu.json
    python benchmarks/bench_encode.py --quality

Documents are stretches of the running Python's standard library whose lengths are log-normal in tokens (median 300,
sigma 1, between 8 and 8,192), cut by our splitter; every system gets the same window texts, tokenising included.
Systems alternate in one process and medians are taken, so that other load hits all; memory is the peak of a process
that runs one system alone.  ``--quality`` searches functions by the first paragraph of their docstring.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

MEDIAN, SIGMA, SHORTEST, LONGEST = 300, 1.0, 8, 8192
SYSTEMS = ("st", "packed-float32", "onnx-float32", "onnx-int8")
ST = SYSTEMS[0]
Encode = Callable[[list[str]], np.ndarray]


def library() -> Iterator[Path]:
    """The standard library's modules, in order of name."""
    yield from sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))


def folder():
    from unabridged.encoders._resolve import resolve

    return resolve(None)


def windows(documents: int, window: int, seed: int = 0) -> list[str]:
    """Texts of at most ``window`` tokens, specials included."""
    from unabridged.encoders._tokens import Tokenizer
    from unabridged.encoders.windows import split

    tokenizer = Tokenizer(folder())
    sources = [path.read_text(encoding="utf-8") for path in library()]
    source = "\n\n".join(text for text in sources if len(text) > 20_000)[:4_000_000]
    places = tokenizer.encode([source])[0].characters()
    random = np.random.default_rng(seed)
    lengths = np.clip(np.exp(random.normal(np.log(MEDIAN), SIGMA, documents)), SHORTEST, LONGEST).astype(int)
    texts = []
    for length in lengths.tolist():
        start = int(random.integers(0, len(places) - length))
        text = source[int(places[start, 0]) : int(places[start + length - 1, 1])]
        cut = split(text, tokenizer.encode([text])[0].characters(), window - 2)
        texts += [text[a:b] for a, b in cut.spans.tolist()]
    return texts


def system(name: str, window: int) -> Encode:
    """A function from texts to vectors ``(S, D)``."""
    if name == ST:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder().path), device="cpu")
        model.max_seq_length = window
        return lambda texts: np.asarray(model.encode(texts, show_progress_bar=False))
    from unabridged.contracts import Level, OverflowPolicy
    from unabridged.encoders.load import BACKENDS
    from unabridged.encoders.transformer import Settings, TransformerEncoder

    kind, _, precision = name.partition("-")
    module, backend_class = BACKENDS[kind]
    imported = __import__(f"unabridged.encoders.{module}", fromlist=[backend_class])
    backend = getattr(imported, backend_class)(folder(), device="cpu", precision=precision)
    settings = Settings(max_tokens=window, batch_tokens=getattr(backend, "batch_tokens", None))
    encoder = TransformerEncoder(folder(), [backend], settings)

    def encode(texts: list[str]) -> np.ndarray:
        found = encoder.encode_documents(texts, level=Level.SEGMENT, overflow=OverflowPolicy.TRUNCATE)
        assert found.segments is not None and len(found.segments) == len(texts)  # noqa: S101, PT018
        return found.segments

    return encode


def gemm_limit() -> dict[str, float]:
    """GFLOP/s of this machine's float32 matrix product, and the tokens/s if the model were nothing else."""
    import torch

    config = folder().config
    wide, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    a, b = torch.randn(2048, wide), torch.randn(wide, inner)
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    rate = 2 * 2048 * wide * inner / min(seconds)
    return {"gflops": rate / 1e9, "tokens_per_s": rate / (2 * layers * (4 * wide * wide + 2 * wide * inner))}


def peak_mib() -> float:
    """The highest resident memory of this process so far."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def memory(name: str, texts: list[str], window: int) -> float:
    """Peak MiB of a process that runs ``name`` alone on texts that were cut elsewhere."""
    call = [sys.executable, __file__, "--alone", name, "--window", str(window)]
    done = subprocess.run(call, check=True, capture_output=True, text=True, input=json.dumps(texts))
    return float(done.stdout.split()[-1])


def measure(documents: int, window: int, rounds: int) -> dict[str, Any]:
    """Speed, memory and agreement of all systems on one set of windows."""
    from unabridged.encoders._tokens import Tokenizer

    texts = windows(documents, window)
    counts = np.minimum(Tokenizer(folder()).count(texts) + 2, window)
    encoders = {name: system(name, window) for name in SYSTEMS}
    vectors = {name: encode(texts) for name, encode in encoders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in SYSTEMS}
    for _ in range(rounds):
        for name, encode in encoders.items():
            start = time.perf_counter()
            encode(texts)
            seconds[name].append(time.perf_counter() - start)
    total = int(counts.sum())
    base = seconds[ST]
    rows = {}
    for name in SYSTEMS:
        cosines = np.einsum("ij,ij->i", vectors[name].astype(np.float64), vectors[ST].astype(np.float64))
        rows[name] = {
            "tokens_per_s": round(total / statistics.median(seconds[name])),
            "ratio": round(statistics.median(a / b for a, b in zip(base, seconds[name], strict=True)), 2),
            "peak_mib": round(memory(name, texts, window)),
            "cosine_min": float(cosines.min()),
            "cosine_p1": float(np.quantile(cosines, 0.01)),
            "cosine_mean": float(cosines.mean()),
        }
    tokens = {"total": total, "median": float(np.median(counts)), "full": float(np.mean(counts > window * 0.9))}
    return {"window": window, "documents": documents, "windows": len(texts), "tokens": tokens, "systems": rows}


def pairs(limit: int) -> tuple[list[str], list[str]]:
    """First paragraphs of docstrings, and the functions they stand in without their docstrings."""
    found: dict[str, str] = {}
    for path in library():
        source = path.read_text(encoding="utf-8")
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("__"):
                continue
            question = (ast.get_docstring(node) or "").split("\n\n")[0].strip()
            if question and len(node.body) > 1:
                text = "\n".join(
                    lines[node.lineno - 1 : node.body[0].lineno - 1] + lines[node.body[0].end_lineno : node.end_lineno]
                )
                if text.count("\n") >= 3:
                    found.setdefault(question, text)
    chosen = np.random.default_rng(0).permutation(sorted(found))[:limit].tolist()
    return chosen, [found[question] for question in chosen]


def quality(limit: int, window: int = 256) -> dict[str, Any]:
    """nDCG@10 of each system; query i has the one relevant document i."""
    questions, texts = pairs(limit)
    scores = {}
    for name in SYSTEMS:
        encode = system(name, window)
        similar = encode(questions) @ encode(texts).T
        ranks = (similar > np.diag(similar)[:, None]).sum(axis=1)
        scores[name] = round(float(np.where(ranks < 10, 1 / np.log2(ranks + 2), 0).mean()), 5)
    return {"pairs": len(questions), "window": window, "ndcg_at_10": scores}


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    import torch

    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    kept = [flag for flag in ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8") if flag in flags]
    packages = ("torch", "transformers", "sentence-transformers", "onnxruntime", "numpy")
    facts = {"cores": os.cpu_count(), "torch_threads": torch.get_num_threads(), "flags": kept, "load": os.getloadavg()}
    return {**facts, "python": platform.python_version(), **{name: version(name) for name in packages}}


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    limit = result["gemm_limit"]
    lines = ["# Encoding on a CPU against sentence-transformers", "", f"Machine: {json.dumps(result['machine'])}", ""]
    lines += [
        f"Float32 matrix products alone: {limit['gflops']:.0f} GFLOP/s, {limit['tokens_per_s']:.0f} tokens/s.",
        "",
    ]
    for run in result["runs"]:
        lines += [
            f"## Window {run['window']}: {run['documents']} documents, {run['windows']} windows, "
            f"{run['tokens']['total']} tokens (median {run['tokens']['median']:.0f})",
            "",
            "| system | tokens/s | ratio | of limit | peak MiB | cosine min | p1 | mean |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for name, row in run["systems"].items():
            cosines = " | ".join(f"{row[key]:.6f}" for key in ("cosine_min", "cosine_p1", "cosine_mean"))
            share = row["tokens_per_s"] / limit["tokens_per_s"]
            lines.append(
                f"| {name} | {row['tokens_per_s']} | {row['ratio']:.2f} | {share:.2f} | {row['peak_mib']} | {cosines} |"
            )
        lines.append("")
    if (found := result.get("quality")) is not None:
        lines += [f"## nDCG@10, {found['pairs']} docstrings to their functions, window {found['window']}", ""]
        lines += ["| system | nDCG@10 |", "|---|---|"]
        lines += [f"| {name} | {score:.4f} |" for name, score in found["ndcg_at_10"].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=150)
    parser.add_argument("--window", type=int, nargs="*", default=[512, 256])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quality", action="store_true", help="also measure nDCG@10")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="JSON file; a Markdown file is written beside it")
    parser.add_argument("--alone", choices=SYSTEMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        system(options.alone, options.window[0])(json.load(sys.stdin))
        print(peak_mib())
        return
    result: dict[str, Any] = {"machine": machine(), "gemm_limit": gemm_limit()}
    result["runs"] = [measure(options.documents, window, options.rounds) for window in options.window]
    if options.quality:
        result["quality"] = quality(options.pairs)
    print(table(result))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        options.out.with_suffix(".md").write_text(table(result), encoding="utf-8")


if __name__ == "__main__":
    main()
