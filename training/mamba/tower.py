"""A Mamba as what :mod:`unabridged.training.retriever` teaches."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from unabridged.contracts import Floats, Rows
from unabridged.encoders.mamba.placed import device_errors
from unabridged.encoders.mamba.settings import PRECISIONS
from unabridged.encoders.pooling import pool
from unabridged.errors import ShapeError, UsageError
from unabridged.training.mamba.start import Start

if TYPE_CHECKING:
    import torch

WORDS = "embeddings.weight"
STEPPED = ("A_log", "D", "dt_bias", "dt_proj.bias")
"""Parameters of the recurrence, which weight decay would pull towards another time scale."""


@dataclass(frozen=True, slots=True)
class Running:
    """How it is computed; changes results by rounding only."""

    device: str = "cpu"
    precision: str = "float32"
    """``bfloat16``: matmuls by autocast; parameters, moments and states stay float32."""
    checkpoint: bool = False
    """Layers are computed again on the way back instead of being remembered."""
    freeze_words: bool = False
    """Word vectors stay as they are."""

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"A Mamba is trained in {' or '.join(PRECISIONS)}, got precision={self.precision!r}.")


class MambaTower:
    """Satisfies :class:`unabridged.training.retriever.Tower`."""

    def __init__(self, start: Start, running: Running) -> None:
        from unabridged.encoders.mamba.model import MambaModel

        self._running = running
        self._pooling = start.pooling
        # Copies: the tensors of a start are read again when a training is made anew.
        with device_errors(running.device):
            own = {name: value.to(running.device, copy=True) for name, value in start.tensors.items()}
        for name, value in own.items():
            value.requires_grad_(not (running.freeze_words and name == WORDS))
        self.model = MambaModel(start.config, own, checkpoint=running.checkpoint)

    @property
    def parameters(self) -> Mapping[str, torch.Tensor]:
        """All, or all but the word vectors."""
        return {name: value for name, value in self.model.parameters.items() if value.requires_grad}

    @property
    def undecayed(self) -> frozenset[str]:
        """Scales, biases and what the recurrence decays by."""
        return frozenset(
            name
            for name in self.parameters
            if name.endswith(STEPPED) or name.endswith(".bias") or name.endswith(("norm.weight", "norm_f.weight"))
        )

    @property
    def width(self) -> int:
        """Of vectors."""
        return self.model.config.width

    @property
    def device(self) -> str:
        """Where its tensors are."""
        return self._running.device

    def embed(self, ids: torch.Tensor, offsets: Rows) -> torch.Tensor:
        """``(B, H)`` float32: the state of each sequence's last token, or the mean of its states.

        :class:`ShapeError` for states that are not finite.
        """
        from unabridged.encoders.mamba.finite import NonFinite

        try:
            with self._autocast():
                hidden, _ = self.model.hidden(ids, offsets)
        except NonFinite as error:
            raise ShapeError(
                f"Layer {error.layer} came to give NaN or infinite values in training. Lower the rate (--lr) or the "
                "clip, or train in float32 if it is not."
            ) from error
        return pool(hidden, offsets, (self._pooling,))

    def vectors(self, ids: Rows, offsets: Rows) -> Floats:
        """The same without a gradient, from and to numpy."""
        import torch

        with torch.no_grad():
            found: Floats = self.embed(torch.from_numpy(ids).to(self.device), offsets).cpu().numpy()
        return np.ascontiguousarray(found)

    def _autocast(self) -> AbstractContextManager[object]:
        import torch

        if self._running.precision == "float32":
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)
