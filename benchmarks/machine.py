"""What a benchmark ran on, and one way to write its results: JSON, and a Markdown table beside it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unabridged.versions import installed

PACKAGES = (
    "unabridged",
    "numpy",
    "torch",
    "transformers",
    "sentence-transformers",
    "faiss-cpu",
    "bm25s",
    "onnxruntime",
)


def machine() -> dict[str, Any]:
    """Processor, cores, memory and versions; no name of the host."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": installed(PACKAGES),
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return platform.processor()
    lines = path.read_text(encoding="utf-8").splitlines()
    values = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = values.get("flags", "").split()
    simd = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8") if flag in flags]
    return f"{values.get('model name', 'unknown')} ({', '.join(simd) or 'no AVX2'})"


def write_results(
    path: Path, title: str, command: str, rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]
) -> None:
    """Writes ``path`` (.json) and the same table as .md."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body = {"title": title, "command": f"python benchmarks/{command}", "machine": machine, "rows": list(rows)}
    path.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [f"# {title}", "", f"`python benchmarks/{command}` on {machine['processor']}, {machine['cores']} cores,"]
    lines += [
        "Python " + machine["python"] + ", " + ", ".join(f"{k} {v}" for k, v in machine["versions"].items()) + ".",
        "",
    ]
    lines += ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(str(row.get(name, "")) for name in names) + " |" for row in rows]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
