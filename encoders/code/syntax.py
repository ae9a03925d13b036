"""A text's syntax tree, as far as cutting needs it: places before statements, definitions, and the share of errors.

tree-sitter reads UTF-8 bytes; everything that leaves this module counts characters.  Trees are walked with a stack of
our own, so that no depth of nesting is too much, and nodes that stand on one line are not entered, since no better
place than a line's beginning lies in them.

Letters::

    P places     D definitions
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unabridged._extras import require
from unabridged.contracts import Rows
from unabridged.encoders.code._bytes import BLANKS, Characters
from unabridged.encoders.code.languages import NO_TAGS, Language, grammar
from unabridged.encoders.code.remarks import documentation, remarks
from unabridged.encoders.windows import LINE

MAX_BYTES = 2 << 20
"""UTF-8 bytes of a text that is parsed: larger files were written by programs, and a tree takes 100 times its text."""
MAX_STEPS = 100_000
"""Hundreds of steps of the parser: nine times what ordinary code of :data:`MAX_BYTES` takes.  Steps and not seconds, so
that a slow machine cuts where a fast one does."""
MAX_NODES = 1_000_000
"""Nodes that are looked at; ordinary code of :data:`MAX_BYTES` has a fifth of it."""
_PIECE = 1 << 16
_LONE_RETURN = re.compile(rb"\r(?!\n)")

ELEMENT = LINE + 1
"""Rank of a line that begins an argument, an entry of a list, a clause."""
DEEPEST = 40
"""Nested blocks that are told apart."""


def rank(depth: int, *, definition: bool) -> int:
    """How good a cut before a statement inside ``depth`` blocks is; before a definition it is a little better."""
    return ELEMENT + 1 + 2 * (DEEPEST - min(depth, DEEPEST)) + definition


class TooLong(Exception):
    """A text that is not parsed; the caller records why."""

    @classmethod
    def by_size(cls, size: int) -> TooLong:
        """For a text of ``size`` bytes."""
        return cls(f"{size} bytes are more than the {MAX_BYTES} that are parsed")


@dataclass(frozen=True, slots=True)
class Syntax:
    """What is known of a text from its tree; all numbers are characters of the text."""

    language: str
    errors: float
    """Share of the visible bytes that the grammar could not place, 0 to 1."""
    places: Rows  # (P,) int64, rising: where lines begin with a node worth a cut
    ranks: NDArray[np.int8]  # (P,)
    definitions: Rows  # (D, 2) int64 [start, end) of those over several lines, by start; comments above them included
    signatures: Rows  # (D, 2) int64 [start, end) of what stands before the body
    comments: Rows  # (C, 2) int64 [start, end), rising; none where they were not asked for
    docstrings: Rows  # (S, 2) int64 [start, end), rising: see :mod:`.remarks`


def parse(text: str, language: Language, start: int = 0, *, remarked: bool = False) -> Syntax:
    """The tree of ``text[start:]`` read as ``language``; comments and docstrings only if ``remarked``.

    Raises:
        TooLong: more bytes than :data:`MAX_BYTES`, more work than :data:`MAX_STEPS`, or a tree of more than
            :data:`MAX_NODES` nodes.
        MissingExtra: the grammar is not installed.
    """
    characters = Characters.of(text, start)
    data = characters.data
    if remarked:
        # Grammars end a comment at a line feed alone: where lines end with a carriage return it would never end.
        data = _LONE_RETURN.sub(b"\n", data)
    if len(data) > MAX_BYTES:
        raise TooLong.by_size(len(data))
    function = NO_TAGS if language.name == "php" and b"<?" not in data else None
    walk = _Walk(data, _kinds(language, function), bare=remarked)
    root = _tree(data, language, function).root_node
    walk.run(root)
    places = np.array(list(walk.places), dtype=np.int64)
    order = np.argsort(places)
    definitions = np.array(sorted(walk.definitions), dtype=np.int64).reshape(-1, 4)
    comments = docstrings = np.zeros((0, 2), dtype=np.int64)
    if remarked:
        comments, docstrings = remarks(data, root, language, function)
        if language.name != "python":
            docstrings = documentation(data, comments, definitions[:, :2], definitions[:, 2:])
    return Syntax(
        language.name,
        min(1.0, walk.errors / max(1, len(data.translate(None, BLANKS)))) if walk.errors else 0.0,
        characters.at(places[order]),
        np.array(list(walk.places.values()), dtype=np.int8)[order],
        characters.at(definitions[:, :2]),
        characters.at(definitions[:, 2:]),
        characters.at(comments),
        characters.at(docstrings),
    )


def _tree(data: bytes, language: Language, function: str | None) -> Any:
    steps = 0

    def too_many(_offset: int, _error: bool) -> bool:
        nonlocal steps
        steps += 1
        return steps > MAX_STEPS

    parser = require("tree_sitter", extra="code").Parser(grammar(language, function))
    try:
        return parser.parse(lambda offset, _point: data[offset : offset + _PIECE], progress_callback=too_many)
    except ValueError as error:
        if steps <= MAX_STEPS:
            raise
        raise TooLong(f"parsing as {language.name} takes more than {MAX_STEPS} hundred steps") from error


@dataclass(frozen=True, slots=True)
class _Kinds:
    """Numbers of the kinds of nodes of one grammar: comparing them is faster than comparing names."""

    blocks: frozenset[int]
    definitions: frozenset[int]
    leading: frozenset[int]


@cache
def _kinds(language: Language, function: str | None) -> _Kinds:
    tree = grammar(language, function)
    names = [tree.node_kind_for_id(kind) for kind in range(tree.node_kind_count)]

    def numbers(wanted: frozenset[str]) -> frozenset[int]:
        # One name may have several numbers, and a keyword may be called as the node that it opens is.
        return frozenset(n for n, name in enumerate(names) if name in wanted and tree.node_kind_is_named(n))

    return _Kinds(numbers(language.blocks), numbers(language.definitions), numbers(language.leading))


class _Walk:
    """One pass over a tree; results are in bytes."""

    def __init__(self, data: bytes, kinds: _Kinds, *, bare: bool) -> None:
        self.data, self.kinds, self.bare = data, kinds, bare
        self.places: dict[int, int] = {}
        self.definitions: list[tuple[int, int, int, int]] = []
        self.errors = 0
        """Bytes that the grammar could not place, and one for each token that it missed."""
        self.nodes = 0
        # Nodes to enter: the node, the blocks around its children, and where a definition around it begins, or -1.
        self._stack: list[tuple[Any, int, int]] = []

    def run(self, root: Any) -> None:
        """Walks the tree under ``root``."""
        self._stack.append((root, 0, -1))
        while self._stack:
            node, depth, outer = self._stack.pop()
            if node.is_error:
                self._count(node)
            # Behind a broken bracket the root itself is an error, with the file's definitions as its children.
            block = node.kind_id in self.kinds.blocks or node.is_error
            self._children(node, depth, outer, block=block)

    def _children(self, node: Any, depth: int, outer: int, *, block: bool) -> None:
        leading = _Leading()
        inner = depth + (block and not node.is_error)
        self.nodes += node.child_count
        if self.nodes > MAX_NODES:
            raise TooLong(f"its tree has more than {MAX_NODES} nodes")
        for child in node.children:
            self.errors += child.is_missing
            if not child.is_named:
                continue
            opens = self._opens_line(child)
            if child.kind_id in self.kinds.leading:
                if leading.take(child, opens=opens):
                    self._place(child.start_byte, depth, block=block)
                continue
            begin = leading.begin(child, opens=opens)
            defines = child.kind_id in self.kinds.definitions
            # No cut between a signature and its body, or a decorator and what it decorates.
            belongs = (not block and child.kind_id in self.kinds.blocks) or (defines and outer >= 0)
            if begin >= 0 and not belongs:
                self._place(begin, depth, block=block, definition=defines)
                if self.bare and opens:
                    # Where the comments above are not read, the first token is that of the node itself.
                    self._place(child.start_byte, depth, block=block, definition=defines)
            self._enter(child, inner, outer if outer >= 0 else begin if begin >= 0 else child.start_byte)

    def _enter(self, node: Any, depth: int, begin: int) -> None:
        """Plans the visit of a node on several lines, which with all that stands around it begins at ``begin``."""
        if node.start_point[0] == node.end_point[0]:
            if node.has_error:
                self._stack.append((node, depth, -1))
            return
        wraps = False
        if node.kind_id in self.kinds.definitions:
            body = node.child_by_field_name("body")
            wraps = body is None
            self._define(node, body, begin)
        # Around one definition (an export, a decorator) there is no other start than its own.
        self._stack.append((node, depth, begin if wraps else -1))

    def _opens_line(self, node: Any) -> bool:
        start, column = node.start_byte, node.start_point[1]
        return not column or self.data[start - column : start].isspace()

    def _place(self, at: int, depth: int, *, block: bool, definition: bool = False) -> None:
        worth = rank(depth, definition=definition) if block else ELEMENT
        if worth > self.places.get(at, LINE):
            self.places[at] = worth

    def _define(self, node: Any, body: Any, start: int) -> None:
        if body is None:
            body = next((child for child in node.children if child.kind_id in self.kinds.blocks), None)
        if body is not None:
            row = self.data.rfind(b"\n", 0, node.start_byte) + 1
            self.definitions.append((start, node.end_byte, row, body.start_byte))

    def _count(self, node: Any) -> None:
        """Adds what the grammar could not place: all of an error but the phrases in it, which count for themselves."""
        own = node.end_byte - node.start_byte
        for child in node.children:
            if child.child_count:
                own -= child.end_byte - child.start_byte
        self.errors += max(0, own)


class _Leading:
    """Comments and attributes in front of a node, as long as no empty line parts them from it."""

    __slots__ = ("_row", "_start")

    def __init__(self) -> None:
        self._start, self._row = -1, -2

    def take(self, node: Any, *, opens: bool) -> bool:
        """Adds a comment, and says whether it is the first of a group; one behind code on its line is none."""
        (first, _), (last, column) = node.start_point, node.end_point
        if self._row + 1 < first:
            self._start = -1
        begins = opens and self._start < 0
        if begins:
            self._start = node.start_byte
        self._row = last if column else last - 1
        return begins

    def begin(self, node: Any, *, opens: bool) -> int:
        """The byte at which ``node`` begins with what leads to it, -1 if that is in the middle of a line."""
        attached = self._start >= 0 and self._row + 1 >= node.start_point[0]
        start = self._start if attached else node.start_byte if opens else -1
        self._start, self._row = -1, -2
        return start
