"""Hidden states by onnxruntime on a CPU, in float32 or int8: the fastest backend there.

One sequence is one run on one thread, and as many run at once as torch may use threads.  So there is no padding,
nothing waits for a neighbour's part of a matrix product, and no vector depends on batch mates, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unabridged._extras import require
from unabridged.contracts import JSON, Floats, Rows
from unabridged.encoders import _quant
from unabridged.encoders._hf import ModelFolder
from unabridged.encoders._packed_weights import read_weights, why_not
from unabridged.encoders.backend import FLOAT32_FACTS
from unabridged.encoders.extension import NO_PLAN, LogN, Plan
from unabridged.errors import UsageError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("float32", "int8")


class OnnxBackend:
    """A BERT-like model behind :class:`unabridged.encoders.backend.Backend`; loads at the first batch."""

    batch_tokens = 16_384
    """Sequences run one by one, so a large batch costs no cache and keeps all threads busy to its end."""

    def __init__(
        self,
        folder: ModelFolder,
        *,
        device: str | None = None,
        precision: str = "float32",
        trust_remote_code: bool = False,
        plan: Plan = NO_PLAN,
    ) -> None:
        if (device or "cpu") != "cpu" or precision not in PRECISIONS:
            known = " and ".join(PRECISIONS)
            raise UsageError(f"The onnx backend computes in {known} on the cpu; got {precision} on {device}.")
        if (reason := unfit(folder, plan)) is not None:
            raise UsageError(f"The onnx backend cannot run {folder.source}: {reason}. Use backend='torch'.")
        self._folder = folder
        self._plan = plan
        self._precision = precision

    @property
    def device(self) -> str:
        """Always ``cpu``."""
        return "cpu"

    @property
    def precision(self) -> str:
        """``float32`` or ``int8``."""
        return self._precision

    @property
    def facts(self) -> Mapping[str, JSON]:
        """In float32 those of the torch backend, which gives the same vectors to rounding."""
        if self._precision == "float32":
            return FLOAT32_FACTS
        return {"backend": "onnx", "precision": "int8", "scheme": _quant.SCHEME}

    @cached_property
    def _model(self) -> _Model:
        return _Model(self._folder, self._precision, self._plan)

    def hidden(self, ids: NDArray[np.int32], offsets: Rows) -> torch.Tensor:
        """The last hidden states ``(T, H)`` float32 of the sequences in ``ids`` ``(T,)``."""
        import torch

        embedded = self._model.embed(ids, offsets)
        self._model.run(embedded, offsets, torch.get_num_threads())
        return torch.from_numpy(embedded)


class _Model:
    """Embedding matrices in numpy, the layers in one onnxruntime session that all threads share."""

    def __init__(self, folder: ModelFolder, precision: str, plan: Plan) -> None:
        from unabridged.encoders._onnx_graph import build

        self._plan = plan
        weights = read_weights(folder).sharpened(plan.temperature)
        self._session = _session(build(weights, int8=precision == "int8"))
        # The layers live in the session now; only what comes before them is kept here.
        self._words, self._positions = weights.words, weights.positions
        self._rows = _positions_only(weights)

    def embed(self, ids: NDArray[np.int32], offsets: Rows) -> Floats:
        """Word plus position plus type vectors ``(T, H)``, before the first LayerNorm."""
        embedded: Floats = self._words[ids]
        rows = self._rows.position_rows(ids, offsets, self._plan)
        embedded += self._positions[rows.low]
        if rows.between is not None:
            tokens = np.flatnonzero(rows.between)
            low, part = rows.low[tokens], rows.between[tokens, None]
            embedded[tokens] += (self._positions[low + 1] - self._positions[low]) * part
        return embedded

    def run(self, states: Floats, offsets: Rows, threads: int) -> None:
        """Replaces each sequence's rows of ``states`` ``(T, H)`` by its hidden states, longest sequences first."""

        def one(b: int) -> None:
            rows = slice(int(offsets[b]), int(offsets[b + 1]))
            states[rows] = self._session.run(None, {"embedded": states[rows][None]})[0][0]

        order = np.argsort(-np.diff(offsets), kind="stable").tolist()
        if threads <= 1 or len(order) == 1:
            for b in order:
                one(b)
            return
        with ThreadPoolExecutor(min(threads, len(order)), thread_name_prefix="onnx") as pool:
            for _ in pool.map(one, order):
                pass


def unfit(folder: ModelFolder, plan: Plan = NO_PLAN) -> str | None:
    """Why this backend cannot compute ``folder``'s model by ``plan``, for people; None if it can.  Reads no weights."""
    if plan.logn is not LogN.OFF:
        return "its attention has one scale for all lengths, and logn has one for each"
    if folder.config.get("model_type") == "mpnet":
        return "its attention takes no bias by relative position"
    return why_not(folder)


def _positions_only(weights: Any) -> Any:
    from dataclasses import replace

    return replace(weights, layers=(), words=weights.words[:0], positions=weights.positions[:0])


def _session(model: bytes) -> Any:
    runtime = require("onnxruntime", extra="onnx", purpose="the onnx backend")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
