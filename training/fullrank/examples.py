"""A request and its complete order as tokens: the prompt, the answer to learn, and the rank of each answer token.

Prompt and answer are made into tokens apart and joined as numbers, so that no token reaches over the seam; the answer's
tokens are those that a model writes behind a prompt.

Letters::

    B examples     T tokens of the longest     L tokens of an answer
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from unabridged.contracts import Rows
from unabridged.errors import Overflow, UsageError
from unabridged.rankers.contracts import Request
from unabridged.rankers.listwise.fitting import Fitter, Piece, TokenCounter, fit
from unabridged.rankers.listwise.templates import Shown, Template, render
from unabridged.rankers.lm.contracts import Capabilities, Prompt
from unabridged.training.fullrank.first import First, first_of
from unabridged.training.fullrank.losses import IGNORED

if TYPE_CHECKING:
    import torch


class Vocabulary(Protocol):
    """The tokens of a model, as :class:`~unabridged.rankers.lm.vocabulary.Vocabulary`."""

    @property
    def pieces(self) -> list[bytes | None]:
        """By token id: the bytes that it writes."""
        ...

    def encode(self, text: str) -> list[int]:
        """Tokens of ``text`` as it stands inside an answer."""
        ...


class Learner(TokenCounter, Protocol):
    """A causal model on this machine, as :class:`~unabridged.rankers.lm.local.LocalModel`."""

    @property
    def tokenizer(self) -> Any:
        """Of Hugging Face; names the end token."""
        ...

    @property
    def vocabulary(self) -> Any:
        """A :class:`Vocabulary`."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """Says the context."""
        ...

    def ids(self, prompt: Prompt) -> list[int]:
        """The prompt's tokens, chat template included."""
        ...


@dataclass(frozen=True, slots=True)
class Example:
    """One list to learn."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]  # (L,)
    ranks: tuple[int, ...]
    """(L,): the rank from 1 of the id that an answer token belongs to; 0: of a separator, or the end."""
    shown: tuple[tuple[int, int], ...]
    """Tokens shown and tokens there were, of each candidate."""
    first: First | None = None
    """What competes for the first id; None where the ids are not one token each."""

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How examples are made; ``passage_tokens`` is one unit in training and in use."""

    template: Template
    passage_tokens: int | None = 100
    floor: int = 16
    most: int | None = None
    """Only the best so many ids are learned; None: all."""
    end: bool = True
    """Whether the answer ends in the model's end token, so that a trained model stops by itself."""
    context: int | None = None
    """Most tokens of prompt and answer; None: the model's."""

    def __post_init__(self) -> None:
        if self.template.method == "pointwise" or not self.template.separator.strip():
            raise UsageError(f"Template {self.template.name!r} must be listwise, with a separator that is seen.")
        tokens, most = self.passage_tokens, self.most
        if self.floor < 1 or (tokens is not None and tokens < self.floor) or (most is not None and most < 1):
            raise UsageError(
                f"floor={self.floor}, passage_tokens={self.passage_tokens}, most={self.most}: the floor is at least 1, "
                "a passage at least the floor, and one id or more is learned."
            )


def make_example(local: Learner, making: Making, request: Request, order: Sequence[int]) -> Example:
    """The tokens of ``request`` and of the answer that says ``order``, places of its candidates from 0.

    Candidates are shown as in ranking: whole up to ``passage_tokens``, otherwise their best segments, and shorter where
    all would not fit; :class:`Overflow` where they do not fit even at the floor.
    """
    answer, ranks = answer_tokens(local, making, order)
    fitter = Fitter(model=local, labels=making.template.labels)
    context = making.context or local.capabilities.context

    def prompt_of(pieces: Sequence[Piece]) -> tuple[int, ...]:
        shown = [Shown(piece.text, one.score) for piece, one in zip(pieces, request.candidates, strict=True)]
        return tuple(local.ids(render(making.template, request.query, shown, most=making.most)))

    def over(pieces: Sequence[Piece]) -> int:
        return 0 if context is None else len(prompt_of(pieces)) + len(answer) - context

    found = fit(fitter, request.query, request.candidates, making.passage_tokens, making.floor, over)
    if found is None:
        raise Overflow(
            f"Query {request.id!r}: {len(request.candidates)} candidates of {making.floor} tokens do not fit the "
            f"{context} tokens of the model. Learn from shorter lists, or with a lower floor."
        )
    shown = tuple((piece.tokens, total) for total, piece in found)
    first = first_of(local.vocabulary, making.template.labels, answer, order)
    return Example(prompt_of([piece for _, piece in found]), answer, ranks, shown, first)


def answer_tokens(local: Learner, making: Making, order: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The answer's tokens and the rank of each, both of length L."""
    text = making.template.answer(order[: making.most])
    ids = local.vocabulary.encode(text)
    pieces = local.vocabulary.pieces
    sizes = np.array([len(pieces[one] or b"") for one in ids], dtype=np.int64)
    if int(sizes.sum()) != len(text.encode()):
        raise UsageError(f"The tokenizer does not write {text[:40]!r} as it stands. Use a template with other labels.")
    ends = np.cumsum(sizes)
    ranks = token_ranks(_bytes(text), _bytes(making.template.separator), np.stack([ends - sizes, ends], axis=1))
    last = local.tokenizer.eos_token_id
    if making.end and last is None:
        raise UsageError("The tokenizer has no end token. Learn without one (end=False).")
    tail = (int(last),) if making.end else ()
    return (*ids, *tail), (*(int(rank) for rank in ranks), *(0 for _ in tail))


def _bytes(text: str) -> str:
    """One character for each byte."""
    return text.encode().decode("latin-1")


def token_ranks(text: str, separator: str, offsets: Rows) -> Rows:
    """The rank of each token of an answer, (L,) int64: 1 + the separators before it, 0 for what is only separator.

    ``offsets`` (L, 2) are the places of the tokens in ``text``, in characters of one byte.  A token that holds the end
    of one id and the beginning of the next belongs to the earlier, whose rank weighs more.  No token ids are named, so
    that it holds for any tokenizer.
    """
    rank_of = np.ones(len(text) + 1, dtype=np.int64)
    starts, at = [], text.find(separator)
    while at >= 0:
        starts.append(at)
        at = text.find(separator, at + len(separator))
    inside = np.zeros(len(text) + 1, dtype=bool)
    for start in starts:
        inside[start : start + len(separator)] = True
        rank_of[start + len(separator) :] += 1
    # The first place from each on that is part of an id.
    places = np.where(inside, len(text), np.arange(len(text) + 1))
    following = np.minimum.accumulate(places[::-1])[::-1]
    first = following[np.clip(offsets[:, 0], 0, len(text))]
    return np.where(first < offsets[:, 1], rank_of[first], 0)


def collate(
    examples: Sequence[Example], padding: int, device: Any = "cpu"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens, attention mask, targets and ranks, each (B, T) int64, padded on the right."""
    import torch

    width = max(len(one) for one in examples)

    def rows(of: Callable[[Example], Sequence[int]], filler: int) -> torch.Tensor:
        return torch.tensor([[*of(one), *[filler] * (width - len(one))] for one in examples], device=device)

    return (
        rows(lambda one: (*one.prompt, *one.answer), padding),
        rows(lambda one: [1] * len(one), 0),
        rows(lambda one: (*[IGNORED] * len(one.prompt), *one.answer), IGNORED),
        rows(lambda one: (*[0] * len(one.prompt), *one.ranks), 0),
    )
