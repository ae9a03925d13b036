"""Where the tokens of a text begin and end, and how many there are, by whatever tokenizer is at hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from unabridged.contracts import Rows
from unabridged.rankers.context.characters import divided
from unabridged.rankers.context.counting import TokenCounter, token_counter

_PIECE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w{1,12}|[^\w\s]")
"""Stands for a token where a tokenizer counts and shows no places: an ideograph, a word or a part of one, a sign."""


@dataclass(frozen=True, slots=True)
class TextTokens:
    """A tokenizer as windows and budgets need it; special tokens are left aside."""

    label: str
    """Which one it is, for reports."""
    count: Callable[[str], int]
    """Tokens of a text."""
    places: Callable[[str], Rows]
    """Characters ``[start, end)`` of the tokens of a text, ``(T, 2)`` int64; a long word that the tokenizer does not
    know is one token and has several places."""
    exact: bool
    """Whether ``places`` are those of the tokens that ``count`` counts, and not of something like them."""


def text_tokens(tokenizer: Any) -> TextTokens:
    """``tokenizer`` as :class:`TextTokens`: what :func:`token_counter` takes, best one that shows offsets.

    A local language model, a fast tokenizer of transformers and one of the library tokenizers show them.  For others
    windows are cut at words and measured, so that they keep their limit and are a little shorter than they could be.
    """
    if isinstance(tokenizer, TextTokens):
        return tokenizer
    counter = token_counter(tokenizer)
    places = _places(getattr(tokenizer, "tokenizer", tokenizer))
    return TextTokens(counter.label, counter.count, places or _pieces, exact=places is not None)


def _places(tokenizer: Any) -> Callable[[str], Rows] | None:
    """None for a tokenizer that shows no offsets."""
    if isinstance(tokenizer, TokenCounter | str):
        return None
    if type(tokenizer).__module__.partition(".")[0] == "tokenizers":
        return lambda text: divided(_rows(tokenizer.encode(_whole(text), add_special_tokens=False).offsets))
    if getattr(tokenizer, "is_fast", False):

        def places(text: str) -> Rows:
            options = {"add_special_tokens": False, "return_offsets_mapping": True, "verbose": False}
            return divided(_rows(tokenizer(_whole(text), **options)["offset_mapping"]))

        return places
    return None


def _pieces(text: str) -> Rows:
    return _rows([match.span() for match in _PIECE.finditer(text)])


def _rows(spans: list[tuple[int, int]]) -> Rows:
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def _whole(text: str) -> str:
    """``text`` with a sign for each lone surrogate, which no tokenizer reads; of the same length."""
    return text if text.isascii() else re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)
