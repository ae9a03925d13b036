"""Texts of users and documents as they may stand in a prompt: nothing in them acts.

A passage that holds ``[3]``, ``<|im_end|>`` or ``<think>`` could pass for an id, end a turn or open a thought.  Such
runs are shown with look-alike characters of the same number, so that spans stay true; stored texts are never changed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from unabridged.rankers.listwise.labels import Labels

_CONTROL = (
    r"<\|[^<>|\n]{1,40}\|>",  # ChatML and many others
    r"<\uff5c[^<>\uff5c\n]{1,40}\uff5c>",  # the same with full-width bars
    r"</?\s*(?:s|bos|eos|pad|unk|mask|sep|cls|answer|think|thinking|thought|reasoning|tool_call|tool_response"
    r"|start_of_turn|end_of_turn|start_of_image|endoftext|end_of_text)\s*/?>",
    r"\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|IMG|PREFIX|MIDDLE|SUFFIX)\]",
    r"<</?SYS>>",
)
_LOOKS = str.maketrans({"<": "\u2039", ">": "\u203a", "[": "(", "]": ")"})


def inert(text: str, labels: Labels, controls: Sequence[str] = ()) -> tuple[str, int]:
    """``text`` with what could act shown harmlessly, of the same length, and how many places were changed.

    ``controls``: further strings that the model at hand gives a meaning to.
    """
    pattern = _pattern(labels, tuple(controls))
    total = 0
    while True:
        # A change can bring the parts of another one together, as in "[[1]]" with ids of any depth.
        text, changed = pattern.subn(_harmless, text)
        total += changed
        if not changed:
            return text, total


@cache
def _pattern(labels: Labels, controls: tuple[str, ...]) -> re.Pattern[str]:
    parts = list(_CONTROL)
    if labels.brackets:
        parts.append(r"\[\s{0,4}[A-Za-z]\s{0,4}\]" if labels.letters else r"\[\s{0,4}\d+\s{0,4}\]")
    parts += [re.escape(one) for one in controls if one.translate(_LOOKS) != one]
    return re.compile("|".join(parts), re.IGNORECASE)


def _harmless(match: re.Match[str]) -> str:
    return match.group().translate(_LOOKS)
