"""A rotary student of a BERT: the same blocks, positions as rotations of queries and keys, taught by the BERT itself.

Rotary encoders extend better than absolute ones (LongEmbed, arXiv 2404.12096, section 5.3), and small ones are rare.
This makes one in minutes: every matrix of the BERT is kept but its position matrix, which rotary positions (Su et al.
2021, arXiv 2104.09864) replace; such a model is useless until it is trained (LongEmbed, appendix A).  No labels are
needed: the BERT at its ordinary positions is the teacher, and the student's states token by token, its vector (cosine
distances) and its vector among those of the batch (InfoNCE) must be the teacher's.

The student is a ``jina_embeddings_v3`` of transformers: the one class there with BERT's blocks (two-matrix GELU
feed-forward, biases, normalisation after the residual) and rotary positions.  Word vectors stay frozen: they are half
of the parameters, and rare words would not be seen often enough.

Letters::

    Lo trained length     B texts of a batch     H hidden width
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unabridged._extras import require
from unabridged.contracts import JSON, Document, Failure, Rows
from unabridged.encoders._hf import TOKENIZER_FILES, ModelFolder, read_folder
from unabridged.encoders._tokens import Tokenizer
from unabridged.encoders._torch import quiet
from unabridged.encoders.export import Export
from unabridged.encoders.extension import NO_EXTENSION
from unabridged.encoders.pooling import pool
from unabridged.encoders.prompts import Prompts
from unabridged.errors import UsageError
from unabridged.training.losses import cosine_distance, info_nce
from unabridged.training.texts import Pieces, check_draws, cut

if TYPE_CHECKING:
    import torch

ROPE_THETA = 10_000.0
"""The rotary base: 2 pi to 2 pi 10,000 tokens a turn."""
WEIGHTS: Mapping[str, float] = {"states": 10.0, "vectors": 10.0, "contrast": 1.0}
"""Of the three parts of the loss: distances are small numbers next to InfoNCE."""
FROZEN = "embeddings.word_embeddings.weight"

_BLOCK: Mapping[str, str] = {
    "attention.self.query": "self_attn.q_proj",
    "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj",
    "attention.output.dense": "self_attn.o_proj",
    "attention.output.LayerNorm": "post_attention_layernorm",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "output.LayerNorm": "post_mlp_layernorm",
}
"""BERT's names of the parts of a layer -> the student's; longer ones first where one ends another."""


@dataclass(frozen=True, slots=True)
class Student:
    """What is taught, besides the schedule of the loop."""

    tokens: int = 160
    """Lo: no longer text is seen in training."""
    batch_tokens: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        check_draws(self.batch_tokens, self.seed)

    def check(self, teacher: ModelFolder) -> None:
        """:class:`UsageError` unless ``teacher`` is a BERT that reads Lo tokens."""
        if teacher.model_type != "bert" or teacher.saved is not None:
            raise UsageError(f"A rotary student needs a plain bert for a teacher; {teacher.source} is none.")
        if not 8 <= self.tokens <= (teacher.limit or 0):
            raise UsageError(
                f"tokens must be from 8 to the {teacher.limit} trained ones of {teacher.source}, got {self.tokens}."
            )

    @property
    def facts(self) -> dict[str, JSON]:
        """The fields as JSON."""
        return asdict(self)


def student_name(name: str) -> str | None:
    """What the student calls the BERT's parameter ``name``; None where it has none (positions, pooler)."""
    if name.startswith("embeddings."):
        return None if "position" in name else name
    if not name.startswith("encoder.layer."):
        return None
    number, _, rest = name.removeprefix("encoder.layer.").partition(".")
    part, _, kind = rest.rpartition(".")
    return f"layers.{number}.{_BLOCK[part]}.{kind}"


def student_task(teacher: ModelFolder, documents: Iterable[Document | Failure], student: Student) -> StudentTask:
    """The task for a teacher and a corpus.

    Raises:
        UsageError: the teacher is no BERT, or does not read that far.
        CorpusError: no text.
    """
    student.check(teacher)
    return StudentTask(teacher, cut(documents, Tokenizer(teacher), student.tokens, student.seed), student)


class StudentTask:
    """Satisfies :class:`unabridged.training.made.FolderTask`: a student, and texts that its teacher has read."""

    def __init__(self, teacher: ModelFolder, pieces: Pieces, student: Student) -> None:
        student.check(teacher)
        self._folder = teacher
        self.pieces = pieces
        self._student = student

    @cached_property
    def _models(self) -> tuple[Any, Any]:
        """Teacher and student; the student starts with the teacher's weights."""
        transformers = require("transformers", extra="torch", purpose="training")
        with quiet(transformers):
            teacher = transformers.AutoModel.from_pretrained(str(self._folder.path), dtype="float32").eval()
        sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        same = (*sizes, "hidden_act", "type_vocab_size", "layer_norm_eps", "pad_token_id")
        config = transformers.JinaEmbeddingsV3Config(
            **{name: getattr(teacher.config, name) for name in same},
            max_position_embeddings=self._student.tokens,
            rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            bos_token_id=None,
            eos_token_id=None,
        )
        student = transformers.JinaEmbeddingsV3Model(config, add_pooling_layer=False).eval()
        weights = {student_name(name): value for name, value in teacher.state_dict().items()}
        student.load_state_dict({name: value for name, value in weights.items() if name is not None})
        for parameter in teacher.parameters():
            parameter.requires_grad_(False)
        student.get_parameter(FROZEN).requires_grad_(False)
        return teacher, student

    @property
    def facts(self) -> Mapping[str, JSON]:
        """Settings and the teacher's weights."""
        return {**self._student.facts, "weights": self._folder.weights_sha256}

    @property
    def parameters(self) -> Mapping[str, torch.Tensor]:
        """All of the student's but its word vectors."""
        return {name: value for name, value in self._models[1].named_parameters() if name != FROZEN}

    def batches(self, epoch: int) -> list[Rows]:
        """The pieces, alike in length within a batch."""
        chance = np.random.default_rng([self._student.seed, 1, epoch])
        return self.pieces.batches(self._student.batch_tokens, chance)

    def tokens(self, rows: Rows) -> int:
        """Tokens of a batch, padding excluded."""
        return int(self.pieces.lengths[rows].sum())

    def loss(self, epoch: int, number: int, rows: Rows) -> torch.Tensor:
        """How far the student's states and vectors are from the teacher's."""
        import torch

        del epoch, number  # nothing is drawn
        pieces = self.pieces.take(rows)
        ids, real = pieces.padded(int(self._folder.config.get("pad_token_id") or 0))
        mask = torch.from_numpy(real)
        inputs = {"input_ids": torch.from_numpy(ids)}
        if not bool(mask.all()):
            inputs["attention_mask"] = mask.long()
        teacher, student = self._models
        with torch.no_grad():
            wanted = teacher(**inputs).last_hidden_state[mask]
        found = student(**inputs).last_hidden_state[mask]
        vectors = [pool(states, pieces.offsets, self._folder.pooling) for states in (found, wanted)]
        return (
            WEIGHTS["states"] * cosine_distance(found, wanted)
            + WEIGHTS["vectors"] * cosine_distance(vectors[0], vectors[1])
            + WEIGHTS["contrast"] * info_nce(vectors[0], vectors[1])
        )

    def write(self, work: Path) -> None:
        """The student as ``work / "folder"``; pooling, prompts and the other modules are the teacher's."""
        import torch
        from safetensors.torch import save_file

        bare = work / "bare"
        bare.mkdir(parents=True)
        student = self._models[1]
        config = {**student.config.to_dict(), "architectures": ["JinaEmbeddingsV3Model"]}
        (bare / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        tensors = {name: value.detach().contiguous() for name, value in student.state_dict().items()}
        # The class has a pooler, which nothing here uses: zeros, so that transformers does not draw one.
        tensors["pooler.dense.weight"] = torch.zeros(config["hidden_size"], config["hidden_size"])
        tensors["pooler.dense.bias"] = torch.zeros(config["hidden_size"])
        save_file(tensors, bare / "model.safetensors", {"format": "pt"})
        for name in TOKENIZER_FILES:
            if (self._folder.path / name).is_file():
                (bare / name).write_bytes((self._folder.path / name).read_bytes())
        own = read_folder(bare)
        teacher = self._folder
        folder = replace(teacher, path=own.path, source=own.source, config=own.config, stated_window=None)
        made = work / "folder"
        made.mkdir()
        Export(folder, NO_EXTENSION, self._student.tokens, None, *Prompts.of(teacher.prompts)).write(made)
