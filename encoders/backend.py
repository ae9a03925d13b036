"""The seam between a transformer encoder and whatever computes its hidden states.

A backend knows nothing of texts, windows, prompts or pooling: it gets token ids (specials included) of a
packed batch and gives the last hidden states, packed the same way.  The torch backend is the reference;
every other backend is compared with it in values.

Letters::

    B sequences of a batch     T their tokens, packed     H hidden width
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import JSON, Rows

if TYPE_CHECKING:
    import torch


FLOAT32_FACTS: Mapping[str, JSON] = {"backend": "torch", "precision": "float32"}
"""What every float32 backend states: they agree to rounding and share one vector space."""


class Float32OnCpu:
    """What backends have in common that compute in float32 on the CPU and nowhere else."""

    @property
    def device(self) -> str:
        """Always ``cpu``."""
        return "cpu"

    @property
    def precision(self) -> str:
        """Always ``float32``."""
        return "float32"

    @property
    def facts(self) -> Mapping[str, JSON]:
        """Those of the torch backend in float32, which gives the same vectors to rounding."""
        return FLOAT32_FACTS


@runtime_checkable
class Backend(Protocol):
    """Packed token ids to packed hidden states.

    ``facts`` holds what changes vectors and nothing else, such as ``{"backend": "torch", "precision":
    "float32"}``; it becomes part of the encoder's passport, and reading it must load neither weights nor torch.
    """

    @property
    def device(self) -> str:
        """Where the model runs, such as ``cpu`` or ``cuda:0``."""
        ...

    @property
    def precision(self) -> str:
        """Of weights and activations, such as ``float32``, ``bfloat16`` or ``int8``."""
        ...

    @property
    def facts(self) -> Mapping[str, JSON]:
        """What changes vectors, as JSON."""
        ...

    def hidden(self, ids: NDArray[np.int32], offsets: Rows) -> torch.Tensor:
        """The last hidden states, ``(T, H)`` float32, of the sequences in ``ids`` ``(T,)``.

        Sequence ``b`` is rows ``offsets[b]:offsets[b + 1]`` of both (``offsets`` is ``(B + 1,)`` int64, and no
        sequence is empty).  No sequence sees another: its rows are the same in any batch.  The tensor is on
        :attr:`device`.  Running out of memory raises what the library raises; the caller makes the batch smaller.
        """
        ...
