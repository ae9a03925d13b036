"""Search on a GPU against the CPU and against bare FAISS on the same GPU, on random clustered unit vectors.

    python benchmarks/bench_gpu_search.py

For each size, vectors lie in a mapped float16 file.  ``flat`` rows: ours is a dense index on the device (float16, more
hits than wanted are fetched and scored again with the stored vectors), bare is FAISS's own GpuIndexFlat (float16, its
ten hits as they come), CPU is our exact scan of the mapped file.  ``ivf`` rows: the same file, built with the GPU's
help, searched by ours, by FAISS's own copy of it on the GPU, and by ours on the CPU, with one nprobe.

Ours and bare alternate in one process and medians are taken; a ratio below 1 means that ours is faster.  ``GB/s`` is
bytes of the stored rows over the time of one query, ``of copy`` that over what a copy within the device's memory moves
(read and written) per second.  ``same top 10`` is the mean share of the CPU's ten hits that the GPU gives, and
``recall@10`` is against the exact scan.  ``--smoke`` takes small sizes, to try the script out.

Without a GPU that FAISS can use it ends with the exit code of that error (3 or 4) and writes nothing.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from bench_search import alternate
from machine import machine, write_results

from unabridged.errors import UnabridgedError
from unabridged.index.dense import DenseIndex, ExactVectors, FaissBase, build_base
from unabridged.index.dense._faiss import load_faiss
from unabridged.index.dense.gpu import parse_device, placed
from unabridged.index.dense.gpu.devices import device
from unabridged.index.dense.gpu.driver import LIBRARY, Gpu
from unabridged.index.dense.gpu.lists import copying_options, flat_centres
from unabridged.index.dense.gpu.machine import find_machine, usable
from unabridged.index.dense.gpu.sizes import GIB
from unabridged.index.dense.gpu.wheel import KNOWN, shown
from unabridged.index.recipe import choose_recipe
from unabridged.versions import installed

OUT = Path(__file__).parent / "results" / "gpu_search.json"
K = 10
CENTRES = 600
BLOCK = 1 << 18
KINDS = {"ivf": "SQfp16", "ivf-sq8": "SQ8", "ivf-pq": "PQ48"}
LARGE = ("ivf-sq8",)
"""Kinds that are measured at the larger sizes, too, and built on the CPU for comparison at the small ones."""
FEW = 2_000_000
"""Rows up to which the CPU is given time for more than one try."""
COPIED = 2 * GIB
Row = dict[str, Any]


def fill(path: Path, rows: int, dim: int) -> None:
    """Writes (rows, dim) float16 unit vectors around centres, on all cores; block by block the same for any size."""
    centres = np.random.default_rng(0).standard_normal((CENTRES, dim), dtype=np.float32)
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(rows, dim))

    def block(start: int) -> None:
        random = np.random.default_rng([1, start])
        part = random.standard_normal((min(BLOCK, rows - start), dim), dtype=np.float32)
        part *= np.float32(0.8)
        part += centres[random.integers(0, CENTRES, len(part))]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
        out[start : start + len(part)] = part

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(block, range(0, rows, BLOCK)))
    out.flush()


def queries_of(stored: np.ndarray, count: int) -> np.ndarray:
    """Stored rows with noise, normalized: (count, dim) float32."""
    random = np.random.default_rng(2)
    rows = stored[np.sort(random.choice(len(stored), count, replace=False))].astype(np.float32)
    rows += 0.5 * random.standard_normal(rows.shape, dtype=np.float32) / np.float32(np.sqrt(rows.shape[1]))
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def copy_rate(number: int) -> float:
    """Bytes per second, read and written, of copies within the memory of a GPU: the limit of any scan of it."""
    cuda = ctypes.CDLL(LIBRARY)
    handle, context = ctypes.c_int(), ctypes.c_void_p()
    pointers = [ctypes.c_uint64(), ctypes.c_uint64()]
    done: list[Any] = [
        cuda.cuInit(0), cuda.cuDeviceGet(ctypes.byref(handle), number),
        cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle), cuda.cuCtxPushCurrent_v2(context),
        *(cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(COPIED)) for pointer in pointers),
    ]  # fmt: skip
    try:
        if any(done):
            raise SystemExit(f"the driver could not copy {COPIED:,} bytes on cuda:{number} (codes {done})")
        times = []
        for _ in range(12):
            started = time.perf_counter()
            cuda.cuMemcpyDtoD_v2(pointers[0], pointers[1], ctypes.c_size_t(COPIED))
            cuda.cuCtxSynchronize()
            times.append(time.perf_counter() - started)
    finally:
        for pointer in pointers:
            if pointer.value:
                cuda.cuMemFree_v2(pointer)
        cuda.cuCtxPopCurrent_v2(ctypes.byref(context))
        cuda.cuDevicePrimaryCtxRelease_v2(handle)
    return 2 * COPIED / min(times)


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What ``call`` returns, and its seconds."""
    started = time.perf_counter()
    found = call()
    return found, time.perf_counter() - started


def milliseconds(call: Callable[[], Any], repeats: int) -> float:
    """Median of ``repeats`` calls."""
    return round(1e3 * float(np.median([timed(call)[1] for _ in range(repeats)])), 3)


def same(found: Any, expected: Any) -> float:
    """Mean share of the expected rows that were found."""
    shares = [len(np.intersect1d(a, b)) / len(b) for a, b in zip(found.rows, expected.rows, strict=True)]
    return round(float(np.mean(shares)), 4)


def bare_flat(stored: np.ndarray, number: int) -> Any:
    """FAISS's own flat index of float16 on the device, filled block by block."""
    faiss = load_faiss()
    config = faiss.GpuIndexFlatConfig()
    config.device, config.useFloat16, config.use_cuvs = number, True, False
    index = faiss.GpuIndexFlat(device(number).resources, stored.shape[1], faiss.METRIC_INNER_PRODUCT, config)
    for start in range(0, len(stored), BLOCK):
        index.add(np.ascontiguousarray(stored[start : start + BLOCK], dtype=np.float32))
    return index


def against(
    ours: Callable[[np.ndarray], Any], bare: Callable[[np.ndarray], Any], queries: np.ndarray, batch: int, repeats: int
) -> Row:
    """Medians of both sides for batches of that many queries, another batch each time."""
    steps = max(1, len(queries) // batch)

    def part(number: int) -> np.ndarray:
        at = number % steps * batch
        return queries[at : at + batch]

    found = alternate(lambda n: ours(part(n)), lambda n: bare(part(n)), repeats, 3)
    return {"ours ms": found["ours_ms"], "bare ms": found["bare_ms"], "ratio": found["ratio"]}


def flat_rows(
    stored: np.ndarray, queries: np.ndarray, gpu: Gpu, limit: float, options: argparse.Namespace
) -> list[Row]:
    """Flat float16 against the CPU and bare FAISS."""
    exact = ExactVectors([stored])
    moved, loading = timed(lambda: placed(DenseIndex(None, exact), f"cuda:{gpu.number}+float16"))
    bare, bare_loading = timed(lambda: bare_flat(stored, gpu.number))
    few = queries[: options.cpu_batch]
    expected, batch_seconds = timed(lambda: exact.search(few, K))
    single = milliseconds(lambda: exact.search(queries[:1], K), 3 if len(stored) <= FEW else 1)
    agreement = same(moved.search(few, K), expected)
    found = []
    for batch in options.batches:
        repeats = 60 if batch == 1 else 20 if batch < 512 else 8
        row = {"rows": len(stored), "kind": "flat float16", "queries": batch}
        row |= against(lambda q: moved.search(q, K), lambda q: bare.search(q, K), queries, batch, repeats)
        if batch == 1:
            rate = stored.nbytes / row["ours ms"] * 1e3
            row |= {"CPU ms": single, "GB/s": round(rate / 1e9), "of copy": round(rate / limit, 3)}
        if batch == len(few):
            row["CPU ms"] = round(1e3 * batch_seconds, 1)
        found.append(faster(row) | {"same top 10": agreement, "recall@10": agreement})
        tell(found[-1])
    told = moved.base.trail.reasons if moved.base is not None else {}
    found[0] |= {"load s": round(loading, 2), "bare load s": round(bare_loading, 2), "on the CPU": sum(told.values())}
    return found


def faster(row: Row) -> Row:
    """With how many times as fast the GPU is."""
    return row | ({"faster": round(row["CPU ms"] / row["ours ms"], 1)} if "CPU ms" in row else {})


def tell(row: Row) -> None:
    print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)


def list_rows(
    kind: str, stored: np.ndarray, queries: np.ndarray, truth: Any, gpu: Gpu, options: argparse.Namespace, tmp: Path
) -> list[Row]:
    """An inverted file, built with the GPU, against the CPU and FAISS's own copy of it."""
    faiss = load_faiss()
    rows, dim = stored.shape
    recipe = choose_recipe(kind, n=rows, dim=dim, ram_bytes=1 << 40, disk_bytes=1 << 44)

    def blocks() -> Iterator[np.ndarray]:
        return (stored[at : at + BLOCK] for at in range(0, rows, BLOCK))

    def build(where: str) -> dict[str, Any]:
        folder = tmp / where.replace(":", "")
        folder.mkdir(exist_ok=True)
        return build_base(blocks, rows, dim, recipe, folder, workers=os.cpu_count() or 1, device=where)

    on_cpu = timed(lambda: build("cpu"))[1] if rows <= FEW and kind in LARGE else None
    facts, seconds = timed(lambda: build(f"cuda:{gpu.number}"))
    folder = tmp / f"cuda{gpu.number}"
    exact = ExactVectors([stored])
    plain = DenseIndex(FaissBase.open(folder, facts), exact)
    moved = placed(DenseIndex(FaissBase.open(folder, facts), exact), f"cuda:{gpu.number}")
    index = faiss.read_index(str(folder / facts["file"]))
    with flat_centres(index):
        half = moved.placement is not None and moved.placement.half_tables
        cloning = copying_options(faiss.GpuClonerOptions(), cuvs=False, half_tables=half)
        bare = faiss.index_cpu_to_gpu(device(gpu.number).resources, gpu.number, index, cloning)
    probes = int(facts["search"]["nprobe"])
    params = faiss.SearchParametersIVF(nprobe=probes)
    few = queries[: options.cpu_batch]
    base: Row = {"rows": rows, "kind": facts["factory"], "nprobe": probes}
    found = []
    for batch in options.batches:
        row = base | {"queries": batch} | against(
            lambda q: moved.search(q, K), lambda q: bare.search(q, K, params=params), queries, batch, 20
        )  # fmt: skip
        if batch in (1, len(few)):
            row["CPU ms"] = milliseconds(lambda batch=batch: plain.search(queries[:batch], K), 5)
        found.append(faster(row))
        tell(found[-1])
    hits = moved.search(few, K)
    found[0] |= {"same top 10": same(hits, plain.search(few, K)), "recall@10": same(hits, truth)}
    found[0] |= {"build s": round(seconds, 1), "built on": facts.get("built_on", "cpu")}
    found[0] |= {} if on_cpu is None else {"CPU build s": round(on_cpu, 1)}
    return found


def chosen(text: str) -> tuple[Gpu, dict[str, Any]]:
    """The GPU, and what the run is on; ends the process where there is none that FAISS can use."""
    try:
        here = find_machine()
        gpu = usable(here, parse_device(text))[0]
    except UnabridgedError as error:
        print(f"No GPU to measure: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    facts = machine()
    facts["versions"] |= installed(KNOWN)
    driver = f"CUDA {shown(here.driver.version)}"
    facts |= {"device": str(gpu), "driver": driver, "FAISS": sorted(here.compiled)}
    facts["processor"] = f"{gpu.name} (driver of {driver}) and {facts['processor']}"
    return gpu, facts


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64, 1024])
    parser.add_argument("--cpu-batch", type=int, default=64, help="queries that the CPU answers, for the agreement")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--device", default="cuda", help="cuda or cuda:1")
    parser.add_argument("--out", type=Path, default=OUT, help="JSON file; a Markdown table is written beside it")
    parser.add_argument("--tmp", type=Path, help="folder for the vectors (8 GB at 10,000,000 rows) and indexes")
    parser.add_argument("--smoke", action="store_true", help="small sizes; nothing is written unless --out is given")
    options = parser.parse_args()
    if options.smoke:
        options.rows = [30_000, 60_000]
        options.out = None if options.out == OUT else options.out
    options.rows = sorted(options.rows)
    return options


def main() -> None:
    options = parsed()
    gpu, facts = chosen(options.device)
    started = time.perf_counter()
    limit = copy_rate(gpu.number)
    facts |= {"copy GB/s": round(limit / 1e9)}
    print(f"{gpu}; a copy moves {limit / 1e9:,.0f} GB/s", flush=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=options.tmp) as name:
        tmp = Path(name)
        fill(tmp / "vectors.npy", max(options.rows), options.dim)
        whole = np.load(tmp / "vectors.npy", mmap_mode="r")
        for size in options.rows:
            stored = whole[:size]
            queries = queries_of(stored, max(options.batches) * 2)
            rows += flat_rows(stored, queries, gpu, limit, options)
            truth = placed(DenseIndex(None, ExactVectors([stored])), f"cuda:{gpu.number}").search(
                queries[: options.cpu_batch], K
            )
            for kind in options.kinds if size == min(options.rows) else [k for k in options.kinds if k in LARGE]:
                rows += list_rows(kind, stored, queries, truth, gpu, options, tmp)
    facts["seconds"] = round(time.perf_counter() - started)
    if options.out is not None:
        command = "bench_gpu_search.py" + ("" if len(sys.argv) == 1 else " " + " ".join(sys.argv[1:]))
        write_results(options.out, "Search on a GPU against the CPU and bare FAISS", command, rows, facts)
        print(options.out.with_suffix(".md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
