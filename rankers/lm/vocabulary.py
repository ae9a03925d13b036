"""What each token of a tokenizer writes, in bytes, and the tokens that can write a given alphabet.

A constraint is checked byte by byte, so that labels may be split into tokens in any way: ``[12]`` may be one token,
four, or share a token with the separator before it.  For that the bytes of a token *inside* a text are needed:
tokenizers that mark word starts write a token differently at the beginning of a text.
"""

from __future__ import annotations

import re
from functools import cached_property, lru_cache
from typing import Any

ANCHOR = "a"
"""A token text in front of another, so that decoders treat the second as one inside a text."""
_BYTE_TOKEN = re.compile(r"^<0x([0-9A-F]{2})>$")


class TokenTrie:
    """Tokens by the bytes they write: ``children`` by the next byte, ``ids`` of the tokens that end here."""

    __slots__ = ("children", "ids")

    def __init__(self) -> None:
        self.children: dict[int, TokenTrie] = {}
        self.ids: list[int] = []

    def add(self, token: int, text: bytes) -> None:
        """Adds a token that writes ``text``, which is not empty."""
        node = self
        for byte in text:
            node = node.children.setdefault(byte, TokenTrie())
        node.ids.append(token)


class Vocabulary:
    """The tokens of a Hugging Face tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._trie = lru_cache(maxsize=8)(self._build_trie)

    @cached_property
    def pieces(self) -> list[bytes | None]:
        """By token id: the bytes that the token adds to a text; None for control tokens and for what adds nothing."""
        vocabulary: dict[str, int] = self.tokenizer.get_vocab()
        added = self.tokenizer.added_tokens_decoder
        mapped = self._writes("Ġ") == b" "
        fallback = self._writes("<0x41>") == b"A"
        pieces: list[bytes | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
        for token, number in vocabulary.items():
            if number in added:
                # Added tokens stand for themselves and are not spelt in the byte alphabet.
                pieces[number] = None if added[number].special else token.encode() or None
            elif mapped:
                pieces[number] = _from_byte_letters(token)
            elif fallback and (match := _BYTE_TOKEN.match(token)):
                pieces[number] = bytes.fromhex(match[1])
            else:
                pieces[number] = self._writes(token) or None
        return pieces

    def trie(self, alphabet: frozenset[int]) -> TokenTrie:
        """The tokens that write bytes of ``alphabet`` and nothing else."""
        return self._trie(alphabet)

    def missing(self, text: str) -> list[str]:
        """Characters of ``text`` that cannot be written, neither by one token nor byte by byte."""
        known = self._single
        return [
            letter
            for letter in dict.fromkeys(text)
            if letter.encode() not in known and any(bytes([byte]) not in known for byte in letter.encode())
        ]

    def encode(self, text: str) -> list[int]:
        """Tokens of ``text`` as it stands inside an answer: no control tokens, no space put in front."""
        wanted = text.encode()
        for lead in ("", "\n", ANCHOR):
            ids = self._ids(lead + text)
            for start in range(len(ids)):
                if self.bytes_of(ids[start:]) == wanted:
                    return ids[start:]
        # A tokenizer that changes the text (lower-casing, say) gives what it makes of it.
        return self._ids(text)

    def bytes_of(self, ids: list[int]) -> bytes:
        """What ``ids`` write, control tokens left out."""
        return b"".join(self.pieces[number] or b"" for number in ids if number < len(self.pieces))

    def shown(self, token: int) -> str:
        """A token for people: its text, or its name where it is only a part of a letter."""
        text = str(self.tokenizer.decode([token]))
        return str(self.tokenizer.convert_ids_to_tokens(token)) if "\N{REPLACEMENT CHARACTER}" in text else text

    def _ids(self, text: str) -> list[int]:
        return [int(number) for number in self.tokenizer.encode(text, add_special_tokens=False)]

    @cached_property
    def _single(self) -> frozenset[bytes]:
        return frozenset(piece for piece in self.pieces if piece is not None and len(piece) <= 4)

    def _writes(self, token: str) -> bytes:
        alone = self.tokenizer.convert_tokens_to_string([ANCHOR])
        pair = self.tokenizer.convert_tokens_to_string([ANCHOR, token])
        if not pair.startswith(alone) or "\N{REPLACEMENT CHARACTER}" in pair:
            return b""
        return str(pair[len(alone) :]).encode("utf-8", "surrogatepass")

    def _build_trie(self, alphabet: frozenset[int]) -> TokenTrie:
        trie = TokenTrie()
        for number, piece in enumerate(self.pieces):
            if piece is not None and alphabet.issuperset(piece):
                trie.add(number, piece)
        return trie


def _from_byte_letters(token: str) -> bytes | None:
    """The bytes of a token of the byte-level alphabet, in which every byte has a printable letter."""
    letters = _byte_letters()
    return bytes(letters[letter] for letter in token) if token and all(c in letters for c in token) else None


@lru_cache(maxsize=1)
def _byte_letters() -> dict[str, int]:
    """Letter to byte: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and up, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(hidden)}
