"""Hidden states by the model's own code in transformers, on a CPU, CUDA or MPS device: the reference backend."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unabridged._extras import require
from unabridged.contracts import JSON, Rows
from unabridged.encoders._hf import ModelFolder
from unabridged.errors import UsageError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("float32", "bfloat16", "float16")


class TorchBackend:
    """A model of transformers behind :class:`unabridged.encoders.backend.Backend`; loads at the first batch."""

    def __init__(
        self,
        folder: ModelFolder,
        *,
        device: str | None = None,
        precision: str = "float32",
        trust_remote_code: bool = False,
    ) -> None:
        if precision not in PRECISIONS:
            raise UsageError(f"The torch backend computes in {', '.join(PRECISIONS)}; got precision={precision!r}.")
        self._folder = folder
        self._device = device
        self._precision = precision
        self._trust = trust_remote_code

    @cached_property
    def device(self) -> str:
        """The device that was named, else the first GPU, else the CPU."""
        return self._device or best_device()

    @property
    def precision(self) -> str:
        """``float32``, ``bfloat16`` or ``float16``."""
        return self._precision

    @property
    def facts(self) -> Mapping[str, JSON]:
        """Device and thread count are left out: they change vectors by rounding only."""
        return {"backend": "torch", "precision": self._precision}

    @cached_property
    def model(self) -> Any:
        """The loaded model in evaluation mode, on its device."""
        transformers = require("transformers", extra="torch", purpose="transformer encoders")
        with quiet(transformers):
            model = transformers.AutoModel.from_pretrained(
                str(self._folder.path),
                dtype=getattr(_torch(), self._precision),
                trust_remote_code=self._trust,
                local_files_only=True,
            )
        if getattr(model.config, "is_encoder_decoder", False):
            model = model.get_encoder()
        return model.to(self.device).eval()

    def hidden(self, ids: NDArray[np.int32], offsets: Rows) -> torch.Tensor:
        """The last hidden states ``(T, H)`` float32; padded to the longest sequence inside, and nowhere else."""
        import torch

        lengths = np.diff(offsets)
        longest = int(lengths.max())
        padded = np.full((len(lengths), longest), int(self._folder.config.get("pad_token_id") or 0), dtype=np.int64)
        real = np.arange(longest) < lengths[:, None]
        padded[real] = ids
        model = self.model
        with torch.inference_mode():
            tokens = torch.from_numpy(padded).to(self.device)
            # Without padding there is no mask, and attention takes its faster path.
            mask = None if bool(real.all()) else torch.from_numpy(real).to(self.device)
            extra = {} if mask is None else {"attention_mask": mask.long()}
            states = model(input_ids=tokens, **extra).last_hidden_state
            packed: torch.Tensor = states.reshape(-1, states.shape[-1]) if mask is None else states[mask]
            return packed.float()


def best_device() -> str:
    """``cuda:0`` or ``mps`` where there is one, else ``cpu``."""
    torch = _torch()
    if torch.cuda.is_available():
        return "cuda:0"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether ``error`` says that memory ran out: torch's own type, or the CPU allocator's message.

    Any other RuntimeError is a defect that a smaller batch would only hide.
    """
    return isinstance(error, _torch().OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error)


@contextlib.contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Without transformers' progress bar while a model loads; the caller's setting is restored."""
    log = transformers.utils.logging
    shown = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            log.enable_progress_bar()


def _torch() -> Any:
    return require("torch", extra="torch", purpose="transformer encoders")
