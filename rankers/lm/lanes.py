"""Forward passes with the keys and values of earlier tokens kept: one sequence at a time, or a batch.

``SingleLane`` keeps what it holds between prompts.  The next prompt goes back to where the two part and continues
there, so that a shared beginning, such as the instruction of a ranking prompt, is computed once; so is a prompt whose
several continuations are compared.  On a CPU little is gained by padding long prompts into one batch.

``BatchLane`` is for devices that need several sequences to be busy: padded on the left, a shared beginning computed
once for all.  Padding is masked and takes no position.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unabridged.contracts import Floats

if TYPE_CHECKING:
    import torch

Ids = Sequence[int]
SHARED_FROM = 32
"""Tokens that the prompts of a batch must have in common before these get a pass of their own."""


class Weights:
    """A causal language model of transformers, in evaluation mode on its device."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device = str(model.device)
        self._takes = set(inspect.signature(model.forward).parameters)
        kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ["full_attention"])
        self.attends = all("attention" in kind and "linear" not in kind and "index" not in kind for kind in kinds)
        """Whether every layer keeps keys and values by token, which can be taken back."""
        self.remembers = "past_key_values" in self._takes and "cache_params" not in self._takes
        """Whether earlier tokens need not be computed again; else each step reads the whole sequence."""

    def new_cache(self) -> Any:
        """An empty store of keys and values; None for a model that has none."""
        from transformers import DynamicCache

        if not self.remembers:
            return None
        # Without the configuration layers with a sliding window keep all tokens too (their mask hides the old ones),
        # so that going back is possible.
        return DynamicCache() if self.attends else DynamicCache(config=self.model.config)

    def forward(self, ids: torch.Tensor, *, cache: Any, keep: int = 1, **more: torch.Tensor) -> torch.Tensor:
        """Logits ``(B, keep, V)`` float32 on the CPU, of the last ``keep`` positions of ``ids`` ``(B, T)``."""
        import torch

        given: dict[str, Any] = {name: value for name, value in more.items() if name in self._takes}
        if cache is not None:
            given |= {"past_key_values": cache, "use_cache": True}
        if "logits_to_keep" in self._takes:
            given["logits_to_keep"] = keep
        with torch.inference_mode():
            logits: torch.Tensor = self.model(input_ids=ids, **given).logits[:, -keep:]
            return logits.float().cpu()


class SingleLane:
    """One sequence; its keys and values are kept for the next one."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self._held: list[int] = []
        self._cache = weights.new_cache()

    @property
    def length(self) -> int:
        """Tokens that are held."""
        return len(self._held)

    def forget(self) -> None:
        """Frees what is held."""
        self._held = []
        self._cache = self.weights.new_cache()

    def start(self, ids: Ids, *, keep: int = 1) -> tuple[Floats, int]:
        """Logits ``(keep, V)`` of the last ``keep`` positions of a new sequence, and how many tokens were reused."""
        shared = min(common_length([self._held, ids]), len(ids) - keep)
        self.back_to(shared)
        reused = self.length if self.weights.remembers else 0
        return self._feed(ids[reused:], keep), reused

    def feed(self, ids: Ids, *, keep: int = 1) -> Floats:
        """Logits ``(keep, V)`` after ``ids`` were added."""
        return self._feed(ids if self.weights.remembers else [*self._held, *ids], keep)

    def back_to(self, length: int) -> None:
        """Takes tokens back until ``length`` are left; all of them where the model cannot go back."""
        if length >= self.length:
            return
        if self._cache is not None and self.weights.attends:
            self._cache.crop(length - self.length)
            self._held = self._held[:length]
        else:
            self.forget()

    def _feed(self, ids: Ids, keep: int) -> Floats:
        import torch

        known = len(self._held) if self.weights.remembers else 0
        tokens = torch.tensor([list(ids)], device=self.weights.device)
        places = torch.arange(known, known + len(ids), device=self.weights.device)[None]
        try:
            logits = self.weights.forward(tokens, cache=self._cache, keep=keep, position_ids=places)
        except BaseException:
            # A pass that broke off has left some layers longer than others.
            self.forget()
            raise
        self._held = [*self._held[:known], *ids]
        return np.asarray(logits[0].numpy())


class BatchLane:
    """Several sequences side by side."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.shared = 0
        """Tokens at the beginning that were computed once for all."""

    def start(self, rows: Sequence[Ids]) -> Floats:
        """Logits ``(B, V)`` after the last token of each of ``rows``."""
        import torch

        self._cache = self.weights.new_cache()
        self._mask = torch.zeros((len(rows), 0), dtype=torch.long, device=self.weights.device)
        self.shared = min(common_length(rows), min(map(len, rows)) - 1)
        if self.shared < SHARED_FROM:
            self.shared = 0
        else:
            lead = torch.tensor([list(rows[0][: self.shared])], device=self.weights.device)
            self.weights.forward(lead, cache=self._cache, position_ids=torch.arange(self.shared)[None].to(lead))
            self._cache.batch_repeat_interleave(len(rows))
            self._mask = torch.ones((len(rows), self.shared), dtype=torch.long, device=self.weights.device)
        return self.feed([row[self.shared :] for row in rows])

    def feed(self, rows: Sequence[Ids]) -> Floats:
        """Logits ``(B, V)`` after each row's new tokens, of which there is at least one."""
        import torch

        longest = max(map(len, rows))
        new = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=self._mask.device)
        # Any token will do where the mask is 0.
        tokens = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows], device=self._mask.device)
        self._mask = torch.cat([self._mask, new], dim=1)
        places = (self._mask.cumsum(dim=1) - 1).clamp(min=0)[:, -longest:]
        logits = self.weights.forward(tokens, cache=self._cache, attention_mask=self._mask, position_ids=places)
        return np.asarray(logits[:, -1].numpy())

    def keep(self, rows: Sequence[int]) -> None:
        """Goes on with these rows only, in this order."""
        import torch

        chosen = torch.tensor(list(rows), device=self._mask.device)
        self._cache.batch_select_indices(chosen)
        self._mask = self._mask[chosen]


def common_length(rows: Sequence[Ids]) -> int:
    """Leading elements that all of ``rows`` share."""
    first, last = min(rows, key=list), max(rows, key=list)
    for place, (one, other) in enumerate(zip(first, last, strict=False)):
        if one != other:
            return place
    return min(len(first), len(last))
