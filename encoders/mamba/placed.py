"""A Mamba on one device: weights are read with the first vector that is asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from unabridged._extras import require
from unabridged.encoders._hf import ModelFolder
from unabridged.encoders._tokens import Ids
from unabridged.encoders.batching import CPU_BATCH_TOKENS, GPU_BATCH_TOKENS
from unabridged.errors import UsageError
from unabridged.halving import MemoryUse

if TYPE_CHECKING:
    from unabridged.encoders.mamba.config import MambaConfig
    from unabridged.encoders.mamba.model import MambaModel
    from unabridged.encoders.mamba.streaming import Streaming

EXACT = ("A_log", ".D", "dt_bias", "dt_proj.bias", "norm.weight", "norm_f.weight")
"""Endings of parameters that are float32 in any precision: recurrent dynamics are sensitive to them (the authors of
Mamba, in their README), and they are small."""


class Placed:
    """The model of ``folder``, and the block size that its device's memory allowed so far."""

    def __init__(self, folder: ModelFolder, device: str | None, precision: str, block: int | None) -> None:
        self._folder = folder
        self._device = device
        self._precision = precision
        self._block = block
        self._streaming: Streaming | None = None

    @cached_property
    def config(self) -> MambaConfig:
        """The shape of the model; needs no torch."""
        from unabridged.encoders.mamba.config import MambaConfig

        return MambaConfig.from_json(self._folder.config, str(self._folder.path / "config.json"))

    @cached_property
    def device(self) -> str:
        """The device that was named, else the first GPU, else the CPU."""
        from unabridged.encoders._torch import best_device

        return self._device or best_device()

    @property
    def precision(self) -> str:
        """Of weights and activations: ``float32`` or ``bfloat16``; states are float32 always."""
        return self._precision

    @cached_property
    def model(self) -> MambaModel:
        """On its device."""
        torch = require("torch", extra="torch", purpose="Mamba encoders")
        from unabridged.encoders.mamba.checkpoint import load_tensors
        from unabridged.encoders.mamba.model import MambaModel

        kind = getattr(torch, self._precision)
        stored = load_tensors(self._folder.path, self.config)
        with device_errors(self.device):
            own = {
                name: tensor.to(self.device, torch.float32 if name.endswith(EXACT) else kind)
                for name, tensor in stored.items()
            }
        return MambaModel(self.config, own)

    @property
    def memory(self) -> MemoryUse | None:
        """What memory did to the blocks; None before the first."""
        return None if self._streaming is None else self._streaming.use

    def streaming(self, closing: Ids, pooling: str) -> Streaming:
        """The way of streams through the model; the same one each time, with what it learned of memory."""
        if self._streaming is None:
            from unabridged.encoders.mamba.streaming import Streaming

            block = self._block or (CPU_BATCH_TOKENS if self.device == "cpu" else GPU_BATCH_TOKENS)
            self._streaming = Streaming(self.model, self.device, closing, pooling, block)
        return self._streaming


@contextlib.contextmanager
def device_errors(device: str) -> Iterator[None]:
    """:class:`UsageError` for a device that torch does not know or does not find; a lack of memory passes."""
    from unabridged.encoders._torch import is_out_of_memory

    try:
        yield
    except (RuntimeError, AssertionError) as error:
        if is_out_of_memory(error):
            raise
        raise UsageError(
            f"The device {device!r} cannot be used ({str(error).splitlines()[0]}). Name one that torch has here, such "
            "as cpu."
        ) from error
