"""A long text as passages that overlap, each of at most so many tokens, without ever holding the tokens of the whole.

A window is cut where the text before it left off and nowhere looks further than two windows ahead, so the same text
gives the same passages whether it comes whole or in blocks of any size; memory is that of a few windows.
Cuts are made at headings, paragraphs, sentences, lines or words (:func:`unabridged.encoders.windows.split`).

Laws: every character lies in a passage; a passage is the source between its characters, whatever they are; a run of
characters that begins at a word and has no more tokens than the overlap lies whole in at least one passage (by a
tokenizer that shows where its tokens are; a word that it does not know counts by its length); no letter is parted from
its marks.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from unabridged.encoders.windows import split
from unabridged.errors import CorpusError, MissingFile, UsageError
from unabridged.rankers.context.characters import whole_before
from unabridged.rankers.select.contracts import Passage
from unabridged.rankers.select.tokens import TextTokens, text_tokens

TOKENS = 512
OVERLAP = 64
LEAST = 16
"""Tokens of the shortest windows that can be asked for."""
LETTERS_PER_TOKEN = 5.0
"""Characters that are looked at for each token at first; then as many as the tokens before had, and :data:`MORE`."""
MORE = 1.2
MOST_LETTERS = 16.0
"""A text may have a million spaces between two words."""
AHEAD = 2
"""Windows whose tokens are looked at to cut one."""
BLOCK = 1 << 16
"""Bytes of a file that are read at once."""


def windows(
    doc_id: str, source: str | Iterable[str], tokenizer: Any, *, tokens: int = TOKENS, overlap: int = OVERLAP
) -> Iterator[Passage]:
    """The passages of ``source``, a text or its blocks in order, each of at most ``tokens`` tokens, in order.

    White space between two windows belongs to the earlier one.  A text without any token is one passage.
    :class:`UsageError` for fewer tokens than :data:`LEAST`, or an overlap that is not below half of them.
    """
    if tokens < LEAST or not 0 <= overlap < tokens // 2:
        raise UsageError(
            f"tokens={tokens} and overlap={overlap}: a passage has at least {LEAST} tokens, and less than half of them "
            "are those of the passage before."
        )
    return _windows(doc_id, _Ahead(source), text_tokens(tokenizer), tokens, overlap)


def file_blocks(path: Path, *, block: int = BLOCK) -> Iterator[str]:
    """The text of a file in UTF-8, in blocks; line ends stay as they are.

    :class:`MissingFile` if there is none, :class:`CorpusError` where it is no UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = 0
    try:
        with path.open("rb") as file:
            while data := file.read(block):
                yield decoder.decode(data)
                done += len(data)
            yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path} is no UTF-8 near byte {done + error.start}: {error.reason}. Convert it.") from error
    except OSError as error:
        raise MissingFile(f"{path} cannot be read: {error.strerror or error}.") from error


class _Ahead:
    """A text that comes in blocks, of which what lies behind is forgotten."""

    def __init__(self, source: str | Iterable[str]) -> None:
        self._blocks: Iterator[str] = iter(() if isinstance(source, str) else source)
        self._held = source if isinstance(source, str) else ""
        self._at = 0
        """Of ``_held``, where what is still wanted begins."""
        self.start = 0
        """Characters of the text before that."""

    def look(self, characters: int) -> tuple[str, bool]:
        """So many characters from here on, and whether they are the rest of the text."""
        size = len(self._held) - self._at
        blocks: list[str] = []
        # One more than asked, to know that there is more.
        while size <= characters and (block := next(self._blocks, None)) is not None:
            blocks.append(block)
            size += len(block)
        if blocks:
            self._held, self._at = "".join([self._held[self._at :], *blocks]), 0
        return self._held[self._at : self._at + characters], size <= characters

    def move(self, characters: int) -> None:
        """Goes on by so many characters."""
        self._at += characters
        self.start += characters


def _windows(doc_id: str, text: _Ahead, by: TextTokens, tokens: int, overlap: int) -> Iterator[Passage]:
    last, read = False, 0
    letters = LETTERS_PER_TOKEN
    while not last:
        piece, end, following, letters = _next(text, by, tokens, overlap, letters)
        if 0 < text.start + end <= read:
            # The best cut is the one before, as in windows of a few tokens: what follows begins there.
            text.move(read - text.start)
            continue
        last, read = following is None, text.start + end
        if end:
            yield Passage(doc_id, text.start, text.start + end, piece[:end])
        text.move(following or end)


def _next(
    text: _Ahead, by: TextTokens, tokens: int, overlap: int, letters: float
) -> tuple[str, int, int | None, float]:
    """Characters from here on; where the window that begins here ends in them, and where the next one begins.

    ``letters``: about how many a token has; at the end how many they had.
    """
    room = int(AHEAD * tokens * MORE * letters) + 1
    while True:
        piece, rest = text.look(room)
        places = by.places(piece)
        if rest or len(places) >= AHEAD * tokens:
            break
        room *= 2
    size = tokens
    if not by.exact and len(places):
        size = max(1, tokens * len(places) // max(1, by.count(piece)))
    while True:
        over = min(overlap if by.exact else overlap * size // tokens, (size - 1) // 2)
        spans = split(piece, places, size, over).spans
        if len(spans) < 2:
            end, following = len(piece), None
            if not rest:
                raise _too_long(text.start, tokens)
        else:
            end, following = int(spans[0, 1]), int(spans[1, 0])
            # Tokens that share a character can have a window begin where the one before began.
            following = following if following > 0 else end
            if end < 1:
                raise _too_long(text.start, tokens)
            end, following = whole_before(piece, end), whole_before(piece, following)
        counted = by.count(piece[:end])
        if counted <= tokens:
            return piece, end, following, min(MOST_LETTERS, len(piece) / max(1, len(places)))
        # What a cut parts has more tokens than it had whole, and pieces of words are no tokens.
        smaller = min(size - 1, size * tokens // counted)
        if smaller < 1:
            raise _too_long(text.start, tokens)
        size = smaller


def _too_long(start: int, tokens: int) -> UsageError:
    return UsageError(
        f"The text from character {start} on cannot be cut into passages of {tokens} tokens: one place of it has more. "
        "Allow longer passages."
    )
