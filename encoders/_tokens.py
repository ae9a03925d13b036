"""A tokenizer that is never asked to truncate: ids, character offsets, counts; without torch.

Special tokens are left out here and put around every window by the encoder: ``before + prompt + slice + after``.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unabridged._extras import require
from unabridged.contracts import JSON, Rows
from unabridged.encoders._hf import ModelFolder
from unabridged.errors import ValidationError

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text's own tokens, and those of the prompt that was put in front of it."""

    ids: Ids  # (T,) int32, content only
    prompt: Ids  # int32, the prompt as it is tokenised in front of this text
    encoding: Any
    shift: int
    """Characters of the prompt."""
    kept: Rows | None = None  # (T,) int64
    """Which of the content tokens these are, where some are left out; None: all of them."""

    def characters(self) -> Rows:
        """Character offsets of the content tokens in the text without prompt, ``(T, 2)`` int64."""
        pairs = itertools.chain.from_iterable(self.encoding.offsets)
        offsets = np.fromiter(pairs, dtype=np.int64, count=2 * len(self.encoding)).reshape(-1, 2)
        content = np.maximum(offsets[len(self.prompt) :] - self.shift, 0)
        return content if self.kept is None else content[self.kept]

    def bare(self) -> Tokens:
        """The ids alone, without the tokenizer's own record, which takes about a hundred bytes per token."""
        return replace(self, encoding=None)

    def only(self, kept: Rows) -> Tokens:
        """The content tokens ``kept`` ``(n,)``, rising."""
        return replace(self, ids=self.ids[kept], kept=kept)


def _from_file(path: Path) -> Any:
    """The library's tokenizer; :class:`ValidationError` for a file that it cannot read."""
    tokenizers = require("tokenizers", extra="torch")
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:
        raise ValidationError(f"{path} is no tokenizer that can be read ({error}). Restore the file.") from error


class Tokenizer:
    """The tokenizer of a model folder."""

    def __init__(self, folder: ModelFolder) -> None:
        self.folder = folder

    @cached_property
    def _rust(self) -> Any:
        path = self.folder.path / "tokenizer.json"
        if path.is_file():
            tokenizer = _from_file(path)
        else:
            transformers = require("transformers", extra="torch", purpose="a folder without tokenizer.json")
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(self.folder.path)).backend_tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if self.folder.lower and not _lowers(json.loads(tokenizer.to_str()).get("normalizer")):
            normalizers = require("tokenizers.normalizers", extra="torch")
            own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
            tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
        return tokenizer

    @cached_property
    def specials(self) -> tuple[Ids, Ids]:
        """The ids that the post-processor puts before and after a single text, such as ``[CLS]`` and ``[SEP]``."""
        probe = self._rust.encode("a", add_special_tokens=True)
        mask = np.array(probe.special_tokens_mask, dtype=bool)
        content = np.flatnonzero(~mask)
        if not len(content):
            raise ValidationError(f"The tokenizer of {self.folder.path} gives no token for the letter 'a'.")
        ids = np.array(probe.ids, dtype=np.int32)
        return ids[: content[0]], ids[content[-1] + 1 :]

    def id_of(self, token: str) -> int | None:
        """The id of a token of the vocabulary; None if there is none of that name."""
        found: int | None = self._rust.token_to_id(token)
        return found

    def encode(self, texts: Sequence[str], prompt: str = "") -> list[Tokens]:
        """The tokens of each text, read in one piece with ``prompt`` in front and counted without it."""
        encodings = self._rust.encode_batch([prompt + _clean(text) for text in texts], add_special_tokens=False)
        return [_tokens(encoding, len(prompt)) for encoding in encodings]

    def count(self, texts: Sequence[str], prompt: str = "") -> Rows:
        """Content tokens of each text, ``(B,)`` int64; equal to the lengths that :meth:`encode` gives."""
        if prompt:
            return np.array([len(tokens.ids) for tokens in self.encode(texts, prompt)], dtype=np.int64)
        encodings = self._rust.encode_batch_fast([_clean(text) for text in texts], add_special_tokens=False)
        return np.fromiter((len(encoding) for encoding in encodings), dtype=np.int64, count=len(texts))


def _clean(text: str) -> str:
    """``text`` with half surrogate pairs, which are no characters, replaced one for one: offsets stay true."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in text)
    return text


def _tokens(encoding: Any, shift: int) -> Tokens:
    ids = np.array(encoding.ids, dtype=np.int32)
    own = 0
    if shift:
        # A token that reaches into the text (prompt without a space at its end) is the text's.
        while own < len(ids) and encoding.token_to_chars(own)[1] <= shift:
            own += 1
    return Tokens(ids[own:], ids[:own], encoding, shift)


def _lowers(normalizer: Mapping[str, JSON] | None) -> bool:
    """Whether a normaliser, or a member of its sequence, already lower-cases."""
    if normalizer is None:
        return False
    parts = normalizer.get("normalizers", [])
    return normalizer.get("type") == "Lowercase" or bool(normalizer.get("lowercase")) or any(map(_lowers, parts))
