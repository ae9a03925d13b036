"""The tokens of whole books, without holding what a tokenizer makes of them.

A tokenizer's own record takes about a hundred bytes per token, with every token as a string.  Here a text is
tokenised in overlapping slabs, and of each only ids and places are kept.  Two slabs are joined at a word where both
have the same tokens, before and behind it: a tokenizer decides from the characters around, so there it is past the
edge of either.  A text without such a place (one endless word, white space) is tokenised in one piece.

Memory: 12 bytes per token (ids 4, places 8), and the records of one batch of slabs.  Places are let go once the
segments are cut, so while the model runs it is 4 bytes per token.

Letters::

    T content tokens of a text
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Rows
from unabridged.encoders._tokens import Ids, Tokenizer, Tokens

SLAB = 1 << 16
"""Characters that are tokenised at a time: some 16,000 tokens."""
OVERLAP = 1 << 10
"""Characters that two slabs share, at least."""
AGREEMENT = 8
"""Tokens on either side of a joint that must be the same in both slabs."""
BATCH = 1 << 20
"""Characters handed to the tokenizer at once, for its threads to share."""
MOST_AT_ONE = 1 << 10
"""Tokens that begin at one character, at most: a normaliser can make several characters of one."""


@dataclass(frozen=True, slots=True)
class Words:
    """One text's own tokens, those of the prompt in front of it, and where the own ones stand."""

    ids: Ids  # (T,) int32
    prompt: Ids  # int32
    places: NDArray[np.int32]  # (T, 2) characters of the text without prompt

    def characters(self) -> Rows:
        """The places as int64, as windows are cut from them."""
        return self.places.astype(np.int64)

    @classmethod
    def of(cls, tokens: Tokens, shift: int = 0) -> Words:
        """What is kept of ``tokens``, ``shift`` characters further on."""
        return cls(tokens.ids, tokens.prompt, (tokens.characters() + shift).astype(np.int32))

    def only(self, kept: Rows) -> Words:
        """The content tokens ``kept`` ``(n,)``, rising."""
        return Words(self.ids[kept], self.prompt, self.places[kept])

    def until(self, token: int) -> Words:
        """The tokens before ``token``."""
        return Words(self.ids[:token], self.prompt, self.places[:token])


def tokenise(tokenizer: Tokenizer, texts: Sequence[str], prompt: str, slab: int = SLAB) -> list[Words]:
    """The tokens of each text, as :meth:`Tokenizer.encode` gives them for the text in one piece."""
    out: list[Words] = []
    for batch in _batches(texts, slab):
        if len(batch) == 1 and len(batch[0]) > slab:
            out.append(_long(tokenizer, batch[0], prompt, slab))
        else:
            out.extend(Words.of(tokens) for tokens in tokenizer.encode(batch, prompt))
    return out


def count(tokenizer: Tokenizer, texts: Sequence[str], prompt: str, slab: int = SLAB) -> Rows:
    """Content tokens of each text ``(B,)`` int64; equal to the lengths that :func:`tokenise` gives."""
    lengths: list[Rows] = [np.zeros(0, dtype=np.int64)]
    for batch in _batches(texts, slab):
        if len(batch) == 1 and len(batch[0]) > slab:
            lengths.append(np.array([len(_long(tokenizer, batch[0], prompt, slab).ids)], dtype=np.int64))
        else:
            lengths.append(tokenizer.count(batch, prompt))
    return np.concatenate(lengths)


def _batches(texts: Sequence[str], slab: int) -> Iterator[list[str]]:
    """``texts`` in order: those over a slab alone, the others by :data:`BATCH` characters."""
    batch: list[str] = []
    room = BATCH
    for text in texts:
        if batch and (len(text) > slab or len(text) > room):
            yield batch
            batch, room = [], BATCH
        batch.append(text)
        room -= len(text)
        if len(text) > slab:
            yield batch
            batch, room = [], BATCH
    if batch:
        yield batch


def _long(tokenizer: Tokenizer, text: str, prompt: str, slab: int) -> Words:
    """A text of several slabs."""
    overlap = min(OVERLAP, slab // 4)
    parts = [Words.of(tokenizer.encode([text[:slab]], prompt)[0])]
    end = slab
    while end < len(text):
        start = end - overlap
        end = min(len(text), start + slab)
        later = Words.of(tokenizer.encode([text[start:end]])[0], start)
        joint = _joint(text, parts[-1], later)
        if joint is None:
            if overlap * 2 < slab:
                overlap, end = overlap * 2, start + overlap
                continue
            return Words.of(tokenizer.encode([text], prompt)[0])
        overlap = min(OVERLAP, slab // 4)
        first, second = joint
        parts[-1] = parts[-1].until(first)
        parts.append(Words(later.ids[second:], later.prompt, later.places[second:]))
    ids = np.concatenate([part.ids for part in parts])
    return Words(ids, parts[0].prompt, np.concatenate([part.places for part in parts]))


def _joint(text: str, before: Words, after: Words) -> tuple[int, int] | None:
    """The same token in two neighbouring slabs, as its number in each; the middle one of those that would do."""
    low = int(np.searchsorted(before.places[:, 0], after.places[0, 0])) if len(after.ids) else len(before.ids)
    keys = _keys(after.places[:, 0])
    _, mine, other = np.intersect1d(_keys(before.places[low:, 0]), keys, return_indices=True)
    if len(mine) < 2 * AGREEMENT:
        return None
    same = (before.ids[low + mine] == after.ids[other]) & (before.places[low + mine, 1] == after.places[other, 1])
    # Runs of neighbours in both slabs, all of them the same.
    steps = (np.diff(mine) == 1) & (np.diff(other) == 1) & same[1:] & same[:-1]
    runs = np.convolve(steps, np.ones(2 * AGREEMENT - 1), mode="valid") == 2 * AGREEMENT - 1
    agreed = np.flatnonzero(runs) + AGREEMENT
    begin = agreed[keys[other[agreed]] % MOST_AT_ONE == 0]
    found = [place for place in begin.tolist() if _opens_word(text, int(after.places[other[place], 0]))]
    if not found:
        return None
    place = found[len(found) // 2]
    return low + int(mine[place]), int(other[place])


def _keys(starts: NDArray[np.int32]) -> Rows:
    """A number for each token that says where it stands: tokens of bytes can begin at one character, in turn."""
    index = np.arange(len(starts))
    opens = np.concatenate(([True], starts[1:] != starts[:-1]))[: len(starts)]
    turn = index - np.maximum.accumulate(np.where(opens, index, 0))
    keys: Rows = starts.astype(np.int64) * MOST_AT_ONE + np.minimum(turn, MOST_AT_ONE - 1)
    return keys


def _opens_word(text: str, at: int) -> bool:
    """Whether a run of letters and digits begins or ends at the character ``at``."""
    return text[at : at + 1].isalnum() != text[at - 1 : at].isalnum()
