"""What a user may choose about a transformer encoder, settled for one model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unabridged.contracts import JSON
from unabridged.encoders._hf import ModelFolder
from unabridged.encoders.code.split import CodeSplitter, Split, splitter_of
from unabridged.encoders.extension import NO_EXTENSION, Extension, Method, Plan, check_most
from unabridged.encoders.late import LateChunking, check_poolings
from unabridged.encoders.prompts import Prompts
from unabridged.encoders.windows import WINDOWS_VERSION
from unabridged.errors import UsageError

LANDMARK = "landmark"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user may choose about a model folder; None takes the folder's own value."""

    max_tokens: int | None = None
    """Window in tokens, specials and prompt included; up to the model's limit."""
    overlap: int = 0
    """Tokens that neighbouring windows share, at most."""
    query_prompt: str | None = None
    document_prompt: str | None = None
    truncate_dim: int | None = None
    """Matryoshka: keep this many leading components."""
    batch_tokens: int | None = None
    """Tokens per batch; changes speed and memory only."""
    extension: Extension = NO_EXTENSION
    """How to read beyond the trained length; backends must have been built with the plan of the same one."""
    late_tokens: int | None = None
    """Late chunking: tokens of a segment, at most; None: a vector stands for its whole window."""
    late_overlap: int | None = None
    """Late chunking beyond the window: tokens of context before each later pass; None: a sixteenth of the window."""
    landmark_tokens: int | None = None
    """Landmark pooling: tokens between landmarks."""
    split: str = Split.PROSE
    """Where documents are cut into windows: as prose, or as source code."""
    language: str | None = None
    """With ``split="syntax"``: the language of texts that do not tell theirs; None: it is guessed."""
    header: bool = False
    """With ``split="syntax"``: read path and enclosing signatures in front of each later window."""
    comments: bool = True
    """With ``split="syntax"``: whether comments are read; what is not is recorded as left out."""
    docstrings: bool = True
    """With ``split="syntax"``: whether documentation is read: docstrings, or the comments that are used as such."""


@dataclass(frozen=True, slots=True)
class Choices:
    """Every number of an encoder: nothing is None that could have one."""

    folder: ModelFolder
    plan: Plan
    asked: Settings
    window: int
    dim: int
    prompts: Prompts
    piece: int | None
    """g of landmark pooling; None: another pooling."""
    late: LateChunking | None
    code: CodeSplitter | None
    """What cuts documents; None: as prose."""

    @classmethod
    def of(cls, folder: ModelFolder, settings: Settings) -> Choices:
        """``settings`` for ``folder``; :class:`UsageError` where the two, or two settings, do not fit."""
        check_most(
            max_tokens=settings.max_tokens,
            batch_tokens=settings.batch_tokens,
            late_tokens=settings.late_tokens,
            late_overlap=settings.late_overlap,
            landmark_tokens=settings.landmark_tokens,
        )
        plan = folder.plan(settings.extension)
        window = _window(folder, plan, settings.max_tokens)
        return cls(
            folder,
            plan,
            settings,
            window,
            check_dim(folder.dim, settings.truncate_dim, folder.source),
            Prompts.of(folder.prompts, settings.query_prompt, settings.document_prompt),
            _piece(folder, settings.landmark_tokens),
            _late(folder, plan, settings, window),
            _code(folder, plan, settings),
        )

    def facts(self, backend: Mapping[str, JSON]) -> dict[str, JSON]:
        """What changes a vector, for the passport.

        What came later than the first version stands here only where it is used: encoders that do without keep
        the fingerprint that their indexes know.
        """
        folder, asked = self.folder, self.asked
        prompts = self.prompts._asdict()
        pooling = "+".join(folder.pooling)
        extension = {} if self.plan.is_none else {"extension": dict(self.plan.facts)}
        kept = {} if asked.extension.is_none and folder.saved is None else {"extension": asked.extension.as_json()}
        late = {} if self.late is None else self.late.facts
        landmarks = {} if self.piece is None else {"landmark_tokens": self.piece}
        code = {} if self.code is None else self.code.facts
        cut = {} if self.code is None else self.code.settings
        return {
            "kind": "transformer",
            "weights": folder.weights_sha256,
            "tokenizer": folder.tokenizer_sha256,
            "config": folder.config_sha256,
            "pooling": pooling,
            "pooling_includes_prompt": folder.include_prompt,
            "dense": folder.dense_facts,
            "normalize": folder.normalize,
            "truncate_dim": asked.truncate_dim,
            "prompts": prompts,
            "window": self.window,
            "overlap": asked.overlap,
            "windows_version": WINDOWS_VERSION,
            "backend": dict(backend),
            **extension,
            **late,
            **landmarks,
            **code,
            "settings": {
                "backend": backend["backend"],
                "precision": backend["precision"],
                "max_tokens": self.window,
                "overlap": asked.overlap,
                "pooling": folder.pooling[0] if len(folder.pooling) == 1 else None,
                "query_prompt": prompts["query"],
                "document_prompt": prompts["document"],
                "truncate_dim": asked.truncate_dim,
                **kept,
                **late,
                **landmarks,
                **cut,
            },
        }


def _window(folder: ModelFolder, plan: Plan, asked: int | None) -> int:
    if asked is not None and asked < 1:
        raise UsageError(f"max_tokens must be at least 1, got {asked}.")
    if plan.method is not None:
        return _extended_window(plan, asked)
    if asked is None:
        # A matrix of tuned positions has more rows than the model has trained positions.
        return min(folder.window, plan.original) if plan.rows_per_position > 1 else folder.window
    if folder.limit is not None and asked > folder.limit:
        raise UsageError(
            f"max_tokens={asked} is more than the {folder.limit} positions of {folder.source}. Longer texts are "
            "split into windows and read whole: leave max_tokens out."
        )
    return asked


def _extended_window(plan: Plan, asked: int | None) -> int:
    if asked is not None and asked > plan.target:
        raise UsageError(f"max_tokens={asked} is more than the target of {plan.target} tokens; raise target_tokens.")
    return plan.target if asked is None else asked


def check_dim(width: int, truncate: int | None, source: str) -> int:
    """The width of vectors of ``source`` that are cut to ``truncate`` components, if it is not None."""
    if truncate is None:
        return width
    if not 1 <= truncate <= width:
        raise UsageError(f"truncate_dim must be from 1 to {width}, the width of {source}; got {truncate}.")
    return truncate


def _piece(folder: ModelFolder, asked: int | None) -> int | None:
    if folder.pooling != (LANDMARK,):
        if asked is not None:
            raise UsageError(
                f"landmark_tokens={asked} belongs to pooling='landmark', and {folder.source} pools by "
                f"{'+'.join(folder.pooling)}."
            )
        return None
    piece = folder.landmark_tokens if asked is None else asked
    if piece < 1:
        raise UsageError(f"landmark_tokens must be at least 1, got {piece}.")
    return piece


def _late(folder: ModelFolder, plan: Plan, settings: Settings, window: int) -> LateChunking | None:
    if settings.late_tokens is None:
        if settings.late_overlap is not None:
            raise UsageError(f"late_overlap={settings.late_overlap} needs late_tokens, the size of a segment.")
        return None
    check_poolings(folder.pooling)
    if settings.overlap:
        raise UsageError(
            f"overlap={settings.overlap} is for windows with a vector each; with late_tokens use late_overlap."
        )
    if plan.method is Method.PCW:
        raise UsageError(
            "extend='pcw' reads chunks apart, and late chunking needs states that saw each other. Leave extend out: "
            "beyond the window late chunking reads on in windows with late_overlap."
        )
    return LateChunking.of(settings.late_tokens, settings.late_overlap, window)


def _code(folder: ModelFolder, plan: Plan, settings: Settings) -> CodeSplitter | None:
    splitter = splitter_of(
        settings.split,
        settings.language,
        header=settings.header,
        comments=settings.comments,
        docstrings=settings.docstrings,
    )
    if not settings.header:
        return splitter
    reason = (
        "late chunking reads a document in one piece"
        if settings.late_tokens is not None
        else "landmark pooling takes states of the text alone"
        if folder.pooling == (LANDMARK,)
        else "extend='pcw' reads a window in pieces"
        if plan.method is Method.PCW
        else ""
    )
    if reason:
        raise UsageError(f"header=True puts context in front of each window, and {reason}. Leave one of them out.")
    return splitter
