"""Hidden states on a CPU without any padding: the default for BERT-like models there.

A padded batch spends the same on a pad as on a token.  Here everything but attention runs on the packed
``(T, H)`` matrix, attention runs over neighbours of equal length, the three input projections are one product,
and a batch goes through in pieces whose activations stay in the cache.

The same computation as the model's own code in float32, to rounding: hidden states differ by less than 1e-4
and vectors by less than 1e-5 in cosine, so the passport calls both one encoder.

Letters::

    T tokens, packed over B sequences     H hidden width     F feed-forward width     A heads
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unabridged._extras import require
from unabridged.contracts import Rows
from unabridged.encoders._hf import ModelFolder
from unabridged.encoders._packed_weights import Weights, read_weights, why_not
from unabridged.encoders._rows import MatrixRows
from unabridged.encoders.backend import Float32OnCpu
from unabridged.encoders.extension import NO_PLAN, Plan
from unabridged.errors import UsageError

if TYPE_CHECKING:
    import torch

PIECE_TOKENS = 512
"""Tokens per piece: one window of a BERT-like model; what a core works on stays near its cache."""


class PackedBackend(Float32OnCpu):
    """A BERT-like model behind :class:`unabridged.encoders.backend.Backend`; loads at the first batch."""

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
            raise UsageError(f"The packed backend computes in float32 on the cpu; got {precision} on {device}.")
        if (reason := why_not(folder)) is not None:
            raise UsageError(f"The packed backend cannot run {folder.source}: {reason}. Use backend='torch'.")
        self._folder = folder
        self._plan = plan

    @cached_property
    def _model(self) -> _Model:
        return _Model(read_weights(self._folder), self._plan)

    def hidden(self, ids: NDArray[np.int32], offsets: Rows) -> torch.Tensor:
        """The last hidden states ``(T, H)`` float32 of the sequences in ``ids`` ``(T,)``."""
        empty = _torch().empty
        model = self._model
        rows = model.weights.position_rows(ids, offsets, self._plan)
        out: torch.Tensor = empty(len(ids), model.weights.width)

        def one(piece: tuple[int, int]) -> None:
            first, last = piece
            start, end = int(offsets[first]), int(offsets[last])
            with _torch().inference_mode():
                model.run(ids[start:end], rows.slice(start, end), offsets[first : last + 1] - start, out[start:end])

        each_on_one_thread(one, list(pieces(offsets, PIECE_TOKENS)))
        return out


class _Model:
    """The weights as tensors, and one forward pass."""

    def __init__(self, weights: Weights, plan: Plan = NO_PLAN) -> None:
        torch = _torch()
        self.weights = weights
        self._plan = plan
        self._layers = [_tensors(layer) for layer in weights.layers]
        self._words = torch.from_numpy(weights.words)
        self._positions = torch.from_numpy(weights.positions)
        self._norm = _tensors(weights.norm)
        self._bias: Any = None

    def run(self, ids: NDArray[np.int32], rows: MatrixRows, offsets: Rows, out: torch.Tensor) -> None:
        """Writes the hidden states of one piece into ``out`` ``(T, H)``."""
        functional = _torch().nn.functional
        eps, width = self.weights.eps, (self.weights.width,)
        x = self._words[_torch().from_numpy(ids.astype(np.int64))]
        self._add_positions(x, rows)
        x = functional.layer_norm(x, width, *self._norm, eps)
        groups = list(equal_lengths(offsets))
        for qkv, project, attention_norm, up, down, norm in self._layers:
            mixed = self._attend(functional.linear(x, *qkv), groups)
            x = functional.layer_norm(functional.linear(mixed, *project).add_(x), width, *attention_norm, eps)
            inner = functional.gelu(functional.linear(x, *up), approximate=self.weights.approximate)
            x = functional.layer_norm(functional.linear(inner, *down).add_(x), width, *norm, eps)
        out.copy_(x)

    def _add_positions(self, x: torch.Tensor, rows: MatrixRows) -> None:
        """Adds each token's position vector to ``x`` ``(T, H)``; between two rows their weighted mean."""
        torch = _torch()
        x += self._positions[torch.from_numpy(rows.low)]
        if rows.between is None:
            return
        tokens = np.flatnonzero(rows.between)
        low, part = torch.from_numpy(rows.low[tokens]), torch.from_numpy(rows.between[tokens])
        step = self._positions[low + 1] - self._positions[low]
        x.index_add_(0, torch.from_numpy(tokens), step.mul_(part[:, None]))

    def _attend(self, qkv: torch.Tensor, groups: Sequence[tuple[int, int, int]]) -> torch.Tensor:
        """Attention of each sequence to itself: ``(T, 3H)`` to ``(T, H)``."""
        torch = _torch()
        heads = self.weights.heads
        total, wide = qkv.shape
        mixed = qkv.new_empty(total, wide // 3)
        for start, count, length in groups:
            end = start + count * length
            q, k, v = qkv[start:end].view(count, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
            result = torch.nn.functional.scaled_dot_product_attention(
                q, k, v, attn_mask=self._relative(length), scale=self._scale(length, q.shape[-1])
            )
            mixed[start:end].view(count, length, heads, -1).copy_(result.transpose(1, 2))
        return mixed

    def _scale(self, length: int, width: int) -> float | None:
        """What scores are multiplied by in a sequence of ``length`` tokens; None is the usual ``1 / sqrt(width)``."""
        factor = float(self._plan.query_factor(length)) if self._plan.changes_attention else 1.0
        return None if factor == 1.0 else factor / math.sqrt(width)

    def _relative(self, length: int) -> Any:
        """MPNet's bias by relative position ``(1, A, length, length)``, kept at the longest length seen.

        Divided by the temperature as the scores are; log-n is for queries alone.
        """
        if self.weights.relative is None:
            return None
        if self._bias is None or self._bias.shape[-1] < length:
            torch = _torch()
            rows = torch.from_numpy(relative_buckets(length, len(self.weights.relative)))
            bias = torch.from_numpy(self.weights.relative) / self._plan.temperature
            self._bias = bias[rows].permute(2, 0, 1).contiguous()[None]
        return self._bias[:, :, :length, :length]


def each_on_one_thread(work: Callable[[tuple[int, int]], None], items: Sequence[tuple[int, int]]) -> None:
    """Does ``work`` on all ``items``, as many at once as torch may use threads and each on one thread.

    Threads that share every product wait for one another after each of them; threads with a piece each never do.
    One item alone keeps torch's threads.  torch's setting is the caller's again afterwards.
    """
    torch = _torch()
    threads = torch.get_num_threads()
    if threads <= 1 or len(items) <= 1:
        for item in items:
            work(item)
        return
    workers = min(threads, len(items))
    try:
        with ThreadPoolExecutor(workers, "packed", initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in pool.map(work, items):
                pass
    finally:
        torch.set_num_threads(threads)


def pieces(offsets: Rows, cap: int) -> Iterator[tuple[int, int]]:
    """Ranges ``[first, last)`` of sequences with at most ``cap`` tokens each, or one sequence that is longer."""
    first = 0
    while first < len(offsets) - 1:
        last = int(np.searchsorted(offsets, offsets[first] + cap, side="right")) - 1
        last = max(last, first + 1)
        yield first, last
        first = last


def equal_lengths(offsets: Rows) -> Iterator[tuple[int, int, int]]:
    """Runs of neighbours with one length, as (first token, sequences, length of each)."""
    lengths = np.diff(offsets)
    edges = np.flatnonzero(np.diff(lengths)) + 1
    for first, last in zip([0, *edges.tolist()], [*edges.tolist(), len(lengths)], strict=True):
        yield int(offsets[first]), last - first, int(lengths[first])


def relative_buckets(length: int, buckets: int, farthest: int = 128) -> Rows:
    """``(length, length)`` int64: the bucket of key minus query position, as T5 has it (Raffel et al. 2020, 2.1).

    Half of the buckets are for each direction; of those half hold one distance each and the rest grow
    logarithmically up to ``farthest`` tokens.
    """
    places = np.arange(length)
    ahead = places[None, :] - places[:, None]
    half = buckets // 2
    exact = half // 2
    distance = np.abs(ahead)
    # float32 as in the model's own code: float64 rounds some distances into the neighbouring bucket.
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / exact) / math.log(farthest / exact)
    far = np.minimum(exact + (ratio * (half - exact)).astype(np.int64), half - 1)
    found: Rows = np.where(ahead > 0, half, 0) + np.where(distance < exact, distance, far)
    return found


def _tensors(part: Any) -> Any:
    """The arrays of a dataclass as tensors that share their memory, in the order of its fields."""
    if isinstance(part, np.ndarray):
        return _torch().from_numpy(part)
    return tuple(_tensors(getattr(part, name)) for name in part.__dataclass_fields__)


def _torch() -> Any:
    return require("torch", extra="torch", purpose="transformer encoders")
