"""The attention of an extended model: log-n, temperature and SelfExtend, in the place where transformers lets one in.

Models of transformers call an attention function by the name in their configuration.  :func:`attend` is registered
under :data:`NAME`; it multiplies queries by their sequence's factor and then hands over to transformers' own
scaled-dot-product attention, so that causal masks, sliding windows and grouped keys are what they were, and no score
matrix is built.  ``softmax((q k / sqrt(d) + bias) / tau)`` is ``softmax(q (f / tau) k / sqrt(d) + bias / tau)``.

MPNet does not call such a function: there the outputs of its query projections and its relative positions are
multiplied (:data:`HOOKED`).  A model of unknown attention is an error, never a silent nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from unabridged.encoders._context import Batch, Context
from unabridged.encoders._rotary import layer_kind
from unabridged.encoders._selfextend import self_extend
from unabridged.encoders.methods import LogN, Method
from unabridged.encoders.plan import Plan
from unabridged.errors import UsageError

NAME = "unabridged"
"""Of our function in transformers' table of attention functions."""
HOOKED = {"mpnet": (".attention.attn.q", ".relative_attention_bias")}
"""Model types with attention of their own: how the names of query projections and relative positions end."""
_CONTEXT = "unabridged_context"


def attend(  # noqa: PLR0913  transformers' signature
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """``(B, L, H, D)`` from queries ``(B, H, L, D)`` and keys and values of as many heads or fewer."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    context: Context = getattr(module, _CONTEXT)
    context.note(module)
    batch = context.batch or Batch()
    if batch.factors is not None:
        query = _times(query, batch.factors[:, None, :, None])
    if batch.temperature != 1.0:
        attention_mask, position_bias = (
            _cooler(scores, batch.temperature) for scores in (attention_mask, position_bias)
        )
    if batch.neighbourhood is not None:
        causal = _is_causal(module, attention_mask, is_causal)
        return _extended(batch, module, (query, key, value), attention_mask, scaling, causal, others), None
    attended: tuple[torch.Tensor, None] = sdpa_attention_forward(
        module,
        query,
        key,
        value,
        attention_mask,
        dropout=dropout,
        scaling=scaling,
        is_causal=is_causal,
        position_bias=position_bias,
        **others,
    )
    return attended


def changes_attention(plan: Plan) -> bool:
    """Whether ``plan`` needs more than other positions."""
    return plan.logn is not LogN.OFF or plan.temperature != 1.0 or plan.method is Method.SELFEXTEND


def install_attention(model: nn.Module, context: Context, plan: Plan) -> None:
    """Makes ``model`` attend by :func:`attend`, or hooks its projections.  Whether it does is seen when it runs."""
    kind = getattr(getattr(model, "config", None), "model_type", "")
    if kind in HOOKED and plan.method is not Method.SELFEXTEND:
        _hook(model, context, *HOOKED[kind])
        return
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    for module in model.modules():
        setattr(module, _CONTEXT, context)
        config = getattr(module, "config", None)
        if config is not None and hasattr(config, "_attn_implementation"):
            config._attn_implementation = NAME


def check_layers(model: Any, seen: Iterable[nn.Module], source: str) -> int:
    """How many attention layers attended through us; all of the model's must have.

    Raises:
        UsageError: fewer or none.
    """
    count = len({id(module) for module in seen})
    layers = int(getattr(model.config, "num_hidden_layers", 0))
    if count == 0 or count != layers:
        raise UsageError(
            f"Unknown attention: {count} of {layers} attention layers of {source}, a model of type "
            f"{getattr(model.config, 'model_type', '?')!r} ({type(model).__name__}), can be changed. temperature, logn "
            "and extend='selfextend' need a model that transformers itself implements, such as bert, roberta, t5, "
            "modernbert, nomic_bert, mistral or qwen2 (and mpnet without selfextend); extend='pcw' works with every "
            "model."
        )
    return count


def _hook(model: nn.Module, context: Context, queries: str, biases: str) -> None:
    def query(module: nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
        context.note(module)
        batch = context.batch
        return output if batch is None or batch.factors is None else _times(output, batch.factors[:, :, None])

    def bias(_module: nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
        cooled = _cooler(output, 1.0 if context.batch is None else context.batch.temperature)
        return output if cooled is None else cooled

    for name, module in model.named_modules():
        if name.endswith(queries):
            module.register_forward_hook(query)
        elif name.endswith(biases):
            module.register_forward_hook(bias)


def _times(values: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """The product in float32, in the precision of ``values``: bfloat16 would round a factor to three digits."""
    return (values.float() * factors.to(values.device)).to(values.dtype)


def _cooler(scores: torch.Tensor | None, temperature: float) -> torch.Tensor | None:
    """Scores to add, divided; masks of True and False stay, and "not seen" stays a finite number."""
    if scores is None or temperature == 1.0 or scores.dtype == torch.bool:
        return scores
    return (scores / temperature).clamp_(min=torch.finfo(scores.dtype).min)


def _is_causal(module: nn.Module, mask: torch.Tensor | None, stated: bool | None) -> bool:
    """Whether no token sees a later one: by the mask where there is one, because a model's flag may say other."""
    if mask is None:
        return bool(stated if stated is not None else getattr(module, "is_causal", True))
    later = mask[..., 0, 1:]
    seen = later if mask.dtype == torch.bool else later > torch.finfo(mask.dtype).min / 2
    return not bool(seen.any())


def _extended(
    batch: Batch,
    module: nn.Module,
    states: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    mask: torch.Tensor | None,
    scaling: float | None,
    causal: bool,
    others: dict[str, Any],
) -> torch.Tensor:
    query, key, value = states
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    turns = next(batch.turns[kind] for kind in layer_kind(module) if kind in batch.turns)
    attended = self_extend(
        query,
        key,
        value,
        turns,
        mask,
        scale=scaling if scaling is not None else query.shape[-1] ** -0.5,
        causal=causal,
        window=others.get("sliding_window") if mask is not None else None,
    )
    return attended.transpose(1, 2).contiguous()
