"""Hidden states by OpenVINO on a CPU, for any model that transformers can load: converted once, in memory."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unabridged._extras import require
from unabridged.contracts import Rows
from unabridged.encoders._hf import ModelFolder
from unabridged.encoders._packed import equal_lengths
from unabridged.encoders._torch import TorchBackend
from unabridged.encoders.backend import Float32OnCpu
from unabridged.encoders.extension import NO_PLAN, Plan
from unabridged.errors import UsageError

if TYPE_CHECKING:
    import torch


class OpenVinoBackend(Float32OnCpu):
    """A model of transformers behind :class:`unabridged.encoders.backend.Backend`; loads at the first batch."""

    def __init__(
        self,
        folder: ModelFolder,
        *,
        device: str | None = None,
        precision: str = "float32",
        trust_remote_code: bool = False,
        plan: Plan = NO_PLAN,
    ) -> None:
        if (device or "cpu") != "cpu" or precision != "float32":
            raise UsageError(f"The openvino backend computes in float32 on the cpu; got {precision} on {device}.")
        if plan.changes_model:
            raise UsageError(
                "The openvino backend computes models as they are, without context extension other than pcw, "
                "temperature or logn. Use backend='auto', 'packed' or 'torch'."
            )
        self._torch = TorchBackend(folder, device="cpu", trust_remote_code=trust_remote_code)

    @cached_property
    def _model(self) -> Any:
        import torch

        openvino = require("openvino", extra="openvino", purpose="the openvino backend")
        sample = torch.ones(2, 16, dtype=torch.long)
        model = _one_output(self._torch.model)
        with torch.inference_mode(), warnings.catch_warnings():
            # The library traces with torch.jit.trace: deprecated, and it warns of every size that is looked at.
            warnings.simplefilter("ignore")
            converted = openvino.convert_model(model, example_input=(sample, sample))
        # Said outright, since the library's default on newer CPUs is bfloat16.
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        return openvino.Core().compile_model(converted, "CPU", options)

    def hidden(self, ids: NDArray[np.int32], offsets: Rows) -> torch.Tensor:
        """The last hidden states ``(T, H)`` float32; neighbours of equal length go together, nothing is padded."""
        import torch

        parts = []
        for start, count, length in equal_lengths(offsets):
            tokens = ids[start : start + count * length].astype(np.int64).reshape(count, length)
            states = self._model((tokens, np.ones_like(tokens)))[0]
            parts.append(np.array(states, dtype=np.float32).reshape(count * length, -1))
        return torch.from_numpy(np.concatenate(parts))


def _one_output(model: Any) -> Any:
    import torch

    class States(torch.nn.Module):
        """``model`` with two inputs and one output."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            states: torch.Tensor = self.model(input_ids=tokens, attention_mask=mask).last_hidden_state
            return states

    return States()
