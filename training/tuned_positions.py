"""Tuned positions: a longer position matrix whose new rows alone are learned, so that short texts stay as they are.

Zhu et al., LongEmbed, EMNLP 2024, arXiv 2404.12096, section 4 and appendix B.  The matrix begins as position
interpolation: row ``i s`` is the trained row i (an anchor), and the ``s - 1`` rows after it lie between two trained
ones.  The model and the anchors are frozen; only the rows in between are learned.  Texts of up to Lo tokens reach all
rows because each gets its positions from a random start, ``u, u + 1, ...`` with u from 0 to ``Lt - length``, drawn anew
for every text and epoch (PoSE, Zhu et al. 2023, arXiv 2309.10400).  A long text is then read with the rows 0, 1, ...,
a short one with the anchors 0, s, 2s, ...

**What is learned.**  The authors fine-tune with labelled pairs of queries and passages, on texts of up to Lo tokens.
Here no labels are needed, and texts are as long as the matrix: the frozen model at its ordinary positions reads
stretches of the corpus, and each has to find the long text that it was put into, among texts that are equal but for
their stretch (:mod:`unabridged.training.needles`).  Texts beyond Lo mostly stand where they will be read, from row 0.

An earlier form kept the vectors of short texts, wherever they stood, near the teacher's.  Vectors came nearer and
passkeys got worse (accuracy at 1,024 tokens 0.18 to 0.14): the teacher's own vectors of long texts hardly show a
single line, and weigh it by where it stands.  One epoch of
this form over fourteen speeches brought the embedded model's passkeys, in the mean of three draws, from 0.14 to 0.76 at
1,024 tokens and left them as they were at 2,048 (``benchmarks/results/tuned_positions_draws_cpu.md``).

Letters::

    Lo trained length     s rows per position     Lt = s Lo     H hidden width     B texts     L longest of a batch
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unabridged._extras import require
from unabridged.contracts import JSON, Document, Failure, Floats, Rows
from unabridged.encoders._hf import ModelFolder
from unabridged.encoders._tokens import Tokenizer
from unabridged.encoders._torch import quiet
from unabridged.encoders.extension import check_most
from unabridged.encoders.methods import Positions
from unabridged.encoders.pooling import pool
from unabridged.encoders.positions import ratio
from unabridged.errors import UsageError
from unabridged.training.losses import info_nce
from unabridged.training.needles import draw, texts_in
from unabridged.training.texts import Pieces, check_draws, cut
from unabridged.training.tuned_folder import write_tuned

if TYPE_CHECKING:
    import torch

FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "mpnet")
"""Model types whose code in transformers looks its positions up in ``embeddings.position_embeddings`` and takes
``position_ids``."""
AT_ZERO = 0.7
"""Share of the batches of texts beyond Lo that stand at row 0; the others stand anywhere, all at one place."""
BATCH_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Tuning:
    """What is tuned, besides the schedule of the loop."""

    target_tokens: int
    """Lt, rounded up to whole multiples of the trained length."""
    batch_tokens: int = BATCH_TOKENS
    """Of a batch; a text of which fewer than four fit is still taken four times."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_most(target_tokens=self.target_tokens)
        check_draws(self.batch_tokens, self.seed)

    def scale(self, folder: ModelFolder) -> int:
        """The s for the model in ``folder``; :class:`UsageError` if it cannot be tuned, or not to this length."""
        if folder.saved is not None:
            raise UsageError(f"{folder.source} is an extended model already; name the model that it was made from.")
        if folder.model_type not in FAMILIES or folder.positions is not Positions.ABSOLUTE:
            raise UsageError(
                f"Tuned positions need one learned vector per position, as in {', '.join(FAMILIES)}; "
                f"{folder.source} is of type {folder.model_type!r} with {folder.positions.value} positions."
            )
        original = folder.limit or 0
        if self.target_tokens <= original:
            raise UsageError(
                f"target_tokens={self.target_tokens} is not above the trained length of {folder.source}, {original} "
                "tokens."
            )
        return ratio(self.target_tokens, original)

    @property
    def facts(self) -> dict[str, JSON]:
        """The fields as JSON."""
        return asdict(self)


def stretched(matrix: Floats, scale: int) -> Floats:
    """PI's matrix ``(s Lo, H)`` from the trained ``(Lo, H)``; the rows after the last trained one are copies of it.

    Rows ``i s`` are the trained ones to the bit, also where a neighbour is not finite.
    """
    share = (np.arange(scale, dtype=np.float32) / np.float32(scale))[None, :, None]
    after = np.concatenate((matrix[1:], matrix[-1:]))
    long: Floats = (1 - share) * matrix[:, None] + share * after[:, None]
    long[:, 0] = matrix
    return long.reshape(-1, matrix.shape[1])


def random_starts(lengths: Rows, target: int, chance: np.random.Generator) -> Rows:
    """The u of each text, ``(B,)``: drawn evenly from 0 to ``target - length``, both included."""
    starts: Rows = chance.integers(0, target - lengths + 1)
    return starts


def split_rows(matrix: Floats, scale: int, lead: int) -> torch.nn.Module:
    """A module in place of ``position_embeddings``: frozen rows and new rows are tensors of their own.

    One tensor with masked gradients would not do: weight decay and momentum move rows without a gradient.
    ``lead`` rows in front, RoBERTa's, belong to no position and are frozen too.
    """
    import torch

    class SplitRows(torch.nn.Module):
        """``(B, L)`` positions, ``lead`` included, to ``(B, L, H)``."""

        def __init__(self) -> None:
            super().__init__()
            trained = torch.from_numpy(matrix.astype(np.float32))
            self.lead = torch.nn.Buffer(trained[:lead].clone())
            self.anchors = torch.nn.Buffer(trained[lead:].clone())
            long = torch.from_numpy(stretched(self.anchors.numpy(), scale))
            self.new = torch.nn.Parameter(long.view(len(self.anchors), scale, -1)[:, 1:].clone())

        @property
        def rows(self) -> torch.Tensor:
            """``(lead + s Lo, H)``: the whole matrix."""
            between = torch.cat((self.anchors[:, None], self.new), dim=1)
            return torch.cat((self.lead, between.flatten(0, 1)))

        def forward(self, position_ids: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.embedding(position_ids, self.rows)

    return SplitRows()


def position_task(folder: ModelFolder, documents: Iterable[Document | Failure], tuning: Tuning) -> PositionTask:
    """The task for a model and a corpus.

    Raises:
        UsageError: the model cannot be tuned, or not to this length.
        CorpusError: no text.
    """
    target = tuning.scale(folder) * int(folder.limit or 0)
    shortest = int(folder.limit or 0) // 2  # shorter ones are read with the anchors alone
    return PositionTask(folder, cut(documents, Tokenizer(folder), target, tuning.seed, shortest), tuning)


class PositionTask:
    """Satisfies :class:`unabridged.training.made.FolderTask`: new rows, and long texts that differ in one line."""

    def __init__(self, folder: ModelFolder, pieces: Pieces, tuning: Tuning) -> None:
        self._folder = folder
        self.pieces = pieces
        self._tuning = tuning
        self._scale = tuning.scale(folder)
        self._target = self._scale * int(folder.limit or 0)

    @cached_property
    def _parts(self) -> tuple[Any, Any, torch.nn.Embedding]:
        """The frozen model, the rows that are learned, and the trained rows."""
        transformers = require("transformers", extra="torch", purpose="training")
        with quiet(transformers):
            model = transformers.AutoModel.from_pretrained(str(self._folder.path), dtype="float32").eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        trained = model.embeddings.position_embeddings
        lead = len(trained.weight) - int(self._folder.limit or 0)
        return model, split_rows(trained.weight.detach().numpy(), self._scale, lead), trained

    @property
    def facts(self) -> Mapping[str, JSON]:
        """Settings and the model's weights."""
        return {**self._tuning.facts, "weights": self._folder.weights_sha256}

    @property
    def parameters(self) -> Mapping[str, torch.Tensor]:
        """The new rows ``(Lo, s - 1, H)``, and nothing else."""
        return {"new": self._parts[1].new}

    @property
    def matrix(self) -> Floats:
        """The whole matrix as it is now, rows that belong to padding included."""
        rows: Floats = self._parts[1].rows.detach().numpy()
        return rows

    def batches(self, epoch: int) -> list[Rows]:
        """Each piece alone, in an order drawn anew: it is the haystack of a whole batch."""
        chance = np.random.default_rng([self._tuning.seed, 1, epoch])
        return list(chance.permutation(len(self.pieces))[:, None])

    def tokens(self, rows: Rows) -> int:
        """Tokens of a batch's texts."""
        long = int(self.pieces.lengths[rows[0]])
        return long * texts_in(long, self._tuning.batch_tokens)

    def loss(self, epoch: int, number: int, rows: Rows) -> torch.Tensor:
        """How badly stretches, read alone, find the long text that they stand in."""
        import torch

        chance = np.random.default_rng([self._tuning.seed, 2, epoch, number])
        row = int(rows[0])
        count = texts_in(int(self.pieces.lengths[row]), self._tuning.batch_tokens)
        needles = draw(self.pieces, row, count, chance)
        with torch.no_grad():
            read = self._states(needles.asked, np.zeros(count, np.int64), trained=True)
            asked = pool(read, needles.asked.offsets, self._folder.pooling)
        found = self._states(needles.texts, self._starts(needles.texts.lengths, chance), trained=False)
        vectors = pool(found, needles.texts.offsets, self._folder.pooling)
        return info_nce(asked, vectors)

    def _starts(self, lengths: Rows, chance: np.random.Generator) -> Rows:
        """Where texts stand: short ones anywhere, each by itself; longer ones all at one place, mostly at 0."""
        if int(lengths[0]) <= int(self._folder.limit or 0):
            return random_starts(lengths, self._target, chance)
        if chance.random() < AT_ZERO:
            return np.zeros_like(lengths)
        return np.full_like(lengths, random_starts(lengths[:1], self._target, chance)[0])

    def write(self, work: Path) -> None:
        """The model folder with the matrix as it is now, in ``work / "folder"``."""
        write_tuned(self._folder, self.matrix, self._scale, work / "folder")

    def _states(self, pieces: Pieces, starts: Rows, *, trained: bool) -> torch.Tensor:
        """Last hidden states, packed ``(T, H)``, with the first token of each text at its start."""
        import torch

        model, rows, anchors = self._parts
        ids, real = pieces.padded(int(self._folder.config.get("pad_token_id") or 0))
        model.embeddings.position_embeddings = anchors if trained else rows
        mask = torch.from_numpy(real)
        inputs = {"input_ids": torch.from_numpy(ids), "position_ids": torch.from_numpy(self._places(real, starts))}
        if not bool(mask.all()):
            inputs["attention_mask"] = mask.long()
        if self._folder.model_type != "mpnet":
            inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
        states: torch.Tensor = model(**inputs).last_hidden_state[mask]
        return states

    def _places(self, real: NDArray[np.bool_], starts: Rows) -> Rows:
        lead = len(self._parts[2].weight) - int(self._folder.limit or 0)
        places = np.arange(real.shape[1]) + starts[:, None] + lead
        return np.where(real, places, max(0, lead - 1)).astype(np.int64)
