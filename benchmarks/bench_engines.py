"""One corpus built by this process, by a pool of processes and by actors of Ray: rates, their ratio, manifests.

    python benchmarks/bench_engines.py [--engines local,pool,ray] [--workers 2] [--documents 20] [--encoder NAME]

Documents are pieces of the demo's speeches, so that there are several units for every worker.  The rate of an engine
is that of the whole command, with the start of its processes and the loading of its models, which a short run feels;
``from_first_unit`` is the rate behind the first unit that was stored.  The hash is that of the manifest: one for all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import machine, write_results

import unabridged as ub
from unabridged.contracts import Document
from unabridged.progress import Progress
from unabridged.retrievers.units import UNIT_CHARACTERS

CORPUS = Path(__file__).parent.parent / "examples" / "data" / "speeches.jsonl.gz"


def pieces(count: int, characters: int) -> list[dict[str, str]]:
    """``count`` documents of about ``characters`` characters, no two equal: from the second round on with a number."""
    texts = [item.source for item in ub.read_corpus(CORPUS) if isinstance(item, Document)]
    cut = [text[at : at + characters] for text in texts for at in range(0, len(text), characters)]
    rounds = (cut[n % len(cut)] if n < len(cut) else f"{n} {cut[n % len(cut)]}" for n in range(count))
    return [{"_id": str(n), "text": text} for n, text in enumerate(rounds)]


class Watch:
    """When the first unit was stored, and what it held."""

    def __init__(self) -> None:
        self.first: tuple[float, int] | None = None

    def __call__(self, event: Progress) -> None:
        """Takes an event of a build."""
        if self.first is None:
            self.first = (event.seconds, event.tokens)
        self.last = event


def measured(
    engine: str, corpus: list[dict[str, str]], encoder: str | None, workers: int, address: str | None
) -> dict[str, Any]:
    """One build in a folder of its own."""
    watch = Watch()
    options: dict[str, Any] = {} if engine == "local" else {"workers": workers}
    if engine == "ray" and address is not None:
        options["address"] = address
    with tempfile.TemporaryDirectory(prefix="bench-engines-") as folder:
        started = time.perf_counter()
        index = ub.build_index(corpus, encoder, Path(folder) / "ix", engine=engine, progress=watch, **options)
        seconds = time.perf_counter() - started
        tokens = int(index.report["tokens_seen"])
        manifest = (Path(folder) / "ix" / "manifest.json").read_bytes()
    at, before = watch.first or (0.0, 0)
    behind = watch.last.seconds - at
    return {
        "engine": engine,
        "workers": options.get("workers", 1),
        "documents": len(corpus),
        "tokens": tokens,
        "seconds": round(seconds, 2),
        "documents_per_second": round(len(corpus) / seconds, 2),
        "tokens_per_second": round(tokens / seconds),
        "from_first_unit": round((tokens - before) / behind) if behind > 0 else None,
        "manifest": hashlib.sha256(manifest).hexdigest()[:16],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default="local,pool,ray")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--characters", type=int, default=UNIT_CHARACTERS // 4)
    parser.add_argument("--encoder", help="a name or folder; the embedded encoder without one")
    parser.add_argument("--address", help="of Ray; this machine without one")
    parser.add_argument("--out", type=Path, help="write the results to this .json, and a table beside it")
    options = parser.parse_args()
    corpus = pieces(options.documents, options.characters)
    rows = []
    for engine in options.engines.split(","):
        row = measured(engine, corpus, options.encoder, options.workers, options.address)
        row["ratio"] = round(row["tokens_per_second"] / rows[0]["tokens_per_second"], 2) if rows else 1.0
        rows.append(row)
        print(json.dumps(row), flush=True)
    same = len({row["manifest"] for row in rows}) == 1
    print("manifests: " + ("one for all" if same else "DIFFERENT"))
    if options.out:
        write_results(options.out, "Builds by engine", "bench_engines.py", rows, machine())
    if not same:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
