"""Functions that a comment stands above, in six languages, by their syntax trees.

A function is a declaration with everything that carries it: ``export const f = () => {...};`` is one, from ``export``
to the semicolon.  The comment is what ends on the line above it, or above its attributes or decorators.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final, TypeAlias

from unabridged.eval._syntax import parser


@dataclass(frozen=True, slots=True)
class Commented:
    """One function of a file."""

    line: int
    """Where it begins, counted from 1."""
    last: int
    """Where it ends."""
    text: str
    """Its source without the comment; its first line is not indented."""
    comment: str
    """With its marks."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """How a language is parsed, and what in its tree is a function."""

    package: str
    entry: str
    functions: frozenset[str]
    """Types of nodes."""
    marks: tuple[str, ...]
    """What a comment that documents begins with; a line comment goes on upwards as long as lines have the mark."""
    nested: bool = False
    """Whether a documented function may stand in one that is not."""


_SCRIPT = frozenset({
    "function_declaration", "generator_function_declaration", "function_expression", "generator_function",
    "arrow_function", "method_definition",
})  # fmt: skip
GRAMMARS: Final = {
    "javascript": Grammar("tree-sitter-javascript", "language", _SCRIPT, ("/**",), nested=True),
    "typescript": Grammar("tree-sitter-typescript", "language_typescript", _SCRIPT, ("/**",), nested=True),
    "go": Grammar("tree-sitter-go", "language", frozenset({"function_declaration", "method_declaration"}), ("//",)),
    "rust": Grammar("tree-sitter-rust", "language", frozenset({"function_item"}), ("///",)),
    "java": Grammar(
        "tree-sitter-java", "language", frozenset({"method_declaration", "constructor_declaration"}), ("/**",)
    ),
    "php": Grammar(
        "tree-sitter-php", "language_php", frozenset({"function_definition", "method_declaration"}), ("/**",)
    ),
}
_COMMENTS = frozenset({"comment", "line_comment", "block_comment"})
_BETWEEN = frozenset({"attribute_item", "decorator"})
"""What may stand between a comment and its function."""
_END = frozenset({b"", b";", b","})
Place: TypeAlias = tuple[Sequence[Any], int]
"""Siblings, and which of them."""
_STACKED = 200_000
"""Nodes that wait to be looked at, at most; a source that needs more is data, not code."""


def commented(language: str, source: str) -> Iterator[Commented]:
    """The functions of ``source`` with a comment that documents them, in their order; none inside another.

    Raises :class:`MissingExtra` when tree-sitter or the grammar is not installed.
    """
    grammar = GRAMMARS[language]
    data = source.encode(errors="replace")
    root = parser(grammar.package, grammar.entry)(data).root_node
    waiting = _children(root, data, None)
    while waiting and len(waiting) < _STACKED:
        node, siblings, at = waiting.pop()
        if node.type in grammar.functions:
            found = _found(grammar, data, siblings, at)
            if found is not None:
                yield found
            if found is not None or not grammar.nested:
                continue
        waiting += _children(node, data, (siblings, at))


def parsers() -> dict[str, str]:
    """Package -> version of what parses; two versions may see other functions in one source."""
    names = ["tree-sitter", *(grammar.package for grammar in GRAMMARS.values())]
    return {name: version(name) for name in names}


def _children(node: Any, data: bytes, carrier: Place | None) -> list[tuple[Any, Sequence[Any], int]]:
    """The children of ``node``, last first, each with the siblings among which what carries it stands.

    A child that ends where ``node`` ends is carried by what carries ``node``.
    """
    children = node.children
    found = []
    for at in range(len(children) - 1, -1, -1):
        child = children[at]
        ends = carrier is not None and node.type != "ERROR" and data[child.end_byte : node.end_byte].strip() in _END
        siblings, place = carrier if ends and carrier is not None else (children, at)
        found.append((child, siblings, place))
    return found


def _found(grammar: Grammar, data: bytes, siblings: Sequence[Any], at: int) -> Commented | None:
    node = siblings[at]
    comment = _comment(grammar, data, siblings, at)
    if not comment:
        return None
    start = data.rfind(b"\n", 0, node.start_byte) + 1
    before = data[start : node.start_byte].decode()
    indent = before if not before.strip() else ""
    first, *rest = data[node.start_byte : node.end_byte].decode().split("\n")
    text = "\n".join([first.rstrip(), *(line.removeprefix(indent).rstrip() for line in rest)])
    return Commented(node.start_point[0] + 1, node.end_point[0] + 1, text, comment)


def _comment(grammar: Grammar, data: bytes, siblings: Sequence[Any], at: int) -> str:
    """The comment above ``siblings[at]``, empty where there is none that documents it."""
    row = siblings[at].start_point[0]
    lines: list[str] = []
    for place in range(at - 1, -1, -1):
        node = siblings[place]
        if node.end_point[0] < row - 1 or (node.type not in _COMMENTS and (lines or node.type not in _BETWEEN)):
            break
        row = node.start_point[0]
        if node.type in _BETWEEN:
            continue
        text = data[node.start_byte : node.end_byte].decode().rstrip()
        if not text.startswith(grammar.marks) or (place and _stands_behind(siblings[place - 1], node)):
            break
        lines.insert(0, text)
        if text.startswith("/*"):
            return text if len(lines) == 1 else "\n".join(lines[1:])
    return "\n".join(lines)


def _stands_behind(before: Any, node: Any) -> bool:
    """Whether ``node`` is a comment on the line of the code before it, about which it speaks."""
    same = before.end_point[0] == node.start_point[0] and before.end_point[1] > 0
    return bool(same and before.type not in _COMMENTS)
