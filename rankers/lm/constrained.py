"""Answers that satisfy a constraint by construction: of the model's logits only those of allowed tokens count.

The allowed tokens are those whose bytes the grammar can read in its state, so that a token may reach over the seam
of a label and a separator, and an answer may be split into tokens as the model likes it best.  Where only one token
or one text is possible it is written without asking the model: of ``[3] > [1] > [2]`` only the digits are asked.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from unabridged.contracts import Floats
from unabridged.errors import UsageError
from unabridged.rankers.lm.answers import Picker
from unabridged.rankers.lm.contracts import Constraint, Finish, Sampling
from unabridged.rankers.lm.grammar import SPACE, Grammar, States
from unabridged.rankers.lm.vocabulary import TokenTrie, Vocabulary


class TokenGrammar:
    """A grammar over the tokens of a vocabulary; shared by all answers under one constraint."""

    def __init__(self, constraint: Constraint, vocabulary: Vocabulary) -> None:
        self.grammar = Grammar(constraint)
        self.vocabulary = vocabulary
        if missing := vocabulary.missing(self.grammar.text):
            raise UsageError(
                f"The model's tokenizer has no tokens for {missing[:5]}, which a label or the separator contains. Use "
                'labels it can write, such as "[1]" or "A".'
            )
        self._trie = vocabulary.trie(self.grammar.alphabet)
        self.label_ids = {label: vocabulary.encode(label) for label in constraint.labels}
        """The tokens that the tokenizer splits each label into."""
        self._written: dict[bytes, list[int]] = {}

    @property
    def longest(self) -> int:
        """Most tokens of an answer: one for each byte, and one that ends it."""
        return self.grammar.longest + 1

    def allowed(self, states: States) -> dict[int, States]:
        """Token id -> the states after it, for each token that may come next."""
        found: dict[int, States] = {}
        self._collect(self._trie, states, found)
        return found

    def forced(self, states: States) -> list[int]:
        """Tokens that write what must come next, without the last one where more follows.

        The last token is left to the model, which may want one that reaches further; the others are those that the
        tokenizer itself splits the text into.
        """
        text, ends = self.grammar.forced(states)
        if not text:
            return []
        if text not in self._written:
            self._written[text] = self._split(text)
        tokens = self._written[text]
        return tokens if ends else tokens[:-1]

    def _split(self, text: bytes) -> list[int]:
        """The tokenizer's own tokens for ``text``; none where it begins or ends inside a letter."""
        try:
            tokens = self.vocabulary.encode(text.decode())
        except UnicodeDecodeError:
            return []
        return tokens if self.vocabulary.bytes_of(tokens) == text else []

    def _collect(self, node: TokenTrie, states: States, found: dict[int, States]) -> None:
        for byte in self.grammar.next_bytes(states) & node.children.keys():
            after = self.grammar.step(states, byte)
            child = node.children[byte]
            for token in child.ids:
                found[token] = after
            self._collect(child, after, found)


class ConstrainedAnswer:
    """An answer under a constraint.  It ends where the constraint ends: ``max_tokens`` does not cut it."""

    def __init__(self, grammar: TokenGrammar, sampling: Sampling, ends: frozenset[int]) -> None:
        self.finish: Finish | None = None
        self.first: Mapping[str, float] | None = None
        self.tokens: list[int] = []
        self._grammar = grammar
        self._states = grammar.grammar.start
        self._ends = ends
        self._picker = Picker(sampling)

    @property
    def text(self) -> str:
        """The labels and separators, without the space that may stand in front."""
        written = self._grammar.vocabulary.bytes_of([token for token in self.tokens if token not in self._ends])
        lead = written[:1] == bytes([SPACE]) and self._grammar.grammar.start != frozenset({(0, 0, 0)})
        return written[lead:].decode()

    def take(self, logits: Floats) -> list[int]:
        """The token that the model chose among the allowed ones, and those after it that are not its choice."""
        allowed = self._grammar.allowed(self._states)
        ends = [end for end in sorted(self._ends) if end < len(logits)]
        options = sorted(token for token in allowed if token < len(logits)) + (
            ends if self._grammar.grammar.accepts(self._states) else []
        )
        token = options[self._picker.pick(logits[np.array(options)])]
        self.tokens.append(token)
        if token not in allowed:
            self.finish = "stop"
            return []
        self._states = allowed[token]
        new = [token, *self._given()]
        return [] if self.finish else new

    def _given(self) -> list[int]:
        """Writes the tokens that leave no choice, and finishes the answer where nothing may follow."""
        new: list[int] = []
        while not self.finish:
            grammar = self._grammar.grammar
            if not grammar.next_bytes(self._states):
                self.finish = "stop"
                break
            tokens = self._grammar.forced(self._states)
            if not tokens and not grammar.accepts(self._states):
                allowed = self._grammar.allowed(self._states)
                tokens = list(allowed) if len(allowed) == 1 else []
            if not tokens:
                break
            self._states = grammar.read(self._states, self._grammar.vocabulary.bytes_of(tokens))
            new += tokens
            self.tokens += tokens
        return new
