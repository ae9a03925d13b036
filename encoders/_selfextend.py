"""SelfExtend attention, in blocks of queries (Jin et al., arXiv 2401.01325; LongEmbed, arXiv 2404.12096, section 4.3).

Letters::

    B sequences   H heads   L tokens   D head width   R rotary dimensions   w neighbours   r queries of a block

Scores of tokens nearer than ``w`` come from ordinary positions; the others from grouped ones, with the roles of query
and key exchanged where the key comes after the query.  Written out that is two score matrices for a causal model and
three for one that reads both ways.  A block of ``r`` queries needs less: a key that is far from all of its queries, or
near to all, has one kind of score only, and just ``2 r - 2`` keys have two.  Scores computed per query, whatever w is::

                    both ways    at L = 4,096, r = 128    causal             at L = 4,096, r = 128
    written out     3 L          12,288                   2 L                8,192
    in blocks       L + 2 r      4,352 at most            L / 2 + r          2,176 on average

so the second and third matrix are all but gone, and memory is ``B H r L`` scores instead of ``3 B H L L``.
"""

from __future__ import annotations

import torch

from unabridged.encoders._context import Table, Turns

BLOCK = 128
"""Queries of a block at most."""
BLOCK_SCORES = 1 << 23
"""Scores of a block at most (32 MiB of float32), unless even one query has more."""


def self_extend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    turns: Turns,
    mask: torch.Tensor | None,
    *,
    scale: float,
    causal: bool,
    window: int | None = None,
) -> torch.Tensor:
    """What attention gives, ``(B, H, L, D)`` in the precision of ``value``; softmax is computed in float32.

    ``query`` and ``key`` ``(B, H, L, D)`` were not turned yet.  ``mask`` broadcasts to ``(B, H, L, L)``: boolean with
    True for keys that are seen, or numbers to add.  ``causal`` says that nobody sees later keys, which saves their
    scores; with ``mask`` None it is the mask.  ``window`` promises that the mask hides keys farther away.
    """
    batch, heads, length, _ = query.shape
    rows = max(1, min(BLOCK, BLOCK_SCORES // (batch * heads * length)))
    q_plain, q_far = turn(query, turns.plain) * scale, turn(query, turns.far) * scale
    k_plain, k_near = turn(key, turns.plain), turn(key, turns.near)
    after = None if causal else (turn(query, turns.near) * scale, turn(key, turns.far))
    out = torch.empty_like(query[..., : value.shape[-1]], dtype=value.dtype)
    for start in range(0, length, rows):
        stop = min(start + rows, length)
        first = 0 if window is None else max(0, start - window)
        last = stop if causal else length if window is None else min(length, stop + window)
        scores = torch.empty(batch, heads, stop - start, last - first, dtype=torch.float32, device=query.device)
        block = _Block(scores, start, stop, first, last, turns.neighbours)
        block.before(q_far, k_near)
        if after is not None:
            block.after(*after)
        block.near(q_plain, k_plain)
        block.hide(None if mask is None else mask[..., start:stop, first:last], causal=causal)
        out[..., start:stop, :] = scores.softmax(dim=-1).to(value.dtype) @ value[..., first:last, :]
    return out


class _Block:
    """The scores of queries ``start..stop`` and keys ``first..last``, written kind by kind.

    Each kind overwrites the one before where it knows better, and looks cell by cell only at columns where two meet.
    """

    def __init__(self, scores: torch.Tensor, start: int, stop: int, first: int, last: int, w: int) -> None:
        self.scores, self.w = scores, w
        self.start, self.stop, self.first, self.last = start, stop, first, last

    def before(self, query: torch.Tensor, key: torch.Tensor) -> None:
        """Keys that some query has ``w`` or more behind it."""
        columns = self._columns(self.first, self.stop - self.w)
        self._part(columns).copy_(self._product(query, key, columns))

    def after(self, query: torch.Tensor, key: torch.Tensor) -> None:
        """Keys that some query has ``w`` or more ahead of it; those that others have behind them are shared."""
        shared = self._columns(self.start + self.w, self.stop - self.w)
        self._where(self._distance(shared) <= -self.w, query, key, shared)
        columns = self._columns(max(self.start + self.w, self.stop - self.w), self.last)
        self._part(columns).copy_(self._product(query, key, columns))

    def near(self, query: torch.Tensor, key: torch.Tensor) -> None:
        """Keys that some query has nearer than ``w``."""
        columns = self._columns(self.start - self.w + 1, self.stop + self.w - 1)
        self._where(self._distance(columns).abs() < self.w, query, key, columns)

    def hide(self, mask: torch.Tensor | None, *, causal: bool) -> None:
        """The smallest number instead of -inf: a query of padding may see nothing, and must not become NaN."""
        lowest = torch.finfo(self.scores.dtype).min
        if mask is not None and mask.dtype == torch.bool:
            self.scores.masked_fill_(~mask, lowest)
        elif mask is not None:
            self.scores.add_(mask).clamp_(min=lowest)
        if causal:
            columns = self._columns(self.start, self.stop)
            self._part(columns).masked_fill_(self._distance(columns) < 0, lowest)

    def _columns(self, low: int, high: int) -> range:
        low = max(low, self.first)
        return range(low, max(low, min(high, self.last)))

    def _part(self, columns: range) -> torch.Tensor:
        return self.scores[..., columns.start - self.first : columns.stop - self.first]

    def _distance(self, columns: range) -> torch.Tensor:
        """How far each key is behind each query, ``(r, columns)``."""
        device = self.scores.device
        queries = torch.arange(self.start, self.stop, device=device)
        return queries[:, None] - torch.arange(columns.start, columns.stop, device=device)

    def _product(self, query: torch.Tensor, key: torch.Tensor, columns: range) -> torch.Tensor:
        keys = key[..., columns.start : columns.stop, :]
        return query[..., self.start : self.stop, :] @ keys.transpose(-1, -2)

    def _where(self, chosen: torch.Tensor, query: torch.Tensor, key: torch.Tensor, columns: range) -> None:
        part = self._part(columns)
        found = self._product(query, key, columns).to(part.dtype)
        part.copy_(torch.where(chosen, found, part))


def turn(x: torch.Tensor, table: Table) -> torch.Tensor:
    """``x`` ``(B, H, L, D)`` turned by angles ``(L, R)``: one half of the first R dimensions against the other."""
    cos, sin = table
    width = cos.shape[-1]
    part = x[..., :width].float()
    low, high = part.chunk(2, dim=-1)
    turned = (part * cos + torch.cat((-high, low), dim=-1) * sin).to(x.dtype)
    return turned if width == x.shape[-1] else torch.cat((turned, x[..., width:]), dim=-1)
