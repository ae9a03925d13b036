"""The backend that is chosen when the first vector is asked for, so that naming an encoder loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import JSON, Rows
from unabridged.encoders._hf import ModelFolder
from unabridged.encoders.backend import Backend
from unabridged.encoders.extension import NO_PLAN, Plan
from unabridged.errors import UsageError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("float32", "bfloat16", "float16", "int8")


class AutoBackend:
    """Forwards to what :func:`unabridged.encoders._choose.choose_backend` picks.

    Its facts are known beforehand: all float32 backends share one vector space and state the same facts.
    """

    def __init__(
        self,
        folder: ModelFolder,
        *,
        device: str | None = None,
        precision: str,
        trust_remote_code: bool = False,
        plan: Plan = NO_PLAN,
    ) -> None:
        if precision not in PRECISIONS:
            raise UsageError(f"Unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}.")
        self._folder = folder
        self._device = device
        self.precision = precision
        self._trust_remote_code = trust_remote_code
        self._plan = plan

    @cached_property
    def chosen(self) -> Backend:
        """The backend, not yet loaded."""
        from unabridged.encoders._choose import choose_backend

        return choose_backend(
            self._folder,
            self._device,
            self.precision,
            trust_remote_code=self._trust_remote_code,
            plan=self._plan,
        )

    @property
    def device(self) -> str:
        """Where the model runs."""
        return self.chosen.device

    @property
    def batch_tokens(self) -> int | None:
        """Tokens per batch that suit the backend, where it states a number."""
        found: int | None = getattr(self.chosen, "batch_tokens", None)
        return found

    @property
    def facts(self) -> Mapping[str, JSON]:
        """What changes vectors."""
        if self.precision == "int8":
            return self.chosen.facts
        return {"backend": "torch", "precision": self.precision}

    def load(self) -> None:
        """Reads the weights, where the backend does that on its own."""
        load = getattr(self.chosen, "load", None)
        if callable(load):
            load()

    def hidden(self, ids: NDArray[np.int32], offsets: Rows) -> torch.Tensor:
        """As :meth:`Backend.hidden`."""
        return self.chosen.hidden(ids, offsets)
