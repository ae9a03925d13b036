"""The text of a pack as a prompt may show it: nothing in a document acts.

A document can hold ``[3]`` or ``<|im_end|>``.  The pack keeps it byte for byte; the prompt shows look-alike characters
of the same number, so that the only citations and turns in it are ours, and every place stays the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unabridged.rankers.context.contracts import ContextPack
from unabridged.rankers.listwise.inert import inert
from unabridged.rankers.listwise.labels import Labels
from unabridged.rankers.lm.contracts import LanguageModel
from unabridged.rankers.lm.wrapped import unwrapped

NUMBERS = Labels()


def shown(pack: ContextPack, controls: Sequence[str] = ()) -> tuple[str, int]:
    """The text of the same length, and how many places in it were changed."""
    parts: list[str] = []
    changed = at = 0
    for source in pack.sources:
        head, label = pack.text[at : source.at], f"[{source.number}]"
        before, _, after = head.partition(label)
        at = source.at + len(source.text)
        for number, part in enumerate((before, after, pack.text[source.at : at])):
            harmless, count = inert(part, NUMBERS, controls)
            parts += [harmless, label] if number == 0 else [harmless]
            changed += count
    rest, count = inert(pack.text[at:], NUMBERS, controls)
    return "".join([*parts, rest]), changed + count


def controls_of(model: LanguageModel) -> tuple[str, ...]:
    """The control strings of a model whose tokenizer is at hand; none of a server, beside those known of all."""
    tokenizer: Any = getattr(unwrapped(model), "tokenizer", None)
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return tuple(sorted({str(token.content) for token in added.values() if token.special}))
