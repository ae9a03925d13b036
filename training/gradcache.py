"""Large batches in small memory: vectors of all texts, activations of a few.

A contrastive loss needs the vectors of a whole batch at once, its gradient needs the activations of one text at a
time.  So vectors are made without a graph, chunk by chunk; on the way back each chunk is made again, with its graph,
and given the gradient of its vectors (GradCache: Gao, Zhang, Han and Callan 2021, arXiv 2101.06983).  Costs one more
forward pass; the gradient is the same.

Letters::

    B texts of a batch     D width of a vector
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unabridged._extras import require
from unabridged.contracts import Rows
from unabridged.encoders.extension import check_most
from unabridged.errors import UsageError

if TYPE_CHECKING:
    import torch

Embed = Callable[[Rows], "torch.Tensor"]
"""Numbers of texts ``(n,)`` to vectors ``(n, D)``; equal for equal numbers and parameters."""


def plan_chunks(lengths: Rows, cap: int) -> list[Rows]:
    """Rows of ``lengths`` ``(B,)`` in packed chunks of at most ``cap`` tokens, longest first; a longer one is alone.

    Nothing is padded, so a chunk costs the sum of its lengths; texts alike in length lie together.
    """
    check_most(chunk_tokens=cap)
    if cap < 1:
        raise UsageError(f"A chunk holds at least 1 token, got chunk_tokens={cap}.")
    chunks: list[list[int]] = []
    room = 0
    for row in np.argsort(-lengths, kind="stable").tolist():
        if lengths[row] > room or not chunks:
            chunks.append([])
            room = cap
        chunks[-1].append(row)
        room -= int(lengths[row])
    return [np.array(chunk, dtype=np.int64) for chunk in chunks]


def embed_chunks(embed: Embed, chunks: Sequence[Rows], *, cached: bool) -> torch.Tensor:
    """``(B, D)``: the vectors of all texts of ``chunks``, each text in its place.

    With ``cached`` the graph of one chunk at a time is held, else all of them.  The gradient goes into the leaves that
    ``embed`` uses, on ``backward()``; ``torch.autograd.grad`` does not see through a cached one.
    """
    require("torch", extra="torch", purpose="training")
    import torch

    if cached and len(chunks) > 1:
        made = _cached().apply(torch.zeros((), requires_grad=True), embed, list(chunks))
    else:
        made = torch.cat([embed(chunk) for chunk in chunks])
    order = np.argsort(np.concatenate(chunks), kind="stable")
    vectors: torch.Tensor = made[torch.from_numpy(order).to(made.device)]
    return vectors


def _cached() -> Any:
    import torch

    class Cached(torch.autograd.Function):
        """The vectors of all chunks; the first argument is there to be differentiated."""

        @staticmethod
        def forward(ctx: Any, _: torch.Tensor, embed: Embed, chunks: list[Rows]) -> torch.Tensor:
            ctx.embed, ctx.chunks = embed, chunks
            with torch.no_grad():
                return torch.cat([embed(chunk) for chunk in chunks])

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
            start = 0
            for chunk in ctx.chunks:
                with torch.enable_grad():
                    vectors = ctx.embed(chunk)
                torch.autograd.backward(vectors, gradients[0][start : start + len(chunk)])
                start += len(chunk)
            return torch.zeros((), device=gradients[0].device), None, None

    return Cached
