"""Absolute positions under a plan, inside the model's own code in transformers.

The position matrix of a model becomes a module that knows the true length of every sequence in the batch and takes
its rows from the plan.  What the model's code thinks the positions are does not matter then, so this works for every
class that keeps one vector per position::

    changed = install(model, plan, folder)
    with batch(lengths):
        model(input_ids=..., attention_mask=...)

Letters::

    B sequences     L tokens of the longest, padded on the right     H width of the position vectors
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from unabridged.contracts import Rows
from unabridged.encoders._hf import ModelFolder
from unabridged.encoders._rows import MatrixRows, planned
from unabridged.encoders.extension import Plan
from unabridged.errors import RuntimeFailure, UsageError

if TYPE_CHECKING:
    import torch

MATRIX = "position_embeddings"
"""What transformers calls the module with one vector per position."""

_LENGTHS: ContextVar[Rows | None] = ContextVar("lengths", default=None)


@contextlib.contextmanager
def batch(lengths: Rows) -> Iterator[None]:
    """Inside, models with installed positions read sequences of these true ``lengths`` ``(B,)``.

    Each thread has its own.
    """
    token = _LENGTHS.set(lengths)
    try:
        yield
    finally:
        _LENGTHS.reset(token)


def install(model: Any, plan: Plan, folder: ModelFolder) -> int:
    """Gives every position matrix of ``model`` the rows of ``plan``; how many were changed.

    :class:`UsageError` if there is none, since a plan without effect would be a silent one.
    """
    from torch import nn

    parents = [module for module in model.modules() if isinstance(getattr(module, MATRIX, None), nn.Embedding)]
    if not parents:
        raise UsageError(
            f"{folder.source}: no module called {MATRIX} was found in {type(model).__name__}, so the positions "
            "cannot be extended; extend='pcw' works with any model."
        )
    kind = _module()
    for parent in parents:
        setattr(parent, MATRIX, kind(getattr(parent, MATRIX), plan, folder.first_position))
        if "token_type_ids" in inspect.signature(parent.forward).parameters:
            parent.register_forward_pre_hook(_types_of_any_length, with_kwargs=True)
    return len(parents)


def _types_of_any_length(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Token types as zeros of the input's own shape: the model's buffer of them ends at the trained length."""
    ids = kwargs.get("input_ids")
    if kwargs.get("token_type_ids") is None and ids is not None:
        return args, {**kwargs, "token_type_ids": ids.new_zeros(ids.shape)}
    return None


def _module() -> Any:
    import torch
    from torch import nn

    class PlannedPositions(nn.Module):
        """``(B or 1, L)`` position ids of the model to ``(B, L, H)`` position vectors of the plan."""

        def __init__(self, matrix: nn.Embedding, plan: Plan, first: int) -> None:
            super().__init__()
            self.weight = matrix.weight
            self._plan = plan
            self._first = first

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            lengths = _LENGTHS.get()
            if lengths is None:
                raise RuntimeFailure("Extended positions need the lengths of the batch: call the model inside batch().")
            rows = _padded_rows(self._plan, lengths, ids.cpu().numpy() if self._first else None, self._first)
            low = torch.from_numpy(rows.low).to(self.weight.device)
            vectors = nn.functional.embedding(low, self.weight)
            if rows.between is None:
                return vectors
            return _between(self.weight, low, vectors, torch.from_numpy(rows.between).to(self.weight.device))

    return PlannedPositions


def _between(weight: torch.Tensor, low: torch.Tensor, vectors: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """Weighted means of neighbouring rows, in float32; whole rows stay as they are to the bit."""
    import torch

    last = weight.shape[0] - 1
    following = torch.nn.functional.embedding((low + 1).clamp(max=last), weight).float()
    own = vectors.float()
    mean = (own + part[..., None] * (following - own)).to(vectors.dtype)
    return torch.where(part[..., None] > 0, mean, vectors)


def _padded_rows(plan: Plan, lengths: Rows, ids: Any, first: int) -> MatrixRows:
    """Rows ``(B, L)``; padding takes the first row of all.  ``ids`` are the model's own where pads take no place."""
    longest = int(lengths.max())
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    real = np.arange(longest) < lengths[:, None]
    places = np.broadcast_to(np.arange(longest), real.shape) if ids is None else ids.astype(np.int64) - first
    packed = planned(plan, np.ascontiguousarray(places[real]), offsets, first)
    low = np.zeros(real.shape, dtype=np.int64)
    low[real] = packed.low
    if packed.between is None:
        return MatrixRows(low)
    between = np.zeros(real.shape, dtype=np.float32)
    between[real] = packed.between
    return MatrixRows(low, between)
