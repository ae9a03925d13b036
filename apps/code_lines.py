"""Spans of source code as people name them: ``path:first-last``, and the lines with their numbers."""

from __future__ import annotations

from pathlib import Path

from unabridged.contracts import Span
from unabridged.corpora import code_title

SHOWN_LINES = 12
SHOWN_COLUMNS = 160


def line_range(source: str, span: Span) -> tuple[int, int]:
    """The first and the last line of ``source``, counted from 1, on which ``span`` has something to see."""
    visible = span.text.strip()
    first = source.count("\n", 0, _begin(span)) + 1
    return first, first + visible.count("\n")


def is_code(doc_id: str) -> bool:
    """Whether a document is a file of source code, by its name."""
    return bool(code_title(Path(doc_id), doc_id))


def numbered(doc_id: str, source: str, span: Span) -> str:
    """The lines of ``span`` with their numbers, long ones and those after the first few cut short.

    The file's name, which stands in front of the first line, is left out.
    """
    first, last = line_range(source, span)
    begin = _begin(span)
    lines = source[source.rfind("\n", 0, begin) + 1 : begin + len(span.text.strip())].split("\n")
    if first == 1:
        lines[0] = lines[0].removeprefix(f"{code_title(Path(doc_id), doc_id)} ")
    width = len(str(last))
    shown = [
        f"     {first + n:>{width}}  {line.rstrip()[:SHOWN_COLUMNS]}" for n, line in enumerate(lines[:SHOWN_LINES])
    ]
    return "\n".join(shown if len(lines) <= SHOWN_LINES else [*shown, f"     {'':>{width}}  ..."])


def _begin(span: Span) -> int:
    """The first visible character of ``span`` in the source; its start where there is none."""
    leading = len(span.text) - len(span.text.lstrip())
    return span.start + (leading if leading < len(span.text) else 0)
