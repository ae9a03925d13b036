"""What a user may choose about a Mamba encoder, settled for one model folder."""

from __future__ import annotations

from dataclasses import dataclass

from unabridged.contracts import JSON
from unabridged.encoders._hf import ModelFolder
from unabridged.encoders.code.split import CodeSplitter, Split, splitter_of
from unabridged.encoders.extension import check_most
from unabridged.encoders.mamba.folder import POOLINGS, Saved
from unabridged.encoders.prompts import Prompts
from unabridged.encoders.settings import check_dim
from unabridged.encoders.windows import WINDOWS_VERSION, check_overlap
from unabridged.errors import UsageError, ValidationError

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user may choose about a Mamba; None takes the folder's own value."""

    max_tokens: int | None = None
    """Content tokens of a segment."""
    carry: bool | None = None
    """Whether the state goes on from segment to segment; else each is read by itself, as a transformer's windows."""
    overlap: int = 0
    """Without ``carry``: tokens that neighbouring segments share, at most."""
    normalize: bool | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    truncate_dim: int | None = None
    """Matryoshka: keep this many leading components."""
    precision: str = "float32"
    batch_tokens: int | None = None
    """Tokens per block; changes speed and memory only."""
    split: str = Split.PROSE
    """Where documents are cut into segments: as prose, or as source code."""
    language: str | None = None
    """With ``split="syntax"``: the language of texts that do not tell theirs; None: it is guessed."""
    comments: bool = True
    """With ``split="syntax"``: whether comments are read."""
    docstrings: bool = True
    """With ``split="syntax"``: whether documentation is read."""


@dataclass(frozen=True, slots=True)
class Choices:
    """Every number of an encoder: nothing is None that could have one."""

    folder: ModelFolder
    saved: Saved
    """As :meth:`MambaEncoder.save` writes it."""
    overlap: int
    normalize: bool
    prompts: Prompts
    precision: str
    code: CodeSplitter | None
    """What cuts documents; None: as prose."""

    @classmethod
    def of(cls, folder: ModelFolder, settings: Settings) -> Choices:
        """``settings`` for ``folder``; :class:`UsageError` where the two, or two settings, do not fit."""
        check_most(max_tokens=settings.max_tokens, batch_tokens=settings.batch_tokens)
        _check_chain(folder)
        if settings.batch_tokens is not None and settings.batch_tokens < 1:
            raise UsageError(f"A block holds at least 1 token, got batch_tokens={settings.batch_tokens}.")
        if settings.precision not in PRECISIONS:
            raise UsageError(f"A Mamba computes in {' or '.join(PRECISIONS)}; got precision={settings.precision!r}.")
        saved = Saved.read(folder.path)
        saved = Saved(
            carry=saved.carry if settings.carry is None else settings.carry,
            max_tokens=saved.max_tokens if settings.max_tokens is None else settings.max_tokens,
            truncate_dim=saved.truncate_dim if settings.truncate_dim is None else settings.truncate_dim,
        )
        check_dim(folder.hidden, saved.truncate_dim, folder.source)
        check_overlap(saved.max_tokens, settings.overlap)
        if saved.carry and settings.overlap:
            raise UsageError(
                f"overlap={settings.overlap} is for segments that are read by themselves; a state that is carried on "
                "has seen all that comes before. Leave overlap out, or pass carry=False."
            )
        return cls(
            folder,
            saved,
            settings.overlap,
            folder.normalize if settings.normalize is None else settings.normalize,
            Prompts.of(folder.prompts, settings.query_prompt, settings.document_prompt),
            settings.precision,
            splitter_of(settings.split, settings.language, comments=settings.comments, docstrings=settings.docstrings),
        )

    @property
    def pooling(self) -> str:
        """``last`` or ``mean``."""
        return self.folder.pooling[0]

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return check_dim(self.folder.hidden, self.saved.truncate_dim, self.folder.source)

    def facts(self, tokenizer: ModelFolder, closing: list[int]) -> dict[str, JSON]:
        """What changes a vector, for the passport; kernels and devices change it by rounding only."""
        folder, saved = self.folder, self.saved
        prompts = self.prompts._asdict()
        chosen = {
            "precision": self.precision,
            "max_tokens": saved.max_tokens,
            "carry": saved.carry,
            "overlap": self.overlap,
            "pooling": self.pooling,
            "normalize": self.normalize,
            "query_prompt": self.prompts.query,
            "document_prompt": self.prompts.document,
            "truncate_dim": saved.truncate_dim,
            **({} if self.code is None else self.code.settings),
        }
        return {
            "kind": "mamba",
            "weights": folder.weights_sha256,
            "tokenizer": tokenizer.tokenizer_sha256,
            "config": folder.config_sha256,
            "closing": closing,
            "pooling": self.pooling,
            "pooling_includes_prompt": folder.include_prompt,
            "normalize": self.normalize,
            "truncate_dim": saved.truncate_dim,
            "prompts": prompts,
            "carry": saved.carry,
            "window": saved.max_tokens,
            "overlap": self.overlap,
            "windows_version": WINDOWS_VERSION,
            **({} if self.code is None else self.code.facts),
            "backend": {"backend": "torch", "precision": self.precision},
            "settings": chosen,
        }


def _check_chain(folder: ModelFolder) -> None:
    if len(folder.pooling) != 1 or folder.pooling[0] not in POOLINGS:
        raise UsageError(
            f"A Mamba is pooled by {' or '.join(POOLINGS)}, and {folder.source} by {'+'.join(folder.pooling)}. Pass "
            "pooling= with one of them."
        )
    if folder.dense:
        raise ValidationError(
            f"{folder.source} has {len(folder.dense)} dense layers behind its pooling; for a Mamba none is supported. "
            "Export it without them."
        )
