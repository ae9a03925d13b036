"""An encoder without weights: signed feature hashing of words.

Deterministic, numpy only, fast: test double, quickstart and benchmark filler.  It obeys every law of an encoder
(windows, spans, coverage, overflow), and similar texts do share words, so a search over it makes sense.

Letters::

    B texts     S windows of them     T words, packed     D embedding width
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Encoded, Floats, Level, OverflowPolicy, Passport, Rows
from unabridged.encoders._hashes import canonical_sha256
from unabridged.encoders.code.split import CodeSplitter, Split, splitter_of
from unabridged.encoders.pooling import finish, mean_windows
from unabridged.encoders.reading import Distinct, Reading, Tokenised, encoded, read
from unabridged.encoders.windows import WINDOWS_VERSION, check_overlap
from unabridged.errors import RuntimeFailure, UsageError

WORD = re.compile(r"\w+")
PLACES = 4
"""Components per word: with one, two words that meet with opposite signs would leave nothing of a short text."""
CACHE_WORDS = 1 << 16
"""Distinct words that are remembered (about 10 MiB); then the memory is emptied and fills again."""


class HashingEncoder:
    """Each word adds +1 or -1 to four components chosen by its hash; vectors have norm 1.

    After Weinberger et al. 2009 (arXiv 0902.2206), with four places per word instead of one.  ``fail_on`` makes
    any text that contains it raise :class:`RuntimeFailure`, so that callers can test their failure paths.
    """

    def __init__(  # noqa: PLR0913 - the options of every encoder that reads documents
        self,
        dim: int = 64,
        window: int = 256,
        *,
        seed: int = 0,
        overlap: int = 0,
        fail_on: str | None = None,
        split: str = Split.PROSE,
        language: str | None = None,
        comments: bool = True,
        docstrings: bool = True,
    ) -> None:
        if dim < 1:
            raise UsageError(f"dim must be at least 1, got {dim}.")
        check_overlap(window, overlap)
        self._dim, self._window, self._seed, self._overlap = dim, window, seed, overlap
        self._fail_on = fail_on
        self._code = splitter_of(split, language, comments=comments, docstrings=docstrings)
        self._words = _Words(dim, seed)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self._dim

    @property
    def window(self) -> int:
        """Words per window."""
        return self._window

    @cached_property
    def passport(self) -> Passport:
        """Width, window and seed; ``fail_on`` changes no vector."""
        code = self._code
        chosen = {"dim": self._dim, "window": self._window, "seed": self._seed, "overlap": self._overlap}
        settings = chosen if code is None else {**chosen, **code.settings}
        facts = {
            "kind": "hashing",
            "places": PLACES,
            "windows_version": WINDOWS_VERSION,
            **chosen,
            **({} if code is None else code.facts),
            "settings": settings,
        }
        return Passport("hashing", self._dim, facts, canonical_sha256(facts))

    def count_tokens(self, texts: Sequence[str]) -> Rows:
        """Words of each text, ``(B,)`` int64."""
        return np.fromiter((len(WORD.findall(text)) for text in texts), dtype=np.int64, count=len(texts))

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """``(B, D)`` float32; zeros for a text without words."""
        distinct, words, reading = self._read(texts, OverflowPolicy.AGGREGATE, None)
        raw = self._words.sums(words, reading)
        vectors: Floats = self._finish(mean_windows(raw, reading.offsets, reading.tokens))[distinct.index]
        return vectors

    def encode_documents(
        self, texts: Sequence[str], *, level: Level = Level.BOTH, overflow: OverflowPolicy = OverflowPolicy.SPLIT
    ) -> Encoded:
        """Vectors, spans and coverage of B texts, with the same meaning as for a transformer encoder."""
        if overflow is OverflowPolicy.AGGREGATE and level is Level.SEGMENT:
            raise UsageError("overflow='aggregate' gives document vectors only; use level='doc', or overflow='split'.")
        distinct, words, reading = self._read(texts, overflow, self._code)
        raw = self._words.sums(words, reading)
        segments = level.has_segments and overflow is not OverflowPolicy.AGGREGATE
        return encoded(
            reading,
            distinct,
            segments=self._finish(raw) if segments else None,
            documents=self._finish(mean_windows(raw, reading.offsets, reading.tokens)) if level.has_documents else None,
        )

    def _read(
        self, texts: Sequence[str], policy: OverflowPolicy, code: CodeSplitter | None
    ) -> tuple[Distinct, list[list[str]], Reading]:
        distinct = Distinct.of(texts)
        for row, text in enumerate(distinct.texts):
            if self._fail_on is not None and self._fail_on in text:
                raise RuntimeFailure(
                    f"Text {distinct.first[row]} contains {self._fail_on!r}, on which this encoder fails."
                )
        words = [WORD.findall(text) for text in distinct.texts]
        items = [
            Tokenised(row, text, len(own), self._window, _Offsets(text))
            for row, text, own in zip(distinct.first.tolist(), distinct.texts, words, strict=True)
        ]
        if code is None:
            return distinct, words, read(items, overlap=self._overlap, policy=policy)
        if code.leaves_out:
            selected = [code.select(item.text, item.characters()) for item in items]
            words = [[own[row] for row in one.kept] for own, one in zip(words, selected, strict=True)]
            items = [
                one.mark(replace(item, tokens=len(one.kept), characters=_Offsets(item.text, one.kept)))
                for item, one in zip(items, selected, strict=True)
            ]
        return distinct, words, read(items, overlap=self._overlap, policy=policy, divide=code.divide, noted=True)

    def _finish(self, raw: Floats) -> Floats:
        return finish(raw, truncate_dim=None, normalize=True)


class _Offsets:
    """Character offsets of the words of a text, found when they are asked for."""

    __slots__ = ("kept", "text")

    def __init__(self, text: str, kept: Rows | None = None) -> None:
        self.text, self.kept = text, kept

    def __call__(self) -> Rows:
        pairs = itertools.chain.from_iterable(match.span() for match in WORD.finditer(self.text))
        offsets = np.fromiter(pairs, dtype=np.int64).reshape(-1, 2)
        return offsets if self.kept is None else offsets[self.kept]


class _Words:
    """Hashes of words, remembered up to a bound."""

    def __init__(self, dim: int, seed: int) -> None:
        self._dim, self._seed = dim, seed
        self._hashes: dict[str, int] = {}

    def sums(self, words: Sequence[Sequence[str]], reading: Reading) -> Floats:
        """The mean of the word vectors of each window, ``(S, D)`` float32."""
        count = len(reading.ranges)
        if not count:
            return np.zeros((0, self._dim), dtype=np.float32)
        counts = np.diff(reading.offsets).tolist()
        ranges = iter(reading.ranges.tolist())
        slices = (
            own[first:last] for own, n in zip(words, counts, strict=True) for first, last in itertools.islice(ranges, n)
        )
        codes = self._codes(list(itertools.chain.from_iterable(slices)))
        rows = np.repeat(np.arange(count) * self._dim, reading.tokens)
        out = np.zeros(count * self._dim)
        for place in range(PLACES):
            part = (codes >> np.uint64(16 * place)) & np.uint64(0xFFFF)
            signs = np.where(part & np.uint64(1), 1.0, -1.0)
            # 15 bits choose the component: a bias below dim / 32,768, of no matter to a hash.
            at = rows + (part >> np.uint64(1)).astype(np.int64) % self._dim
            out += np.bincount(at, weights=signs, minlength=len(out))
        return np.asarray(out.reshape(count, self._dim) / np.maximum(reading.tokens, 1)[:, None], dtype=np.float32)

    def _codes(self, words: Sequence[str]) -> NDArray[np.uint64]:
        import xxhash

        known = self._hashes
        if len(known) > CACHE_WORDS:
            known.clear()
        for word in set(words).difference(known):
            known[word] = xxhash.xxh3_64_intdigest(word.lower().encode("utf-8", "surrogatepass"), self._seed)
        return np.fromiter(map(known.__getitem__, words), dtype=np.uint64, count=len(words))
