"""Block vectors of a document to the vector of the document, in the formulas of SEA and in mended ones.

After Hu et al. 2024, "Tackling Long Code Search" (SEA, arXiv 2208.11271, section 3.4).  With e_1..e_L the blocks of a
document and a = softmax(s(e_1), .., s(e_L)):

=======================  ==============================================================================
``max``                  the largest number of each component
``mean``                 1/L sum e_i
``attention``            sum a_i e_i
``attention_plus_mean``  1/2 sum a_i e_i + 1/2 mean
``attention_plus_max``   1/2 sum a_i e_i + 1/2 max
``sea_legacy``           1/2 sum a_i e_i + L/2 mean: "attention + mean" as the authors' program computes it
=======================  ==============================================================================

s has one layer, ``w . e + b``, or two, ``v . tanh(W e)``.

The authors broadcast the mean to every row before they sum over rows, so that their "mean" is a sum.  Its norm grows
with the number of blocks: for L equal blocks (1 + L) / 2.  ``sea_legacy`` is there to load old checkpoints and to show
what that does to an evaluation; every other formula gives the same vector whether a block comes once or many times.

*Max over the scores* of a document's blocks needs no aggregator: it is a search over the vectors of the segments,
which every index that keeps them can do (``discounted`` with r = 0 in :mod:`unabridged.retrievers.scoring`, or
``search --level segment``).

Letters::

    B documents     S their blocks, packed     L blocks of one document     H width of a vector     K of a hidden layer
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Floats, Rows
from unabridged.errors import ShapeError, UsageError, ValidationError

Doubles: TypeAlias = NDArray[np.float64]
ONE_LAYER: Mapping[str, int] = {"weight": 1, "bias": 1}
"""w ``(H,)`` and b ``(1,)``, with their numbers of dimensions."""
TWO_LAYERS: Mapping[str, int] = {"hidden": 2, "output": 1}
"""W ``(K, H)`` and v ``(K,)``."""


@dataclass(frozen=True, slots=True)
class Aggregated:
    """Vectors of B documents, and what each block gave to its own."""

    documents: Floats  # (B, H) float32, of any norm; zeros for a document without blocks
    weights: Floats  # (S,) float32
    """Where the formula is linear the vector is the sum of the blocks times these.  For a maximum it is the share of
    the components that come from the block; equal blocks share theirs."""


@dataclass(frozen=True)
class Aggregator:
    """One formula with its parameters: float32, ``weight`` and ``bias``, or ``hidden`` and ``output``.

    Raises:
        UsageError: an unknown formula, or one of no parameters with some.
        ValidationError: parameters that do not fit the formula or each other, or are not finite.
    """

    kind: str
    parameters: Mapping[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"There is no aggregator {self.kind!r}; choose one of {', '.join(KINDS)}.")
        if not self.learned:
            if self.parameters:
                raise UsageError(f"The aggregator {self.kind!r} has no parameters, got {sorted(self.parameters)}.")
            return
        found = {name: value.ndim for name, value in self.parameters.items()}
        if found not in (dict(ONE_LAYER), dict(TWO_LAYERS)):
            raise ValidationError(
                f"The aggregator {self.kind!r} has a weight (H,) and a bias (1,), or a hidden (K, H) and an output "
                f"(K,); found {_shapes(self.parameters)}. Restore the file, or train it again."
            )
        if self.layers == 1:
            fits = self.parameters["bias"].shape == (1,)
        else:
            fits = len(self.parameters["hidden"]) == len(self.parameters["output"])
        finite = all(bool(np.isfinite(value).all()) for value in self.parameters.values())
        if not (fits and finite):
            said = "are not finite" if fits else "do not fit each other"
            raise ValidationError(f"Parameters of an aggregator {said}: {_shapes(self.parameters)}. Train it again.")

    @property
    def learned(self) -> bool:
        """Whether it has parameters."""
        return KINDS[self.kind]

    @property
    def layers(self) -> int:
        """Of s; 0 without attention."""
        return 0 if not self.learned else 1 if "weight" in self.parameters else 2

    @property
    def width(self) -> int | None:
        """H; None where any width will do."""
        return int(self.parameters["weight" if self.layers == 1 else "hidden"].shape[-1]) if self.learned else None

    def __call__(self, blocks: Floats, offsets: Rows) -> Floats:
        """``(B, H)`` float32 of packed blocks ``(S, H)`` with offsets ``(B + 1,)``."""
        return self.aggregate(blocks, offsets).documents

    def aggregate(self, blocks: Floats, offsets: Rows) -> Aggregated:
        """Vectors and weights of blocks ``(S, H)``, document b being rows ``offsets[b]:offsets[b + 1]``.

        One document at a time, in double precision: neither its place nor its neighbours change a bit of it.
        :class:`ShapeError` for another width, or for offsets that do not run from 0 to S.
        """
        self._check(blocks, offsets)
        documents = np.zeros((len(offsets) - 1, blocks.shape[1]), dtype=np.float32)
        weights = np.zeros(len(blocks), dtype=np.float32)
        for b, (first, last) in _ranges(offsets):
            own = blocks[first:last].astype(np.float64)
            documents[b], weights[first:last] = self._one(own)
        return Aggregated(documents, weights)

    def scores(self, blocks: Floats | Doubles) -> Doubles:
        """The score s of each block, ``(S,)`` float64; :class:`UsageError` for a formula without attention."""
        own: Doubles = blocks.astype(np.float64)
        if self.layers == 1:
            scores: Doubles = own @ self.parameters["weight"].astype(np.float64) + float(self.parameters["bias"][0])
            return scores
        if self.layers == 2:
            hidden = np.tanh(own @ self.parameters["hidden"].astype(np.float64).T)
            twice: Doubles = hidden @ self.parameters["output"].astype(np.float64)
            return twice
        raise UsageError(f"The aggregator {self.kind!r} has no attention.")

    def _one(self, own: Doubles) -> tuple[Doubles, Doubles]:
        """Vector ``(H,)`` and weights ``(L,)`` of the blocks ``(L, H)`` of one document."""
        even = np.full(len(own), 1.0 / len(own))
        if self.kind == "mean":
            return even @ own, even
        top, shares = _maximum(own)
        if self.kind == "max":
            return top, shares
        attention = softmax(self.scores(own))
        if self.kind == "attention_plus_max":
            return 0.5 * (attention @ own) + 0.5 * top, 0.5 * attention + 0.5 * shares
        weights = {
            "attention": attention,
            "attention_plus_mean": 0.5 * attention + 0.5 * even,
            "sea_legacy": 0.5 * attention + 0.5,
        }[self.kind]
        return weights @ own, weights

    def _check(self, blocks: Floats, offsets: Rows) -> None:
        if blocks.ndim != 2 or (self.width is not None and blocks.shape[1] != self.width):
            raise ShapeError(f"The aggregator takes blocks (S, {self.width or 'H'}), got {blocks.shape}.")
        ends = (int(offsets[0]), int(offsets[-1])) if len(offsets) else None
        if ends != (0, len(blocks)) or bool(np.any(np.diff(offsets) < 0)):
            raise ShapeError(f"Offsets of {len(blocks)} blocks rise from 0 to {len(blocks)}, got {offsets!r}.")


KINDS: Mapping[str, bool] = {
    "max": False,
    "mean": False,
    "attention": True,
    "attention_plus_mean": True,
    "attention_plus_max": True,
    "sea_legacy": True,
}
"""Formula -> whether it has parameters."""


def softmax(scores: Doubles) -> Doubles:
    """``exp(s_i) / sum exp(s_j)`` of ``(L,)``, safe for large scores."""
    powers = np.exp(scores - scores.max())
    weights: Doubles = powers / powers.sum()
    return weights


def _maximum(own: Doubles) -> tuple[Doubles, Doubles]:
    """The largest of each component ``(H,)``, and the share of components that each block has the largest of."""
    top = own.max(axis=0)
    winners = own == top
    return top, (winners / winners.sum(axis=0)).mean(axis=1)


def _ranges(offsets: Rows) -> Iterator[tuple[int, tuple[int, int]]]:
    """Number and rows of each document that has blocks."""
    for b, (first, last) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        if last > first:
            yield b, (first, last)


def _shapes(parameters: Mapping[str, Floats]) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in parameters.items()}
