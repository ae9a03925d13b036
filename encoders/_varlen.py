"""Hidden states of BERT-like models without any padding, for GPUs: packed tokens, and attention by sequence lengths.

All matrix products are over the ``(T, H)`` tokens of a batch as they lie, one after another.  Attention in bfloat16 and
float16 is FlashAttention's for sequences of different lengths (Dao 2023, arXiv 2307.08691, in torch as
``torch.nn.attention.varlen``), told never to split a sequence's keys, so that no vector depends on batch mates.
Elsewhere, above all in float32, queries, keys and values are padded for the attention alone.

Nothing here waits for the device: lengths and places are known to the CPU, and copies to the device are from pinned
memory and in the stream's order.  The model is that of :mod:`unabridged.encoders._packed`, with the same facts as the
torch backend's: in float32 both agree to rounding, in half precision to that of the precision (cosine above 0.999).

Letters::

    T tokens, packed over B sequences     H hidden width     A heads     D width of a head     L longest sequence
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unabridged._extras import require
from unabridged.contracts import JSON, Rows
from unabridged.encoders._hf import ModelFolder
from unabridged.encoders._packed_weights import Weights, read_weights, why_not
from unabridged.encoders._rows import MatrixRows
from unabridged.encoders.extension import NO_PLAN, LogN, Plan
from unabridged.errors import UsageError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("float32", "bfloat16", "float16")
FLASH_CAPABILITY = (8, 0)
"""FlashAttention 2 needs Ampere or newer."""
FLASH_WIDTH = 256
"""Its widest head; widths are multiples of 8."""


class VarlenBackend:
    """A BERT-like model behind :class:`unabridged.encoders.backend.Backend`; loads at the first batch."""

    compiled = False

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
            raise UsageError(f"The varlen backend computes in {', '.join(PRECISIONS)}; got precision={precision!r}.")
        if (reason := unfit(folder, plan)) is not None:
            raise UsageError(f"The varlen backend cannot run {folder.source}: {reason}. Use backend='torch'.")
        self._folder = folder
        self._device = device
        self._precision = precision
        self._plan = plan

    @cached_property
    def device(self) -> str:
        """The device that was named, else the first GPU, else the CPU."""
        from unabridged.encoders._torch import best_device

        return self._device or best_device()

    @property
    def precision(self) -> str:
        """``float32``, ``bfloat16`` or ``float16``."""
        return self._precision

    @property
    def facts(self) -> Mapping[str, JSON]:
        """Those of the torch backend in this precision."""
        return {"backend": "torch", "precision": self._precision}

    def load(self) -> None:
        """Reads the weights, if that was not done."""
        _ = self._model

    @cached_property
    def _model(self) -> _Model:
        from unabridged.encoders._devices import check_device

        check_device(self.device)
        weights = read_weights(self._folder).sharpened(self._plan.temperature)
        return _Model(weights, self._plan, self.device, self._precision, compiled=self.compiled)

    def hidden(self, ids: NDArray[np.int32], offsets: Rows) -> torch.Tensor:
        """The last hidden states ``(T, H)`` float32 of the sequences in ``ids`` ``(T,)``."""
        import torch

        with torch.inference_mode():
            return self._model.run(ids, offsets)


class CompiledBackend(VarlenBackend):
    """The same with what comes behind attention in a layer compiled by ``torch.compile``, for any number of tokens.

    Its first batch takes a minute.  Needs a compiler: triton on a GPU, a C++ compiler on a CPU.
    """

    compiled = True


def unfit(folder: ModelFolder, plan: Plan = NO_PLAN) -> str | None:
    """Why this backend cannot compute ``folder``'s model by ``plan``, for people; None if it can.  Reads no weights."""
    if plan.logn is not LogN.OFF:
        return "its attention has one scale for all lengths, and logn has one for each"
    if folder.config.get("model_type") == "mpnet":
        return "its attention takes no bias by relative position"
    return why_not(folder)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Where the sequences of a batch lie, on the device and for the CPU."""

    edges: torch.Tensor
    """``(B + 1,)`` int32, of the sequences among the T tokens."""
    longest: int
    count: int
    padded: torch.Tensor | None
    """``(T,)`` int64, each token's row among ``B * L``; None where all are as long."""
    real: torch.Tensor | None
    """``(B, 1, 1, L)`` bool: which keys there are; None likewise."""


Attend = Callable[["torch.Tensor", "torch.Tensor", "torch.Tensor", Lengths], "torch.Tensor"]
"""Queries, keys and values ``(T, A, D)`` -> their mixture ``(T, A, D)``, each sequence by itself."""


def flash_fits(kind: str, precision: str, capability: tuple[int, int], width: int) -> bool:
    """Whether FlashAttention for different lengths can be used: a pure function of device, precision and head width."""
    half = precision in ("bfloat16", "float16")
    return kind == "cuda" and half and capability >= FLASH_CAPABILITY and width <= FLASH_WIDTH and width % 8 == 0


def flash(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Lengths) -> torch.Tensor:
    """As :data:`Attend`, by torch's FlashAttention for packed sequences."""
    from torch.nn.attention.varlen import varlen_attn

    longest = lengths.longest
    attention: Any = varlen_attn  # gives a pair where more than the mixture is asked for
    # num_splits=1: the order of sums does not depend on the batch.
    mixed: torch.Tensor = attention(q, k, v, lengths.edges, lengths.edges, longest, longest, num_splits=1)
    return mixed


def padded(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Lengths) -> torch.Tensor:
    """As :data:`Attend`, by torch's attention for sequences of one length."""
    import torch

    total, heads, width = q.shape
    count, longest = lengths.count, lengths.longest

    def spread(x: torch.Tensor) -> torch.Tensor:
        if lengths.padded is not None:
            wide = x.new_zeros(count * longest, heads, width)
            x = wide.index_copy_(0, lengths.padded, x)
        return x.view(count, longest, heads, width).transpose(1, 2)

    mixed = torch.nn.functional.scaled_dot_product_attention(
        spread(q), spread(k), spread(v), attn_mask=lengths.real
    ).transpose(1, 2)
    if lengths.padded is None:
        return mixed.reshape(total, heads, width)
    return mixed.reshape(count * longest, heads, width).index_select(0, lengths.padded)


class _Model:
    """The weights as tensors on a device, and one forward pass."""

    def __init__(self, weights: Weights, plan: Plan, device: str, precision: str, *, compiled: bool) -> None:
        import torch

        kind = getattr(torch, precision)
        self.device = torch.device(device)
        self._plan = plan
        self._eps = weights.eps
        self._approximate = weights.approximate
        self._heads = weights.heads
        self._layers = [_placed(layer, self.device, kind) for layer in weights.layers]
        self._words = _placed(weights.words, self.device, kind)
        self._positions = _placed(weights.positions, self.device, kind)
        self._norm = _placed(weights.norm, self.device, kind)
        # Matrices are on the device now; what says which rows of them a token takes stays.
        self._rows = _positions_only(weights)
        cuda = self.device.type == "cuda"
        capability = torch.cuda.get_device_capability(self.device) if cuda else (0, 0)
        fits = flash_fits(self.device.type, precision, capability, weights.width // weights.heads)
        self._padded = not (fits and _has_varlen())
        self._attend: Attend = padded if self._padded else flash
        self._behind = torch.compile(_behind, dynamic=True) if compiled else _behind

    def run(self, ids: NDArray[np.int32], offsets: Rows) -> torch.Tensor:
        """The hidden states ``(T, H)`` float32."""
        from torch.nn import functional

        lengths = self._lengths(offsets)
        rows = self._rows.position_rows(ids, offsets, self._plan)
        x = self._embed(ids, rows)
        total, width = x.shape
        gain, bias = self._norm
        x = functional.layer_norm(x, (width,), gain, bias, self._eps)
        for qkv, *rest in self._layers:
            q, k, v = functional.linear(x, *qkv).view(total, 3, self._heads, -1).unbind(1)
            mixed = self._attend(q, k, v, lengths).reshape(total, width)
            x = self._behind(mixed, x, rest, self._eps, self._approximate)
        states: torch.Tensor = x.float()
        return states

    def _lengths(self, offsets: Rows) -> Lengths:
        sizes = np.diff(offsets)
        longest = int(sizes.max())
        edges = self._put(offsets.astype(np.int32))
        if not self._padded or bool((sizes == longest).all()):
            return Lengths(edges, longest, len(sizes), None, None)
        real = np.arange(longest) < sizes[:, None]
        return Lengths(
            edges, longest, len(sizes), self._put(np.flatnonzero(real)), self._put(real[:, None, None, :].copy())
        )

    def _embed(self, ids: NDArray[np.int32], rows: MatrixRows) -> torch.Tensor:
        """Word and position vectors ``(T, H)``; between two rows of the matrix their weighted mean."""
        places = self._put(rows.low)
        words: torch.Tensor = self._words.index_select(0, self._put(ids.astype(np.int64)))
        x: torch.Tensor = words + self._positions.index_select(0, places)
        if rows.between is not None:
            part = self._put(rows.between)[:, None].to(x.dtype)
            after = self._positions.index_select(0, (places + 1).clamp_(max=len(self._positions) - 1))
            x.add_((after - self._positions.index_select(0, places)) * part)
        return x

    def _put(self, array: NDArray[Any]) -> torch.Tensor:
        from unabridged.encoders._torch import put

        return put(array, self.device)


def _behind(mixed: torch.Tensor, x: torch.Tensor, layer: Any, eps: float, approximate: str) -> torch.Tensor:
    """What comes behind attention: projection, LayerNorm, the two matrices in between, LayerNorm."""
    from torch.nn import functional

    project, (gain, bias), up, down, (last_gain, last_bias) = layer
    width = (x.shape[-1],)
    x = functional.layer_norm(functional.linear(mixed, *project) + x, width, gain, bias, eps)
    inner = functional.gelu(functional.linear(x, *up), approximate=approximate)
    return functional.layer_norm(functional.linear(inner, *down) + x, width, last_gain, last_bias, eps)


def _placed(part: Any, device: Any, kind: Any) -> Any:
    """The arrays of a dataclass as tensors on ``device``, in the order of its fields."""
    if isinstance(part, np.ndarray):
        torch = require("torch", extra="torch", purpose="transformer encoders")
        return torch.from_numpy(part).to(device=device, dtype=kind)
    return tuple(_placed(getattr(part, name), device, kind) for name in part.__dataclass_fields__)


def _positions_only(weights: Weights) -> Weights:
    from dataclasses import replace

    return replace(weights, layers=(), words=weights.words[:0], positions=weights.positions[:0])


def _has_varlen() -> bool:
    """Whether this torch has attention for packed sequences."""
    import importlib.util

    return importlib.util.find_spec("torch.nn.attention.varlen") is not None
