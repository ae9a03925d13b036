"""Batches filled by tokens: which sequences go through the model together, and what happens if they do not fit.

A batch costs what its longest member costs times its size, so sequences are sorted by true length and a
batch is closed when the next one would take it over the cap.  The plan is a pure function of the lengths and the cap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from unabridged.contracts import JSON, Rows
from unabridged.errors import UsageError
from unabridged.halving import TokenCap, ran_out
from unabridged.room import release

CPU_BATCH_TOKENS = 2048
"""Fastest on CPUs (6 layers, width 384): activations stay in the cache, 8,192 was 25 % slower."""
GPU_BATCH_TOKENS = 65_536
"""Enough to fill a GPU with a small model, about 1 GiB of activations at width 768."""
CPU_SHARE, GPU_SHARE = 0.5, 0.8
"""Of free memory for the activations of one batch.  A system that runs out of main memory kills instead of refusing."""

Result = TypeVar("Result")


def plan_batches(lengths: Rows, cap: int) -> list[Rows]:
    """Rows of ``lengths`` ``(S,)`` in batches, longest sequences first, ties in order of appearance.

    ``longest * size <= cap`` for every batch of more than one sequence; a sequence longer than the cap is alone.
    Longest first: if memory does not suffice, that is known at the beginning of a run and not at its end.
    """
    if cap < 1:
        raise UsageError(f"A batch holds at least 1 token, got batch_tokens={cap}.")
    order = np.argsort(-lengths, kind="stable")
    batches: list[Rows] = []
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        end = start + max(1, cap // longest)
        batches.append(order[start:end])
        start = end
    return batches


def batch_cost(lengths: Rows, rows: Rows) -> int:
    """Tokens of a batch of ``rows``, padding included; at least 1 for each."""
    return max(1, int(lengths[rows].max())) * len(rows)


def in_batches(
    batches: Sequence[Rows],
    lengths: Rows,
    cap: TokenCap,
    run: Callable[[Rows], Result],
    alone: Callable[[int, Exception], Result],
    *,
    relief: Callable[[], None] | None = None,
) -> Iterator[tuple[Rows, Result]]:
    """Each batch with what ``run`` made of it, in order; those that memory has no room for in smaller parts.

    A batch over the cap, or one that did not fit, is planned anew under the cap, which has fallen below its cost: so
    every round has smaller batches, down to single rows.  A row that does not fit twice, with what nobody uses given
    back in between, gives what ``alone`` makes of it (which may raise).  Errors other than a lack of memory pass.
    ``relief`` is called before memory is given back.
    """
    waiting = deque(batches)
    again = False
    while waiting:
        rows = waiting.popleft()
        cost = batch_cost(lengths, rows)
        if len(rows) > 1 and cost > cap.value:
            waiting.extendleft(rows[part] for part in reversed(plan_batches(lengths[rows], cap.value)))
            continue
        try:
            result = run(rows)
        except Exception as error:
            if not ran_out(error):
                raise
            # Without its frames, which hold the failed batch's memory.
            lack = error.with_traceback(None)
        else:
            cap.fitted(cost)
            again = False
            yield rows, result
            continue
        if relief is not None:
            relief()
        release(cap.device)
        if len(rows) > 1:
            cap.ran_out(cost, cost // len(rows) * ((len(rows) + 1) // 2))
        elif again:
            again = False
            cap.failed_alone()
            yield rows, alone(int(rows[0]), lack)
            continue
        else:
            again = True
        waiting.appendleft(rows)


def token_bytes(config: Mapping[str, JSON], *, half: bool = False) -> int | None:
    """Bytes of activations of a transformer for one token, by its ``config.json``; None if that does not tell.

    What one layer holds at a time: its input, queries, keys and values, their mixture and its projection, twice the
    inner width, and the float32 states that are given out.  Attention that holds no matrix of scores is assumed.
    """
    width = _first(config, "hidden_size", "d_model", "dim", "n_embd")
    if width is None:
        return None
    inner = _first(config, "intermediate_size", "d_ff", "hidden_dim", "n_inner") or 4 * width
    return (8 * width + 2 * inner) * (2 if half else 4) + 4 * width


def cache_bytes(config: Mapping[str, JSON], *, half: bool = False) -> int:
    """Bytes of keys and values that a causal transformer keeps for one token, by its ``config.json``; 0 if unknown."""
    layers = _first(config, "num_hidden_layers", "n_layer", "num_layers")
    heads = _first(config, "num_attention_heads", "n_head")
    width = _first(config, "hidden_size", "d_model", "n_embd")
    if layers is None or heads is None or width is None:
        return 0
    size = _first(config, "head_dim") or width // heads
    return 2 * layers * (_first(config, "num_key_value_heads") or heads) * size * (2 if half else 4)


def room(free: int | None, per_token: int | None, device: str) -> int | None:
    """Tokens of one batch that ``free`` bytes allow at ``per_token`` bytes each; None where either is not known."""
    if free is None or per_token is None:
        return None
    return max(1, int(free * (CPU_SHARE if device == "cpu" else GPU_SHARE)) // per_token)


def _first(config: Mapping[str, JSON], *names: str) -> int | None:
    found = (config.get(name) for name in names)
    return next((value for value in found if isinstance(value, int) and value > 0), None)
