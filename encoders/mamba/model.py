"""A Mamba or Mamba-2 language model up to its last normalisation: hidden states of packed, ragged sequences.

::

    x = embedding(ids);   per layer  x = x + mixer(rmsnorm(x));   hidden = rmsnorm(x)

    Mamba-1   x, z = in_proj(u)        x = silu(conv(x))        step, b, c = x_proj(x)
              step = softplus(dt_proj(step))      h = exp(step a) h + step x b      y = h c + D x
              out_proj(y silu(z))
    Mamba-2   z, [x b c], step = in_proj(u)      x, b, c = silu(conv([x b c]))
              step = softplus(step + dt_bias)     the same recurrence, one a per head
              out_proj(rmsnorm(y silu(z)))

With ``a = -exp(A_log)``.  Sources: Gu and Dao 2023 (arXiv 2312.00752), Dao and Gu 2024 (arXiv 2405.21060), and the code
of both, ``state-spaces/mamba``.  The residual and every state are float32 in any precision.

Letters::

    T packed tokens   B sequences   H width   C convolved channels   I inner channels   J heads   P channels of one
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from unabridged._extras import require
from unabridged.contracts import Rows
from unabridged.encoders.mamba.config import MambaConfig
from unabridged.encoders.mamba.finite import NonFinite, first_row, is_finite, sequence_of
from unabridged.encoders.mamba.initial import initial
from unabridged.encoders.mamba.parts import Scan1, Scan2, Tokens
from unabridged.encoders.mamba.path import operations, scan_path
from unabridged.encoders.mamba.scratch import Scratch
from unabridged.encoders.mamba.state import State
from unabridged.errors import ShapeError

if TYPE_CHECKING:
    import torch
    from torch.nn import functional
else:
    torch = require("torch", extra="torch", purpose="Mamba encoders")
    from torch.nn import functional

__all__ = ["MambaModel", "initial"]

_KERNEL_TYPES = (torch.float32, torch.bfloat16)


class MambaModel:
    """Parameters by their canonical names, and the way of tokens through them; holds no other state."""

    def __init__(
        self,
        config: MambaConfig,
        parameters: Mapping[str, torch.Tensor],
        *,
        checkpoint: bool = False,
        path: str | None = None,
    ) -> None:
        """``checkpoint``: in training, layers are computed again on the way back instead of being remembered.

        ``path`` is one of :data:`unabridged.encoders.mamba.path.PATHS`, and the best for the device if it is left out.

        :class:`ShapeError` names a parameter that is missing, unknown or of another shape.
        """
        expected = config.shapes()
        if missing := sorted(set(expected) ^ set(parameters)):
            raise ShapeError(f"A Mamba-{config.variant} of this configuration and {missing[0]} do not fit: the first "
                             f"of {len(missing)} names that only one of them has.")  # fmt: skip
        for name, shape in expected.items():
            if tuple(parameters[name].shape) != shape:
                raise ShapeError(f"{name} has shape {tuple(parameters[name].shape)}, expected {shape}.")
        self.config = config
        self.parameters = dict(parameters)
        self.checkpoint = checkpoint
        like = self.parameters["embeddings.weight"]
        best = scan_path(str(like.device))[0] if like.dtype in _KERNEL_TYPES else "torch"
        self.path = path or best
        """Which operations are used."""
        self._operations = operations(self.path)

    @property
    def kind(self) -> torch.dtype:
        """Of the activations between the matmuls: that of the word vectors."""
        return self.parameters["embeddings.weight"].dtype

    def state(self, sequences: int) -> State:
        """Before the first token of ``sequences`` texts: zeros."""
        config, like = self.config, self.parameters["embeddings.weight"]
        conv = (sequences, config.convolved, config.conv - 1)
        scan = (sequences, *config.scan_shape)
        exact = torch.promote_types(like.dtype, torch.float32)
        return State(
            tuple(like.new_zeros(conv) for _ in range(config.layers)),
            tuple(like.new_zeros(scan, dtype=exact) for _ in range(config.layers)),
        )

    def hidden(
        self, ids: torch.Tensor, offsets: Rows, state: State | None = None, *, scratch: Scratch | None = None
    ) -> tuple[torch.Tensor, State]:
        """Hidden states ``(T, H)`` behind the last normalisation, and what is to be carried on.

        ``ids`` ``(T,)`` int64 on the model's device; sequence b is ``ids[offsets[b]:offsets[b + 1]]``, and goes on from
        ``state`` b if there is one.  An empty sequence keeps its state.  No sequence sees another; a text in blocks
        gives what it gives in one pass.  ``scratch``: room that blocks of one text share, without gradients.

        Raises:
            ShapeError: offsets that do not fit, a state for another number of sequences.
            NonFinite: NaN or infinity, with the layer in which it began and the sequence.
        """
        offsets = _checked(offsets, len(ids))
        before = self.state(len(offsets) - 1) if state is None else state
        if len(before) != len(offsets) - 1:
            raise ShapeError(f"The state is of {len(before)} sequences, and offsets of {len(offsets) - 1}.")
        graph = torch.is_grad_enabled()
        # Made before the activations: states that are made among them keep the heap from shrinking, by 25 MB a layer.
        behind = None if graph else self.state(len(before))
        if scratch is None or graph:
            scratch = Scratch(reused=not graph)
        conv, scan = [], []
        x = self._embedded(ids, before)
        for layer in range(self.config.layers):
            x, tail, after = self._layer(layer, x, before.conv[layer], before.scan[layer], offsets, scratch)
            conv.append(tail if behind is None else behind.conv[layer].copy_(tail))
            scan.append(after if behind is None else behind.scan[layer].copy_(after))
        hidden = self._norm(x, "norm_f.weight")
        if not is_finite(hidden.detach()):
            raise self._blamed(ids, offsets, before)
        return hidden, State(tuple(conv), tuple(scan))

    def _embedded(self, ids: torch.Tensor, state: State) -> torch.Tensor:
        return functional.embedding(ids, self.parameters["embeddings.weight"]).to(state.scan[0].dtype)

    def _blamed(self, ids: torch.Tensor, offsets: Rows, before: State) -> NonFinite:
        """Goes the same way again and looks behind every layer."""
        with torch.no_grad():
            x = self._embedded(ids, before)
            for layer in range(self.config.layers):
                x, _, _ = self._layer(layer, x, before.conv[layer], before.scan[layer], offsets, Scratch(reused=False))
                if (row := first_row(x)) is not None:
                    return NonFinite(layer, sequence_of(row, offsets))
            row = first_row(self._norm(x, "norm_f.weight")) or 0
            return NonFinite(self.config.layers, sequence_of(row, offsets))

    def _layer(
        self,
        layer: int,
        x: torch.Tensor,
        tail: torch.Tensor,
        state: torch.Tensor,
        offsets: Rows,
        scratch: Scratch,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        block = self._block1 if self.config.variant == 1 else self._block2
        if self.checkpoint and torch.is_grad_enabled():
            from torch.utils.checkpoint import checkpoint

            made: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = checkpoint(
                block,
                f"layers.{layer}.",
                x,
                tail,
                state,
                offsets,
                scratch,
                use_reentrant=False,
                preserve_rng_state=False,
            )
            return made
        return block(f"layers.{layer}.", x, tail, state, offsets, scratch)

    def _block1(
        self,
        name: str,
        x: torch.Tensor,
        tail: torch.Tensor,
        state: torch.Tensor,
        offsets: Rows,
        scratch: Scratch,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        config, own = self.config, self.parameters
        mixer = f"{name}mixer."
        normed = self._norm(x, f"{name}norm.weight", scratch)
        inner, gate = self._linear(normed, f"{mixer}in_proj", scratch).chunk(2, 1)
        inner, tail = self._conv(mixer, inner, tail, offsets, scratch)
        sizes = [config.dt_rank, config.state, config.state]
        step, b, c = torch.split(self._linear(inner, f"{mixer}x_proj", scratch), sizes, 1)
        step = self._multiplied(step, own[f"{mixer}dt_proj.weight"], "dt_proj", scratch)
        exact = state.dtype
        weights = Scan1(self._a(mixer, exact), own[f"{mixer}D"].to(exact), own[f"{mixer}dt_proj.bias"].to(exact))
        room = scratch.take("scan", inner, config.inner)
        y, state = self._operations.scan1(weights, Tokens(inner, step, b, c, gate), state, offsets, room)
        return self._added(x, y, f"{mixer}out_proj", scratch), tail, state

    def _block2(
        self,
        name: str,
        x: torch.Tensor,
        tail: torch.Tensor,
        state: torch.Tensor,
        offsets: Rows,
        scratch: Scratch,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        config, own = self.config, self.parameters
        mixer = f"{name}mixer."
        normed = self._norm(x, f"{name}norm.weight", scratch)
        projected = self._linear(normed, f"{mixer}in_proj", scratch)
        gate, mixed, step = torch.split(projected, [config.inner, config.convolved, config.heads], 1)
        mixed, tail = self._conv(mixer, mixed, tail, offsets, scratch)
        shared = config.groups * config.state
        inner, b, c = torch.split(mixed, [config.inner, shared, shared], 1)
        exact = state.dtype
        weights = Scan2(
            self._a(mixer, exact),
            own[f"{mixer}D"].to(exact),
            own[f"{mixer}dt_bias"].to(exact),
            config.time_step_limit,
            config.groups,
        )
        room = scratch.take("scan", inner, config.inner)
        y, state = self._operations.scan2(weights, Tokens(inner, step, b, c, gate), state, offsets, room)
        y = self._operations.rms_norm(y, own[f"{mixer}norm.weight"], config.eps, config.groups, room)
        return self._added(x, y, f"{mixer}out_proj", scratch), tail, state

    def _a(self, mixer: str, exact: torch.dtype) -> torch.Tensor:
        return -torch.exp(self.parameters[f"{mixer}A_log"].to(exact))

    def _conv(
        self, mixer: str, x: torch.Tensor, tail: torch.Tensor, offsets: Rows, scratch: Scratch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        own = self.parameters
        # Kernels compute in float32: what stands between them is not rounded, and not converted back.
        kind = torch.float32 if self.path == "numba" else None
        room = scratch.take("conv", x, x.shape[1], kind)
        return self._operations.conv_silu(
            x, own[f"{mixer}conv1d.weight"][:, 0], own.get(f"{mixer}conv1d.bias"), tail, offsets, room
        )

    def _linear(self, x: torch.Tensor, name: str, scratch: Scratch) -> torch.Tensor:
        made = self._multiplied(x, self.parameters[f"{name}.weight"], name.rpartition(".")[2], scratch)
        bias = self.parameters.get(f"{name}.bias")
        if bias is None:
            return made
        return made.add_(bias) if scratch.reused else made + bias

    @staticmethod
    def _multiplied(x: torch.Tensor, weight: torch.Tensor, room: str, scratch: Scratch) -> torch.Tensor:
        if not scratch.reused:
            return functional.linear(x, weight)
        x = x.to(weight.dtype)
        return torch.mm(x, weight.T, out=scratch.take(room, x, len(weight)))

    def _added(self, x: torch.Tensor, y: torch.Tensor, name: str, scratch: Scratch) -> torch.Tensor:
        """``x + linear(y)``; into ``x`` itself, which nobody else has, where no gradient is asked for."""
        weight, bias = self.parameters[f"{name}.weight"], self.parameters.get(f"{name}.bias")
        y = y.to(weight.dtype)
        if x.dtype != weight.dtype:
            return x + functional.linear(y, weight, bias)
        total = x.addmm_(y, weight.T) if scratch.reused else torch.addmm(x, y, weight.T)
        return total if bias is None else total + bias

    def _norm(self, x: torch.Tensor, name: str, scratch: Scratch | None = None) -> torch.Tensor:
        room = None if scratch is None else scratch.take("norm", x, x.shape[1])
        return self._operations.rms_norm(x, self.parameters[name], self.config.eps, 1, room).to(self.kind)


def _checked(offsets: Rows, tokens: int) -> Rows:
    found = np.asarray(offsets, dtype=np.int64)
    if not len(found) or found[0] != 0 or found[-1] != tokens or bool(np.any(np.diff(found) < 0)):
        raise ShapeError(f"offsets should rise from 0 to {tokens}, the number of tokens, and are {found.tolist()[:9]}.")
    return found
