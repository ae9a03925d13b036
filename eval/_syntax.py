"""Parsers of source code, imported at first use."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from unabridged._extras import require

PURPOSE = "functions are found by their syntax"


@cache
def parser(package: str, entry: str = "language") -> Callable[[bytes], Any]:
    """What turns UTF-8 into a tree, by the grammar that ``entry`` of ``package`` gives.

    :class:`MissingExtra` when tree-sitter or the grammar is not installed.
    """
    tree_sitter = require("tree_sitter", extra="code", purpose=PURPOSE)
    module = require(package.replace("-", "_"), extra="code", purpose=PURPOSE)
    parse: Callable[[bytes], Any] = tree_sitter.Parser(tree_sitter.Language(getattr(module, entry)())).parse
    return parse


def without_docstring(function: str) -> str:
    """A Python function without its docstring, also one of Python 2; all lines but the docstring's stay as they are.

    A source that is no function, or has no docstring, is given back.
    """
    data = function.encode(errors="replace")
    node = parser("tree-sitter-python")(data).root_node
    while node is not None and node.type in ("module", "decorated_definition"):
        kinds = ("function_definition", "decorated_definition")
        node = next((child for child in node.named_children if child.type in kinds), None)
    body = None if node is None else node.child_by_field_name("body")
    first = None if body is None else next((one for one in body.named_children if one.type != "comment"), None)
    if first is None or first.type != "expression_statement" or first.named_children[0].type != "string":
        return function
    start, end = first.start_byte, first.end_byte
    line, after = data.rfind(b"\n", 0, start) + 1, data.find(b"\n", end)
    after = len(data) if after < 0 else after + 1
    if not data[line:start].strip() and not data[end:after].strip(b" \t\r\n;"):
        start, end = line, after
    return (data[:start] + data[end:]).decode()
