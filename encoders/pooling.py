"""Packed hidden states to vectors, and window vectors to document vectors.

Letters::

    T tokens, packed over B sequences     H hidden width     D embedding width     S windows of documents
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from unabridged.contracts import Floats, Rows

if TYPE_CHECKING:
    import torch

TINY = 1e-12
"""Added to no norm, only a floor under it: the zero vector stays zero (the floor torch's ``normalize`` has too)."""


def pool(hidden: torch.Tensor, offsets: Rows, modes: tuple[str, ...], skip: Rows | None = None) -> torch.Tensor:
    """``(B, H * len(modes))`` float32: the ``modes`` of each sequence side by side.

    ``hidden`` is ``(T, H)``; sequence ``b`` is rows ``offsets[b]:offsets[b + 1]``.  ``skip`` ``(B,)`` leaves out
    that many leading tokens of each sequence (models whose pooling excludes the prompt).
    """
    import torch

    from unabridged.encoders._torch import put

    starts, ends = offsets[:-1], offsets[1:]
    if skip is not None:
        kept = np.ones(len(hidden), dtype=np.bool_)
        for start, count in zip(starts.tolist(), skip.tolist(), strict=True):
            kept[start : start + count] = False
        hidden = hidden.index_select(0, put(np.flatnonzero(kept), hidden.device))
        ends = np.cumsum(ends - starts - skip)
        starts = np.concatenate(([0], ends[:-1]))
    states = hidden.float()
    lead = np.zeros_like(starts) if skip is None else skip
    starts_, ends_, lead_ = put(np.stack((starts, ends, lead)), states.device)
    parts = [_MODES[mode](states, starts_, ends_, lead_) for mode in modes]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _reduce(states: torch.Tensor, lengths: torch.Tensor, how: str) -> torch.Tensor:
    """``(B, H)``: rows of consecutive segments reduced; deterministic on every device."""
    import torch

    if states.device.type == "mps":  # no kernel there; (T, H) is small next to the model's activations
        return torch.segment_reduce(states.cpu(), how, lengths=lengths.cpu()).to(states.device)
    # On a GPU torch would wait for the lengths only to check that they add up to the rows, as offsets do.
    return torch.segment_reduce(states, how, lengths=lengths, unsafe=states.device.type == "cuda")


def _cls(states: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return states[starts]


def _last(states: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return states[ends - 1]


def _mean(states: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return _reduce(states, ends - starts, "mean")


def _max(states: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return _reduce(states, ends - starts, "max")


def _mean_sqrt(states: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    lengths = ends - starts
    return _reduce(states, lengths, "sum") / lengths[:, None].sqrt()


def _weighted_mean(states: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor, lead: torch.Tensor) -> torch.Tensor:
    import torch

    lengths = ends - starts
    places = torch.arange(len(states), device=states.device) - torch.repeat_interleave(starts - lead, lengths)
    # A token keeps its position's weight where the tokens before it are skipped.
    weights = (places + 1).to(states.dtype)[:, None]
    return _reduce(states * weights, lengths, "sum") / _reduce(weights, lengths, "sum")


_MODES: Mapping[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cls": _cls,
    "landmark": _mean,  # of what it is given: the caller gives the states of landmarks alone
    "last": _last,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len": _mean_sqrt,
    "weighted_mean": _weighted_mean,
}
"""Pooling mode -> ``(T, H), starts (B,), ends (B,), skipped tokens before each (B,) -> (B, H)``."""

POOLING_MODES = tuple(_MODES)


def finish(raw: Floats, *, truncate_dim: int | None, normalize: bool) -> Floats:
    """``raw[:, :truncate_dim]``, with L2 norm 1 if ``normalize``; zero rows stay zero.

    Cutting comes first: a Matryoshka prefix is a vector of its own (Kusupati et al. 2022, arXiv 2205.13147), and
    its norm must be 1 for dot products to be cosines.
    """
    cut = raw if truncate_dim is None else raw[:, :truncate_dim]
    if not normalize:
        return np.ascontiguousarray(cut, dtype=np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", cut, cut, dtype=np.float64))
    return np.asarray(cut / np.maximum(norms, TINY)[:, None], dtype=np.float32)


def mean_windows(raw: Floats, offsets: Rows, tokens: Rows) -> Floats:
    """``(B, D)`` float32: each document's window vectors ``raw`` ``(S, D)`` averaged, with weights ``tokens`` ``(S,)``.

    For a mean-pooling model this is the mean over all tokens of the document.  A document with one window gets
    that window's vector to the bit, a document without windows zeros.  After PCW (LongEmbed, arXiv 2404.12096,
    section 4): as there, windows are not normalised before the mean; unlike there, a window counts by its tokens.
    """
    counts = np.diff(offsets)
    out = np.zeros((len(counts), raw.shape[1]), dtype=np.float32)
    single = counts == 1
    out[single] = raw[offsets[:-1][single]]
    many = np.flatnonzero(counts > 1)
    for b in many.tolist():
        rows = slice(int(offsets[b]), int(offsets[b + 1]))
        weights = tokens[rows] / tokens[rows].sum()
        out[b] = weights @ raw[rows].astype(np.float64)
    return out
