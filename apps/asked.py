"""What ``context`` and ``ask`` have in common: a question, where candidates come from, and what chooses among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unabridged.apps.options import given
from unabridged.apps.search_reranking import Again, again_of
from unabridged.contracts import Level
from unabridged.errors import UsageError
from unabridged.retrievers.result import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Where candidates come from, and what chooses among them."""

    question: str
    folder: Path | None
    """An index; None: ``files``."""
    files: tuple[str, ...] = ()
    k: int
    mode: Mode
    level: Level | None = None
    """None: segments where the index has them."""
    filters: tuple[str, ...] = ()
    select: str | None = None
    again: Again | None = None
    prune: float | None = None
    """The least score of a sentence that stays; None: passages stay whole."""
    encoder: str | None = None
    loading: Mapping[str, Any] = field(default_factory=dict)
    reading: Mapping[str, Any] = field(default_factory=dict)
    passage_tokens: int


def asked_of(  # noqa: PLR0913 - one parameter per option
    words: Sequence[str],
    *,
    file: Sequence[str] | None,
    k: int,
    mode: Mode,
    level: Level | None = None,
    filters: Sequence[str] | None,
    select: str | None,
    prune: float | None = None,
    rerank: str | None,
    rerank_depth: int,
    rerank_option: Sequence[str] | None,
    encoder: str | None,
    device: str | None,
    network: bool,
    format: str | None,  # noqa: A002 - the name of the option
    id_field: str | None,
    text_field: str | None,
    title_field: str | None,
    passage_tokens: int,
) -> Asked:
    """What the arguments and options of these names say; :class:`UsageError` where they contradict each other.

    The reranker is loaded: one that is not there is told before anything is read.
    """
    files = tuple(file or ())
    folder, question = _asked_for(words, files, select, rerank)
    return Asked(
        question=question,
        folder=folder,
        files=files,
        k=k,
        mode=mode,
        level=level,
        filters=tuple(filters or ()),
        select=select,
        again=again_of(rerank, rerank_depth, rerank_option, k),
        prune=prune,
        encoder=encoder,
        loading=given(device=device, network=network or None),
        reading=given(format=format, id_field=id_field, text_field=text_field, title_field=title_field),
        passage_tokens=passage_tokens,
    )


def _asked_for(
    words: Sequence[str], files: Sequence[str], select: str | None, rerank: str | None
) -> tuple[Path | None, str]:
    """Index folder and question of the arguments: with files there is no folder."""
    if select is not None and rerank is not None:
        raise UsageError("--select and --rerank both order the candidates: name one of them.")
    wanted = 1 if files else 2
    if len(words) != wanted:
        raise UsageError(
            f"{len(words)} arguments with {len(files)} files: name an index and a question, as in: unabridged context "
            'DIR "who signed the annex?", or files and a question: unabridged context --file book.txt "who signed?"'
        )
    return (None if files else Path(words[0])), words[-1]
