"""Which backend runs a model: the fastest one that gives the vectors that were asked for.

On a CPU in float32, for models that :mod:`unabridged.encoders._packed_weights` knows: onnxruntime where it is
installed, else the packed backend.  Both share one vector space with the torch backend, which takes the rest.
int8 exists in onnxruntime only.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from unabridged._extras import require
from unabridged.encoders._hf import ModelFolder
from unabridged.encoders._packed_weights import why_not
from unabridged.encoders.backend import Backend
from unabridged.encoders.extension import NO_PLAN, Plan


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend's name in :data:`unabridged.encoders.load.BACKENDS`, and why, for people."""

    name: str
    reason: str


def choose(folder: ModelFolder, device: str | None = None, precision: str = "float32", plan: Plan = NO_PLAN) -> Choice:
    """The backend for ``folder`` by ``plan``; reads no weights.

    With ``device`` None torch is asked whether there is a GPU.
    """
    from unabridged.encoders._onnx import unfit

    if precision == "int8":
        return Choice("onnx", "int8 exists in onnxruntime only")
    if precision != "float32":
        return Choice("torch", f"{precision} exists in torch only")
    place = device if device is not None else _best_device()
    if place != "cpu":
        return Choice("torch", f"the model runs on {place}")
    if (reason := why_not(folder)) is not None:
        return Choice("torch", reason)
    if unfit(folder, plan) is None and all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
        return Choice("onnx", "onnxruntime is installed: the fastest in float32 on a CPU")
    if plan.changes_attention:
        return Choice("packed", "fastest in float32 on a CPU for this plan")
    return Choice("packed", 'fastest in float32 on a CPU without onnxruntime (pip install "unabridged[onnx]")')


def choose_backend(
    folder: ModelFolder,
    device: str | None = None,
    precision: str = "float32",
    *,
    trust_remote_code: bool = False,
    plan: Plan = NO_PLAN,
) -> Backend:
    """The backend that :func:`choose` names, not yet loaded.

    :class:`MissingExtra` or :class:`UsageError` where nothing can run ``folder`` in ``precision``.
    """
    name = choose(folder, device, precision, plan).name
    if name == "onnx":
        from unabridged.encoders._onnx import OnnxBackend

        for module in ("onnx", "onnxruntime"):
            require(module, extra="onnx", purpose=f"{precision} on a CPU")
        return OnnxBackend(folder, device=device, precision=precision, plan=plan)
    if name == "packed":
        from unabridged.encoders._packed import PackedBackend

        return PackedBackend(folder, device=device, precision=precision, plan=plan)
    from unabridged.encoders._torch import TorchBackend

    # A plan that leaves the forward pass alone (pcw) is none for a backend.
    changed = {"plan": plan} if plan.changes_model else {}
    return TorchBackend(folder, device=device, precision=precision, trust_remote_code=trust_remote_code, **changed)


def _best_device() -> str:
    from unabridged.encoders._torch import best_device

    return best_device()
