"""A loaded model made to read further: what is exchanged in it, checked by one run, and what each batch tells it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from unabridged.contracts import Rows
from unabridged.encoders._absolute import batch as absolute_batch
from unabridged.encoders._absolute import install
from unabridged.encoders._attention import changes_attention, check_layers, install_attention
from unabridged.encoders._context import Context, facts_of
from unabridged.encoders._hf import ModelFolder
from unabridged.encoders._rotary import ROTARY, Rotary, install_rotary
from unabridged.encoders.methods import Method
from unabridged.encoders.plan import Plan
from unabridged.errors import UsageError


class Extended:
    """A model of transformers under a plan.

    Raises:
        UsageError: an attention or positions that cannot be changed as the plan asks, naming the model type found.
        ValidationError: rotary frequencies in memory that are not those of the model folder.
    """

    def __init__(self, model: Any, plan: Plan, folder: ModelFolder) -> None:
        self.model = model
        self.plan = plan
        self.context = Context()
        source = str(folder.source)
        self._rotary: list[Rotary] = []
        if plan.method in ROTARY:
            self._rotary = install_rotary(model, self.context, folder.config, source)
        if not self._rotary and plan.method in {Method.NTK, Method.SELFEXTEND}:
            raise UsageError(
                f"extend={plan.method.value!r} needs rotary positions, and {source}, a model of type "
                f"{model.config.model_type!r}, has no module that computes them."
            )
        self._matrices = 0
        if plan.changes_positions and not self._rotary:
            self._matrices = install(model, plan, folder)
        if changes_attention(plan):
            install_attention(model, self.context, plan)
        model.config.use_cache = False
        self.layers = self._probe(source)

    @property
    def facts(self) -> Mapping[str, int]:
        """How many modules were changed."""
        return {
            "attention_layers": self.layers,
            "rotary_modules": len(self._rotary),
            "position_matrices": self._matrices,
        }

    def groups(self, lengths: Rows) -> list[Rows]:
        """The rows of a batch that are run together: SelfExtend keeps sequences apart that are not long.

        Those go through the model's ordinary attention, bit for bit.
        """
        if self.plan.method is not Method.SELFEXTEND:
            return [np.arange(len(lengths))]
        long = np.array([self.plan.is_long(int(length)) for length in lengths])
        return [rows for rows in (np.flatnonzero(~long), np.flatnonzero(long)) if len(rows)]

    @contextlib.contextmanager
    def reading(self, lengths: Rows) -> Iterator[None]:
        """The model sees a batch of ``lengths`` ``(B,)``, one of :meth:`groups`."""
        facts = facts_of(self.plan, lengths, rotary=bool(self._rotary))
        with absolute_batch(lengths), self.context.reading(facts.to(self.model.device)):
            yield

    def _probe(self, source: str) -> int:
        """Runs two tokens and counts what of ours ran: a name in a configuration proves nothing."""
        ids = torch.zeros(1, 2, dtype=torch.long, device=self.model.device)
        with torch.inference_mode(), absolute_batch(np.array([2])), self.context.counting() as seen:
            self.model(input_ids=ids)
        turned = {id(module) for module in seen if isinstance(module, Rotary)}
        if len(turned) != len(self._rotary):
            raise UsageError(
                f"{len(self._rotary)} rotary modules of {source}, a model of type {self.model.config.model_type!r}, "
                f"were exchanged and {len(turned)} are used; extend='pcw' works with every model."
            )
        if not changes_attention(self.plan):
            return 0
        return check_layers(self.model, [module for module in seen if not isinstance(module, Rotary)], source)


def without_short_window(config: Any, plan: Plan) -> Any:
    """``config`` without a sliding window that would cut the target length in every layer (Mistral type).

    Layers that are local by design between others that see everything (ModernBERT, Gemma 3) stay as they are.
    """
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    by_design = kinds is not None and len(set(kinds)) > 1 and not hasattr(config, "max_window_layers")
    if window is None or window >= plan.target or plan.method is None or by_design:
        return config
    config.sliding_window = None
    if kinds is not None:
        config.layer_types = ["full_attention"] * len(kinds)
    return config
