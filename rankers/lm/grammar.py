"""The answers that a constraint allows, as a machine that reads bytes.

A state is (labels used, a node in the trie of labels or a place in the separator).  Where labels or separator could
be read in two ways, both states are kept.  From every state that the machine can reach some answer can be finished,
because the labels that are left can follow in any order: a model that always picks an allowed byte cannot get stuck.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from unabridged.rankers.lm.contracts import Choice, Constraint

State: TypeAlias = tuple[int, int, int]
"""(set of used labels as bits, node in the trie, bytes of the separator read); in a label the last is 0."""
States: TypeAlias = frozenset[State]

SPACE = 0x20
REMEMBERED = 100_000
"""Most moves kept: about 30 MB, and four answers of 100 labels."""
_LEAD = -1
"""The node before the answer, where one space may stand: many models begin an answer with one."""


@dataclass(slots=True)
class _Node:
    children: dict[int, int] = field(default_factory=dict)
    label: int = -1
    below: int = 0
    """Labels at or below this node, as bits."""


class Grammar:
    """All answers of a permutation or a choice."""

    def __init__(self, constraint: Constraint) -> None:
        self.labels = constraint.labels
        self.expected, separator = _shape(constraint)
        self._separator = separator.encode()
        self._nodes = [_Node()]
        for number, label in enumerate(constraint.labels):
            self._add(number, label.encode())
        self.text = separator + "".join(constraint.labels)
        spaced = any(label.startswith(" ") for label in constraint.labels)
        self.start: States = frozenset({(0, 0 if spaced else _LEAD, 0)})
        self._steps: dict[tuple[State, int], States] = {}

    @property
    def alphabet(self) -> frozenset[int]:
        """Bytes that answers are made of."""
        return frozenset(self.text.encode()) | {SPACE}

    @property
    def longest(self) -> int:
        """Bytes of the longest answer, with the space in front."""
        sizes = sorted((len(label.encode()) for label in self.labels), reverse=True)
        return 1 + sum(sizes[: self.expected]) + (self.expected - 1) * len(self._separator)

    def step(self, states: States, byte: int) -> States:
        """The states after one byte; none if the byte is not allowed."""
        return frozenset().union(*(self._step(state, byte) for state in states))

    def read(self, states: States, text: bytes) -> States:
        """The states after ``text``."""
        for byte in text:
            states = self.step(states, byte)
        return states

    def next_bytes(self, states: States) -> set[int]:
        """Bytes that may come next."""
        return {byte for state in states for byte in self._candidates(state) if self._step(state, byte)}

    def accepts(self, states: States) -> bool:
        """Whether the answer may end here."""
        return any(self._finished_label(state) >= 0 and self._count(state) + 1 == self.expected for state in states)

    def forced(self, states: States) -> tuple[bytes, bool]:
        """The bytes that every answer has next, and whether all answers end after them."""
        text = bytearray()
        while True:
            options = self.next_bytes(states)
            if not options or len(options) > 1 or self.accepts(states):
                return bytes(text), not options
            byte = options.pop()
            text.append(byte)
            states = self.step(states, byte)

    def _add(self, number: int, label: bytes) -> None:
        node = 0
        for byte in label:
            self._nodes[node].below |= 1 << number
            if byte not in self._nodes[node].children:
                self._nodes[node].children[byte] = len(self._nodes)
                self._nodes.append(_Node())
            node = self._nodes[node].children[byte]
        self._nodes[node].below |= 1 << number
        self._nodes[node].label = number

    def _count(self, state: State) -> int:
        return state[0].bit_count()

    def _finished_label(self, state: State) -> int:
        """The unused label that is complete in ``state``; -1 if there is none."""
        used, node, read = state
        if read or node == _LEAD:
            return -1
        label = self._nodes[node].label
        return label if label >= 0 and not used >> label & 1 else -1

    def _candidates(self, state: State) -> set[int]:
        _, node, read = state
        if read:
            return {self._separator[read]}
        if node == _LEAD:
            return {SPACE, *self._nodes[0].children}
        ends = set(self._separator[:1]) if self._finished_label(state) >= 0 else set()
        return {*self._nodes[node].children, *ends}

    def _step(self, state: State, byte: int) -> States:
        key = (state, byte)
        if key not in self._steps:
            if len(self._steps) >= REMEMBERED:
                self._steps.clear()
            self._steps[key] = frozenset(self._moves(state, byte))
        return self._steps[key]

    def _moves(self, state: State, byte: int) -> list[State]:
        used, node, read = state
        if read:
            return [self._separated(used, read + 1)] if self._separator[read] == byte else []
        if node == _LEAD:
            return [(0, 0, 0)] if byte == SPACE else self._moves((0, 0, 0), byte)
        moves: list[State] = []
        child = self._nodes[node].children.get(byte)
        if child is not None and self._nodes[child].below & ~used:
            moves.append((used, child, 0))
        label = self._finished_label(state)
        more = label >= 0 and self._count(state) + 1 < self.expected
        if more and self._separator[0] == byte:
            moves.append(self._separated(used | 1 << label, 1))
        return moves

    def _separated(self, used: int, read: int) -> State:
        return (used, 0, 0 if read == len(self._separator) else read)


def _shape(constraint: Constraint) -> tuple[int, str]:
    """How many labels an answer has, and what stands between them."""
    return (1, "") if isinstance(constraint, Choice) else (constraint.expected, constraint.separator)
