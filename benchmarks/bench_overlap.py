"""Building an index while it is read, tokenised, encoded and stored at the same time, against one after another.

    python benchmarks/bench_overlap.py [--documents 400] [--encoder onnx] [--device cuda] [--out FILE.json]

Documents are stretches of the standard library of up to 2,048 tokens.  Both ways alternate in one process; ``ratio`` is
the median of the pairs, above 1 where doing things at the same time is faster, and both folders have the same files,
which is checked.  On a CPU whose cores the model keeps busy there is little to win; ``--threads 1`` leaves one free.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_encode import windows
from machine import machine, write_results

from unabridged.contracts import Document
from unabridged.corpora import ListCorpus
from unabridged.encoders.load import load_encoder
from unabridged.manifest import load_manifest
from unabridged.retrievers.build import build
from unabridged.retrievers.encoding import Here
from unabridged.retrievers.engines import choice
from unabridged.retrievers.overlap import Overlapped

WAYS = {"one after another": lambda prepare: Here(lambda sources: prepare(sources)()), "at the same time": Overlapped}


def once(way: str, corpus: ListCorpus, encoder: Any, folder: Path) -> tuple[float, dict[str, Any]]:
    """Seconds of a build, and its manifest."""
    choice.Overlapped = WAYS[way]
    try:
        started = time.perf_counter()
        build(corpus, encoder, folder, options={"recipe": "flat"})
        return time.perf_counter() - started, load_manifest(folder)
    finally:
        choice.Overlapped = Overlapped
        shutil.rmtree(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encoder", nargs="*", default=["hashing", "auto"], help="hashing, or a backend's name")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--threads", type=int, help="of torch [all]")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    corpus = ListCorpus([Document(f"d{n}", text) for n, text in enumerate(windows(options.documents, 2048))])
    rows = []
    for name in options.encoder:
        encoder = (
            load_encoder("hashing")
            if name == "hashing"
            else load_encoder(device=options.device, backend=name, precision=options.precision)
        )
        encoder.encode_documents(["a text to load the model by"])
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        manifests = []
        with tempfile.TemporaryDirectory() as place:
            for turn in range(options.rounds):
                for way in sorted(WAYS, reverse=turn % 2 == 0):
                    took, manifest = once(way, corpus, encoder, Path(place) / "index")
                    seconds[way].append(took)
                    manifests.append(manifest)
        first, second = (seconds[way] for way in WAYS)
        row = {
            "encoder": name,
            "device": options.device,
            "threads": torch.get_num_threads(),
            "documents": len(corpus),
            **{f"{way}, s": round(statistics.median(took), 2) for way, took in seconds.items()},
            "ratio": round(statistics.median(a / b for a, b in zip(first, second, strict=True)), 3),
            "same files": all(manifest == manifests[0] for manifest in manifests),
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    if options.out:
        command = " ".join(["bench_overlap.py", *sys.argv[1:]])
        write_results(options.out, "Building an index: at the same time or one after another", command, rows, machine())
    return 0 if all(row["same files"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
