"""Token counts for models whose tokenizer is not at hand: by the number of bytes, on the high side."""

from __future__ import annotations

from collections.abc import Sequence

from unabridged.rankers.lm.contracts import Prompt

BYTES_PER_TOKEN = 3.0
"""English prose has 4 to 5 bytes per token, source code about 3, and a Chinese letter 3 bytes and one token or less,
by the tokenizers of 2024 and later; a third of the bytes is seldom too little."""
PER_MESSAGE = 8
"""Tokens that a chat template puts around a message."""


def text_tokens(text: str) -> int:
    """Tokens of ``text``: a third of its bytes, rounded up."""
    return -int(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def prompt_tokens(prompt: Prompt) -> int:
    """Tokens of a prompt, with an allowance for its template."""
    return sum(text_tokens(message.content) + PER_MESSAGE for message in prompt)


def beginning(text: str, tokens: int) -> str:
    """The longest beginning of ``text`` that is estimated at ``tokens`` tokens at most; letters stay whole."""
    if tokens < 1:
        return ""
    return text.encode("utf-8", "surrogatepass")[: int(tokens * BYTES_PER_TOKEN)].decode("utf-8", "ignore")


def texts_tokens(texts: Sequence[str]) -> list[int]:
    """Tokens of each text."""
    return [text_tokens(text) for text in texts]
