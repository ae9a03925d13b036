"""Text to terms: find tokens, lower them, drop stop words, stem.

The conventions are those of bm25s (its pattern, its stop-word lists, stop words before stemming), except
that tokens are found in the text as it is and lowered one by one.  Lowering the whole text first would
move characters: "İ" becomes two.
"""

from __future__ import annotations

import importlib.util
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from unabridged._extras import require
from unabridged.contracts import JSON
from unabridged.errors import MissingExtra, UsageError

DEFAULT_PATTERN = r"(?u)\b\w\w+\b"
"""Runs of two or more word characters, as in bm25s and scikit-learn."""

_WORD = re.compile(r"\w*")
_CACHE_TOKENS = 1 << 17
_CACHE_LETTERS = 64


@dataclass(frozen=True)
class Analyzer:
    """How a text becomes terms; two analyzers with equal ``settings`` give equal terms.

    Args:
        pattern: Regular expression of one token, without capture groups.
        lowercase: Whether tokens are lowered.
        stopwords: ``"none"``, a language that bm25s has a list for, such as ``"english"``, or the words.
        stemmer: A Snowball algorithm of PyStemmer, such as ``"english"``, or None.

    Raises:
        UsageError: the pattern is not one, or the language is unknown.
    """

    pattern: str = DEFAULT_PATTERN
    lowercase: bool = True
    stopwords: str | tuple[str, ...] = "english"
    stemmer: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.stopwords, str):
            object.__setattr__(self, "stopwords", tuple(self.stopwords))
        try:
            groups = self._regex.groups
        except re.error as error:
            raise UsageError(f"token pattern {self.pattern!r} is not a regular expression: {error}") from error
        if groups:
            raise UsageError(f"token pattern {self.pattern!r} has {groups} capture groups: write (?:...) instead")

    @classmethod
    def from_settings(cls, settings: Mapping[str, JSON]) -> Analyzer:
        """The analyzer that ``settings`` came from; needs no package that the settings already answer for."""
        return cls(settings["pattern"], settings["lowercase"], tuple(settings["stopwords"]), settings["stemmer"])

    @property
    def settings(self) -> dict[str, JSON]:
        """All that decides the terms, as JSON; stop words are spelled out, so a changed list is a changed analyzer."""
        return {
            "pattern": self.pattern,
            "lowercase": self.lowercase,
            "stopwords": sorted(self._stop),
            "stemmer": self.stemmer,
        }

    def analyze(self, text: str) -> list[str]:
        """The terms of ``text`` in order, repeated as often as they occur."""
        return [term for raw in self._regex.findall(text) if (term := self.term(raw)) is not None]

    def analyze_with_starts(self, text: str) -> tuple[list[str], list[int]]:
        """The terms of ``text``, and for each the character of ``text`` at which its token begins."""
        terms: list[str] = []
        starts: list[int] = []
        for match in self._regex.finditer(text):
            if (term := self.term(match.group())) is not None:
                terms.append(term)
                starts.append(match.start())
        return terms, starts

    def term(self, raw: str) -> str | None:
        """The term of one token as it stands in the text; None where it is a stop word or empty."""
        cache = self._cache
        try:
            return cache[raw]
        except KeyError:
            pass
        word = raw.lower() if self.lowercase else raw
        found = None if not word or word in self._stop else self._stem(word) or None
        if len(raw) <= _CACHE_LETTERS:
            if len(cache) >= _CACHE_TOKENS:
                cache.clear()
            cache[raw] = found
        return found

    def split(self, text: str, starts: Sequence[int]) -> Iterator[list[str]]:
        """The raw tokens of each segment: a token belongs to the last segment that starts at or before it.

        Tokens before the first start belong to the first segment.  ``starts`` must not fall.
        """
        if len(starts) == 1:
            yield self._regex.findall(text)
        elif self.pattern == DEFAULT_PATTERN:
            yield from self._split_words(text, starts)
        elif len(starts):
            yield from self._split_matches(text, starts)

    def _split_words(self, text: str, starts: Sequence[int]) -> Iterator[list[str]]:
        # Twice as fast as asking each match for its start: cut between words, never inside one.  A start
        # inside a word moves to the word's end, because the word began in the segment before.
        begin = 0
        for start in starts[1:]:
            end = max(start, _WORD.match(text, start - 1).end()) if 0 < start < len(text) else start  # type: ignore[union-attr]
            yield self._regex.findall(text, begin, end)
            begin = end
        yield self._regex.findall(text, begin)

    def _split_matches(self, text: str, starts: Sequence[int]) -> Iterator[list[str]]:
        segment = 0
        tokens: list[str] = []
        for match in self._regex.finditer(text):
            while segment + 1 < len(starts) and starts[segment + 1] <= match.start():
                yield tokens
                segment, tokens = segment + 1, []
            tokens.append(match.group())
        yield tokens
        for _ in range(segment + 1, len(starts)):
            yield []

    def __getstate__(self) -> dict[str, object]:
        # What is derived is built again on the other side: a lock cannot travel to another process.
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    @cached_property
    def _cache(self) -> dict[str, str | None]:
        return {}

    @cached_property
    def _stop(self) -> frozenset[str]:
        return frozenset(stopword_list(self.stopwords) if isinstance(self.stopwords, str) else self.stopwords)

    @cached_property
    def _stem(self) -> Callable[[str], str]:
        return str if self.stemmer is None else snowball(self.stemmer)


def snowball(algorithm: str) -> Callable[[str], str]:
    """A thread-safe stemmer of PyStemmer, whose own objects are not."""
    package = require("Stemmer", extra="bm25", purpose="stemming")
    if algorithm not in package.algorithms():
        raise UsageError(f"no stemmer {algorithm!r}; PyStemmer has {', '.join(package.algorithms())}")
    stemmer, lock = package.Stemmer(algorithm), threading.Lock()

    def stem(word: str) -> str:
        with lock:
            try:
                return str(stemmer.stemWord(word))
            except UnicodeEncodeError:  # a lone surrogate has no UTF-8 and no stem
                return word

    return stem


def stopword_list(language: str) -> tuple[str, ...]:
    """The stop words of bm25s for a language, ``()`` for ``"none"``."""
    if language == "none":
        return ()
    lists = _bm25s_lists()
    if language not in lists:
        raise UsageError(f"no stop words for {language!r}: choose none, {', '.join(sorted(lists))}, or give the words")
    return lists[language]


def _bm25s_lists() -> dict[str, tuple[str, ...]]:
    # The file of lists is run by itself: importing the package sets a log level and loads a compiler,
    # nearly two seconds for 33 words.
    package = importlib.util.find_spec("bm25s")
    if package is None or package.origin is None:
        raise MissingExtra(
            'bm25s is not installed (stop words). Install it with: pip install "unabridged[bm25]", '
            "or give the stop words as a tuple"
        )
    spec = importlib.util.spec_from_file_location("_bm25s_stopwords", Path(package.origin).with_name("stopwords.py"))
    if spec is None or spec.loader is None:
        raise MissingExtra('this bm25s has no stop words: pip install -U "unabridged[bm25]"')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    prefix = "STOPWORDS_"
    lists = {name[len(prefix) :].lower(): words for name, words in vars(module).items() if name.startswith(prefix)}
    lists["english"] = lists.pop("en")
    lists["english-plus"] = lists.pop("en_plus")
    return {name: tuple(words) for name, words in lists.items()}
