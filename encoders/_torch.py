"""Hidden states by the model's own code in transformers, on a CPU, CUDA or MPS device: the reference backend."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unabridged._extras import require
from unabridged.contracts import JSON, Rows
from unabridged.encoders._hf import ModelFolder
from unabridged.encoders.plan import NO_PLAN, Plan
from unabridged.errors import UsageError
from unabridged.halving import ran_out

if TYPE_CHECKING:
    import torch

    from unabridged.encoders._extended import Extended

    Forward = Callable[[NDArray[np.int32], Rows], torch.Tensor]

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
        plan: Plan = NO_PLAN,
    ) -> None:
        if precision not in PRECISIONS:
            raise UsageError(f"The torch backend computes in {', '.join(PRECISIONS)}; got precision={precision!r}.")
        self._folder = folder
        self._device = device
        self._precision = precision
        self._trust = trust_remote_code
        self._plan = plan

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

    @property
    def model(self) -> Any:
        """The loaded model in evaluation mode, on its device, extended where there is a plan."""
        return self._loaded[0]

    def load(self) -> None:
        """Reads the weights, if that was not done."""
        _ = self._loaded

    @property
    def extended(self) -> Extended | None:
        """What was exchanged in the model; None without a plan that changes it."""
        return self._loaded[1]

    @cached_property
    def _loaded(self) -> tuple[Any, Extended | None]:
        from unabridged.encoders._devices import check_device

        check_device(self.device)
        transformers = require("transformers", extra="torch", purpose="transformer encoders")
        where = {"trust_remote_code": self._trust, "local_files_only": True}
        path = str(self._folder.path)
        config = {}
        if self._plan.changes_model:
            from unabridged.encoders._extended import Extended, without_short_window

            config["config"] = without_short_window(transformers.AutoConfig.from_pretrained(path, **where), self._plan)
        with quiet(transformers):
            model = transformers.AutoModel.from_pretrained(
                path, dtype=getattr(_torch(), self._precision), **config, **where
            )
        if getattr(model.config, "is_encoder_decoder", False):
            model = model.get_encoder()
        model = model.to(self.device).eval()
        return model, Extended(model, self._plan, self._folder) if self._plan.changes_model else None

    def hidden(self, ids: NDArray[np.int32], offsets: Rows) -> torch.Tensor:
        """The last hidden states ``(T, H)`` float32; padded to the longest sequence inside, and nowhere else."""
        import torch

        extended = self.extended
        with torch.inference_mode():
            if extended is None:
                return self._forward(ids, offsets)
            return _by_group(extended, ids, offsets, self._forward)

    def _forward(self, ids: NDArray[np.int32], offsets: Rows) -> torch.Tensor:
        import torch

        lengths = np.diff(offsets)
        longest = int(lengths.max())
        padded = np.full((len(lengths), longest), int(self._folder.config.get("pad_token_id") or 0), dtype=np.int64)
        real = np.arange(longest) < lengths[:, None]
        padded[real] = ids
        device = torch.device(self.device)
        # Without padding there is no mask, and attention takes its faster path.
        whole = bool(real.all())
        extra = {} if whole else {"attention_mask": put(real.astype(np.int64), device)}
        states = self.model(input_ids=put(padded, device), **extra).last_hidden_state
        packed: torch.Tensor = states.reshape(-1, states.shape[-1])
        if not whole:
            # By rows that the CPU knows: a mask on a GPU would have to be counted before anything else is told to it.
            packed = packed.index_select(0, put(np.flatnonzero(real), device))
        return packed.float()


def _by_group(extended: Extended, ids: NDArray[np.int32], offsets: Rows, forward: Forward) -> torch.Tensor:
    """The batch in the groups that an extended model runs together, put together again."""
    import torch

    lengths = np.diff(offsets)
    groups = extended.groups(lengths)
    if len(groups) == 1:
        with extended.reading(lengths):
            return forward(ids, offsets)
    tokens = [np.concatenate([np.arange(offsets[row], offsets[row + 1]) for row in rows]) for rows in groups]
    parts = []
    for rows, places in zip(groups, tokens, strict=True):
        with extended.reading(lengths[rows]):
            parts.append(forward(ids[places], np.concatenate(([0], np.cumsum(lengths[rows])))))
    order = torch.from_numpy(np.argsort(np.concatenate(tokens))).to(parts[0].device)
    return torch.cat(parts)[order]


def put(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """``array`` on ``device``; to a GPU from pinned memory, without waiting for what it does now."""
    import torch

    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def best_device() -> str:
    """``cuda:0`` or ``mps`` where there is one, else ``cpu``."""
    torch = _torch()
    if torch.cuda.is_available():
        return "cuda:0"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out (:func:`unabridged.halving.ran_out`)."""
    return ran_out(error)


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
