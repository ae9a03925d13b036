"""What the last tokens of a prompt pay to those before them, without ever holding a whole matrix of attention.

Letters::

    T tokens of the prompt before the query     R tokens from there on     H heads
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unabridged._extras import require
from unabridged.errors import UsageError

if TYPE_CHECKING:
    import torch

CHUNK = 4_096
"""Tokens of the prompt that go through the model together; bounds memory, changes nothing."""


class AttentionPasses:
    """Passes of a causal model of Hugging Face whose attention is looked at, in ``layers`` [first, last).

    Nothing is computed behind the last of them.  :class:`UsageError` where the model has no attention layers that are
    known here, or not so many.
    """

    def __init__(self, model: Any, layers: tuple[int, int] | None) -> None:
        self._model = model
        self._layers = _attention_layers(model)
        if not self._layers:
            raise UsageError("The model has no attention layers that are known here. Use a listwise strategy.")
        self.first, self.last = layers or (0, len(self._layers))
        if self.last > len(self._layers):
            raise UsageError(f"layers={layers}: the model has {len(self._layers)}.")

    @property
    def window(self) -> int | None:
        """How far back the layers look that look least far, in tokens; None: to the beginning."""
        found = getattr(self._model.config.get_text_config(), "sliding_window", None)
        return None if found is None else int(found)

    def paid(self, head: Sequence[int], *tails: Sequence[int]) -> list[torch.Tensor]:
        """For each of ``tails`` (R,), what it pays to the tokens of ``head`` (T,): (T,) float32 on the CPU.

        The sum over layers and heads of the mean over the tail's tokens.  Keys and values of ``head`` are computed once
        for all tails; at most H R (T + R) numbers of attention are held at a time, those of one layer.
        """
        torch = require("torch", extra="llm-local", purpose="local language models")
        with torch.inference_mode():
            cache = self._read(head)
            return [self._attention(tail, cache) for tail in tails]

    def _read(self, ids: Sequence[int]) -> Any:
        """Keys and values of the prompt's tokens."""
        transformers = require("transformers", extra="llm-local", purpose="local language models")
        cache = transformers.DynamicCache(config=self._model.config)
        with self._stopping():
            for at in range(0, len(ids), CHUNK):
                self._forward(ids[at : at + CHUNK], cache)
        return cache

    def _attention(self, ids: Sequence[int], cache: Any) -> torch.Tensor:
        """(T,) float32: what the tokens ``ids`` behind the prompt pay to each of its tokens."""
        import torch

        # Keys and values are shared: appending to a layer makes a new tensor and leaves the old one as it is.
        mine = copy.copy(cache)
        mine.layers = [copy.copy(layer) for layer in cache.layers]
        size = int(cache.get_seq_length())
        paid = torch.zeros(size, dtype=torch.float32, device=self._model.device)

        def add(module: Any, inputs: Any, output: Any) -> None:
            del module, inputs
            weights = output[1]  # (1, H, R, T + R)
            if weights is None or weights.shape[-1] < size:
                raise UsageError("The model does not show the attention to all tokens of a prompt.")
            paid.add_(weights[0, :, :, :size].float().mean(1).sum(0))

        hooks = [layer.register_forward_hook(add) for layer in self._layers[self.first : self.last]]
        try:
            with self._shown(), self._stopping():
                self._forward(ids, mine)
        finally:
            for hook in hooks:
                hook.remove()
        return paid.cpu()

    def _forward(self, ids: Sequence[int], cache: Any) -> None:
        import torch

        tokens = torch.tensor([list(ids)], device=self._model.device)
        try:
            self._model.base_model(input_ids=tokens, past_key_values=cache, use_cache=True)
        except _EnoughError:
            return

    @contextmanager
    def _shown(self) -> Iterator[None]:
        """Attention is computed so that it can be seen."""
        model = self._model
        before = model.config._attn_implementation
        model.set_attn_implementation("eager")
        try:
            yield
        finally:
            model.set_attn_implementation(before)

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """No layer behind the last that counts is computed."""
        if self.last == len(self._layers):
            yield
            return
        hook = self._layers[self.last].register_forward_pre_hook(_enough)
        try:
            yield
        finally:
            hook.remove()


class _EnoughError(Exception):
    """What comes behind is not needed."""


def _enough(module: Any, inputs: Any) -> None:
    del module, inputs
    raise _EnoughError


def _attention_layers(model: Any) -> list[Any]:
    """The attention modules in the order of the layers."""
    found = [
        module
        for name, module in model.named_modules()
        if name.endswith("self_attn") and getattr(module, "layer_idx", None) is not None
    ]
    return sorted(found, key=lambda module: int(module.layer_idx))
