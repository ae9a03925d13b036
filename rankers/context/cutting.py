"""A long text as passages, for packs of texts that no index has cut."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unabridged.contracts import Rows
from unabridged.encoders.code.detect import origin
from unabridged.encoders.code.split import CodeSplitter, Split
from unabridged.encoders.windows import Windows, split
from unabridged.errors import MissingExtra, UsageError
from unabridged.rankers.context.characters import divided, whole_before
from unabridged.rankers.context.counting import default_tokenizer
from unabridged.rankers.select.contracts import Passage

PASSAGE_TOKENS = 160
"""Of the embedded tokenizer: a paragraph or two, so that a budget of some thousand tokens holds many places."""
BLOCK = 1 << 16
"""Characters of prose whose tokens are held at once: memory does not grow with the text."""
_GAPS = ("\n\n", "\n", "\u3002", ". ", " ")


def passages_of(doc_id: str, text: str, *, tokens: int = PASSAGE_TOKENS) -> list[Passage]:
    """The passages of ``text``, in its order, disjoint; together they have all that can be seen of it.

    Prose is cut at headings, paragraphs and sentences, and where it has no spaces wherever no character is parted;
    source code that tells its language between definitions and statements where its grammar is installed, and else at
    lines.  A word that the tokenizer does not know counts by its length.  :class:`UsageError` for fewer than one token.
    """
    if tokens < 1:
        raise UsageError(f"Passages of {tokens} tokens hold nothing: give at least 1.")
    if origin(text).language is not None:
        return _seen(doc_id, 0, text, tokens)
    return [one for start, block in _blocks(text) for one in _seen(doc_id, start, block, tokens)]


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    """``text`` in blocks with where they begin, cut behind the last paragraph, line, sentence or word in them."""
    start = 0
    while len(text) - start > BLOCK:
        ends = (text.rfind(gap, start + BLOCK // 2, start + BLOCK) + len(gap) for gap in _GAPS)
        end = next((one for one in ends if one > start + BLOCK // 2), 0) or whole_before(text, start + BLOCK)
        yield start, text[start:end]
        start = end
    yield start, text[start:]


def _seen(doc_id: str, at: int, text: str, tokens: int) -> list[Passage]:
    """The passages of ``text``, which stands at the character ``at`` of its document."""
    pairs = default_tokenizer().encode(_readable(text), add_special_tokens=False).offsets
    offsets = divided(np.array(pairs, dtype=np.int64).reshape(-1, 2))
    if not len(offsets):
        return [Passage(doc_id, at, at + len(text), text)] if text.strip() else []
    windows = split(text, offsets, tokens) if origin(text).language is None or at else _code(text, offsets, tokens)
    found = []
    for first, last in windows.spans.tolist():
        start, end = whole_before(text, first), whole_before(text, last)
        part = text[start:end]
        if seen := part.strip():
            begin = at + start + len(part) - len(part.lstrip())
            found.append(Passage(doc_id, begin, begin + len(seen), seen))
    return found


def _code(text: str, offsets: Rows, tokens: int) -> Windows:
    try:
        return CodeSplitter(Split.SYNTAX).divide(text, offsets, tokens)
    except MissingExtra:
        return CodeSplitter(Split.LINES).divide(text, offsets, tokens)


def _readable(text: str) -> str:
    """``text`` with another character of the same place for each lone surrogate, which no tokenizer reads."""
    return text if text.isascii() else "".join("\ufffd" if "\ud800" <= one <= "\udfff" else one for one in text)
