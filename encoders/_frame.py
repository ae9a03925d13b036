"""A slice of a text's own tokens as the sequence that a model gets: special tokens, prompt, landmarks.

Ordinarily ``specials + prompt + slice + specials``, and every state takes part in pooling.

Landmark pooling (LMK; Doshi et al. 2026, arXiv 2601.21525) puts the closing special token, ``[SEP]`` in a BERT, after
each piece of g own tokens, the last one included; only the states of these landmarks take part, and the vector is
their mean.  No new vocabulary: any model can do it, those that were trained for it do it well.  A slice of no tokens
keeps one landmark, so that the authors' fallback, the mean of all tokens where no landmark is left, is never needed.
They tokenise the prompt as part of the text; here it stands in front of the first piece, whole and for every window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unabridged.contracts import Rows
from unabridged.encoders._tokens import Ids
from unabridged.errors import UsageError


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around, and between, the own tokens of a sequence."""

    before: Ids
    after: Ids
    piece: int | None = None
    """g of landmark pooling; None: no landmarks."""

    @classmethod
    def of(cls, specials: tuple[Ids, Ids], piece: int | None) -> Frame:
        """The frame for a tokenizer's ``specials``; :class:`UsageError` if none of them can be a landmark."""
        before, after = specials
        if piece is not None and not len(after):
            raise UsageError(
                "Landmark pooling repeats the token that closes a text, and this tokenizer puts none there. Leave "
                "pooling out, or choose pooling='last' or 'mean'."
            )
        return cls(before, after, piece)

    def capacity(self, window: int, prompt: int) -> int:
        """Own tokens that fit ``window`` behind ``prompt`` tokens; below 1 if there is no room.

        With landmarks the largest n with ``specials + prompt + n + ceil(n / g) <= window``.
        """
        room = window - len(self.before) - prompt
        return room - len(self.after) if self.piece is None else room * self.piece // (self.piece + 1)

    def lengths(self, own: Rows, prompts: Rows) -> Rows:
        """Tokens of the sequences of ``own`` ``(C,)`` tokens behind ``prompts`` ``(C,)`` tokens."""
        marks = np.full_like(own, len(self.after)) if self.piece is None else self._marks(own)
        lengths: Rows = len(self.before) + prompts + own + marks
        return lengths

    def wrap(self, prompt: Ids, own: Ids) -> tuple[Ids, Rows | None]:
        """A sequence ``(L,)``, and the places of the states that take part, ``(P,)``; None: all."""
        if self.piece is None:
            return np.concatenate((self.before, prompt, own, self.after)), None
        marks = int(self._marks(np.array(len(own))))
        inside = np.full(len(own) + marks, self.after[-1], dtype=np.int32)
        places = np.minimum((self.piece + 1) * np.arange(1, marks + 1) - 1, len(inside) - 1)
        text = np.ones(len(inside), dtype=np.bool_)
        text[places] = False
        inside[text] = own
        return np.concatenate((self.before, prompt, inside)), len(self.before) + len(prompt) + places

    def _marks(self, own: Rows) -> Rows:
        """Landmarks among ``own`` tokens."""
        if self.piece is None:
            return np.zeros_like(own)
        marks: Rows = np.maximum(1, -(-own // self.piece))
        return marks
