"""What the operations of a Mamba block take, so that every path takes the same.

Letters::

    T packed tokens   I inner channels   N state   J heads   G groups of heads that share b and c
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from unabridged.contracts import Rows

if TYPE_CHECKING:
    import torch


class Tokens(NamedTuple):
    """All ``(T, ...)``, in the type of the activations."""

    x: torch.Tensor
    """``(T, I)``, convolved."""
    step: torch.Tensor
    """``(T, I)`` in Mamba-1, ``(T, J)`` in Mamba-2: before bias and softplus."""
    b: torch.Tensor
    """``(T, N)`` in Mamba-1, ``(T, G N)`` in Mamba-2."""
    c: torch.Tensor
    gate: torch.Tensor
    """``(T, I)``: z, before silu."""


@dataclass(frozen=True, slots=True)
class Scan1:
    """Of a Mamba-1 layer, in the type of the state."""

    a: torch.Tensor
    """``(I, N)``, below 0."""
    skip: torch.Tensor
    """``(I,)``: D."""
    bias: torch.Tensor
    """``(I,)`` of the time step."""


@dataclass(frozen=True, slots=True)
class Scan2:
    """Of a Mamba-2 layer, in the type of the state."""

    a: torch.Tensor
    """``(J,)``, below 0."""
    skip: torch.Tensor
    """``(J,)``: D."""
    bias: torch.Tensor
    """``(J,)`` of the time step."""
    limit: tuple[float, float]
    """What time steps are clamped to."""
    groups: int


class Operations(Protocol):
    """A path: a module with these functions.  States are returned anew, and never written into.

    ``out`` is memory that the result may be written into, where it is of the right type and no gradient is asked for.
    """

    def conv_silu(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        tail: torch.Tensor,
        offsets: Rows,
        out: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The causal convolution, and the tails behind every sequence."""

    def rms_norm(
        self, x: torch.Tensor, weight: torch.Tensor, eps: float, groups: int = 1, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``weight x / sqrt(mean(x^2) + eps)`` ``(T, C)``, the mean over each of ``groups`` runs of channels."""

    def scan1(
        self, weights: Scan1, tokens: Tokens, state: torch.Tensor, offsets: Rows, out: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``(scan(x, softplus(step + bias)) + skip x) silu(gate)`` ``(T, I)``, and the states ``(B, I, N)``."""

    def scan2(
        self, weights: Scan2, tokens: Tokens, state: torch.Tensor, offsets: Rows, out: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same with one ``a`` per head ``(T, I)``, and the states ``(B, J, P, N)``."""
