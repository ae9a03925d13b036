"""The encoder and its aggregator together, end to end: every block of a step goes through the transformer.

Letters::

    N texts     S their blocks, packed     T tokens of blocks, packed     H width of a vector
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unabridged._extras import require
from unabridged.contracts import Encoder, Floats, OverflowPolicy, Rows
from unabridged.encoders._hf import weight_files
from unabridged.encoders._sequences import Sequences
from unabridged.encoders._tokens import Ids
from unabridged.encoders._torch import quiet
from unabridged.encoders.load import encoder_from_settings
from unabridged.encoders.pooling import pool
from unabridged.encoders.reading import Distinct
from unabridged.encoders.sea.aggregators import Aggregator
from unabridged.encoders.transformer import TransformerEncoder
from unabridged.errors import UsageError
from unabridged.training.sea.data import PairTexts
from unabridged.training.sea.formulas import aggregate
from unabridged.training.shelf import QUERY, blocks

if TYPE_CHECKING:
    import torch

PART = 512
"""Texts that are tokenised together."""
AGGREGATOR = "aggregator."
"""Before the names of the aggregator's parameters among the model's."""


@dataclass(frozen=True)
class TokenBlocks:
    """The blocks of N texts as token sequences; block s is ``ids[ends[s]:ends[s + 1]]``."""

    ids: Ids  # (T,) int32
    ends: Rows  # (S + 1,)
    lead: Rows  # (S,) special and prompt tokens in front of each
    offsets: Rows  # (N + 1,) blocks of each text
    content: int
    """Own tokens of documents, headers not counted."""
    cut: int
    """Questions longer than a window, of which the first is read."""

    @property
    def sizes(self) -> Rows:
        """Tokens of each text, ``(N,)``."""
        sizes: Rows = np.diff(self.ends[self.offsets])
        return sizes

    def packed(self, rows: Rows) -> tuple[Ids, Rows]:
        """The tokens of blocks ``rows`` one after another, and their offsets."""
        parts = [self.ids[self.ends[row] : self.ends[row + 1]] for row in rows.tolist()]
        return np.concatenate(parts), np.concatenate(([0], np.cumsum([len(part) for part in parts]))).astype(np.int64)


def check_trainable(base: Encoder) -> TransformerEncoder:
    """``base`` if it can be trained end to end, else :class:`UsageError`."""
    if not isinstance(base, TransformerEncoder):
        raise UsageError(f"{base.passport.source!r} is no transformer encoder, which --full trains. Leave --full out.")
    if base.folder.dense or base.late_tokens is not None or not base.plan.is_none or base.folder.pooling != ("mean",):
        raise UsageError(
            f"--full trains a plain transformer with mean pooling, and {base.passport.source!r} has dense layers, "
            f"another pooling, late chunking or a context extension. Leave --full out."
        )
    return base


def token_blocks(data: PairTexts, base: TransformerEncoder) -> TokenBlocks:
    """The blocks of all texts, as ``base`` divides and frames them."""
    made: list[_Part] = []
    for start, end in blocks(len(data), PART):
        roles = data.roles[start:end]
        parts: dict[int, _Part] = {}
        for asked in (True, False):
            rows = np.flatnonzero((roles == QUERY) == asked).tolist()
            own = _sequences(base, [data.texts[start + row] for row in rows], asked=asked)
            parts.update(zip(rows, own, strict=True))
        made.extend(parts[row] for row in range(end - start))
    counts = [len(part.blocks) for part in made]
    each = [block for part in made for block in part.blocks]
    return TokenBlocks(
        ids=np.concatenate(each),
        ends=np.concatenate(([0], np.cumsum([len(block) for block in each]))).astype(np.int64),
        lead=np.concatenate([part.lead for part in made]),
        offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        content=sum(part.content for part, role in zip(made, data.roles, strict=True) if role != QUERY),
        cut=sum(part.cut for part in made),
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """One text."""

    blocks: list[Ids]
    lead: Rows
    content: int
    cut: bool


def _sequences(base: TransformerEncoder, texts: list[str], *, asked: bool) -> list[_Part]:
    """The framed blocks of texts, of one role."""
    if not texts:
        return []
    distinct = Distinct.of(texts)
    policy = OverflowPolicy.TRUNCATE if asked else OverflowPolicy.SPLIT
    work: Sequences = base.sequences(distinct, policy, queries=asked)
    packed = work.pack(np.arange(work.outputs))
    found = np.split(packed.ids, packed.offsets[1:-1])
    reading = work.reading
    parts = []
    cut = reading.coverage.cut
    for u, (first, last) in enumerate(zip(reading.offsets[:-1].tolist(), reading.offsets[1:].tolist(), strict=True)):
        parts.append(_Part(found[first:last], packed.lead[first:last], int(reading.seen[u]), bool(cut[u])))
    return [parts[u] for u in distinct.index.tolist()]


class FullTower:
    """Satisfies :class:`unabridged.training.retriever.Tower`; its tokens are numbers of blocks."""

    def __init__(self, base: TransformerEncoder, start: Aggregator, tokens: TokenBlocks, device: str = "cpu") -> None:
        self.kind = start.kind
        self.device = device
        self._base = base
        self._start = start
        self._tokens = tokens

    @cached_property
    def model(self) -> Any:
        """The base's transformer, in float32 and without dropout, so that a step is a function of its texts."""
        transformers = require("transformers", extra="torch", purpose="training")
        with quiet(transformers):
            model = transformers.AutoModel.from_pretrained(
                str(self._base.folder.path), dtype="float32", local_files_only=True
            )
        return model.to(self.device).eval()

    @cached_property
    def _own(self) -> Mapping[str, torch.Tensor]:
        import torch

        return {
            name: torch.from_numpy(value.copy()).to(self.device).requires_grad_()
            for name, value in self._start.parameters.items()
        }

    @cached_property
    def parameters(self) -> Mapping[str, torch.Tensor]:
        """Those of the transformer that take part, and the aggregator's; a pooler behind the states does not."""
        found = {name: value for name, value in self.model.named_parameters() if not name.startswith("pooler.")}
        return {**found, **{f"{AGGREGATOR}{name}": value for name, value in self._own.items()}}

    @property
    def width(self) -> int:
        """H."""
        return self._base.dim

    @property
    def undecayed(self) -> frozenset[str]:
        """Scales and biases."""
        return frozenset(name for name, value in self.parameters.items() if value.ndim < 2)

    def embed(self, ids: torch.Tensor, offsets: Rows) -> torch.Tensor:
        """``(B, H)`` of the blocks ``ids`` ``(S,)`` with offsets ``(B + 1,)``; blocks have norm 1 before they meet."""
        import torch

        rows = ids.cpu().numpy()
        tokens, ends = self._tokens.packed(rows)
        lengths = np.diff(ends)
        real = np.arange(int(lengths.max())) < lengths[:, None]
        padded = np.full(real.shape, int(self._base.folder.config.get("pad_token_id") or 0), dtype=np.int64)
        padded[real] = tokens
        mask = torch.from_numpy(real).to(self.device)
        states = self.model(
            input_ids=torch.from_numpy(padded).to(self.device), attention_mask=mask.long()
        ).last_hidden_state[mask]
        skip = None if self._base.folder.include_prompt else self._tokens.lead[rows]
        made = pool(states, ends, self._base.folder.pooling, skip)
        made = torch.nn.functional.normalize(made[:, : self.width], dim=-1)
        return aggregate(self.kind, self._own, made, offsets)

    def vectors(self, ids: Rows, offsets: Rows) -> Floats:
        """The same without a gradient, from and to numpy."""
        import torch

        with torch.no_grad():
            found: Floats = self.embed(torch.from_numpy(ids), offsets).cpu().numpy()
        return found

    def aggregator(self) -> Aggregator:
        """What was learned so far."""
        return Aggregator(self.kind, {name: value.detach().cpu().numpy().copy() for name, value in self._own.items()})

    def write_base(self, place: Path) -> Encoder:
        """The trained transformer as a model folder at ``place``, loaded with the settings of the base."""
        from safetensors.torch import save_file

        self._base.save(place)
        for path in weight_files(place):
            path.unlink()
        for name in ("model.safetensors", "pytorch_model.bin"):
            (place / f"{name}.index.json").unlink(missing_ok=True)
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()}
        save_file(tensors, str(place / "model.safetensors"), {"format": "pt"})
        facts = self._base.passport.facts
        return encoder_from_settings(facts.get("kind"), place, facts["settings"], device=self.device)
