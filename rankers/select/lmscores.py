"""What the scores by a language model have in common: prompts that fit, groups of them, and a record of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from threading import Event

from unabridged.errors import ContextOverflow, ModelError
from unabridged.rankers.contracts import Spent
from unabridged.rankers.lm.contracts import LanguageModel, Prompt, Usage
from unabridged.rankers.select.checks import CANCELLED, EMPTY
from unabridged.rankers.select.contracts import Cost, Passage, Scored

AT_ONCE = 64
"""Passages between two looks at whether to stop; their prompts are held, no others."""

Row = tuple[float | None, str, tuple[float, float] | None, Spent]
"""Score, why there is none, bounds, and what it took."""


def check_fits(model: LanguageModel, prompt: Prompt, answer: int, passage: Passage) -> int:
    """Tokens of the prompt; :class:`ContextOverflow` where it and its answer do not fit the model."""
    tokens = model.count_tokens(prompt)
    limit = model.capabilities.context
    if limit is not None and tokens + answer > limit:
        raise ContextOverflow(
            f"The passage [{passage.start}, {passage.end}) of {passage.doc_id!r} and the question are a prompt of "
            f"{tokens} tokens with {answer} to follow; {model.name} has room for {limit}. Take shorter passages or a "
            "model with a longer context: nothing is cut off.",
            limit=limit,
            got=tokens + answer,
        )
    return tokens


def prompts_cost(model: LanguageModel, prompts: Iterator[tuple[Passage, Prompt]], extra: int) -> Cost:
    """One call for each prompt of different words, and its tokens with ``extra`` others."""
    seen: set[str] = set()
    total = Cost()
    for passage, prompt in prompts:
        key = passage.text.strip()
        if key and key not in seen:
            seen.add(key)
            total += Cost(calls=1, tokens=model.count_tokens(prompt) + extra)
    return total


def scored_in_groups(
    passages: Sequence[Passage], score: Callable[[list[Passage]], list[Row]], cancel: Event | None
) -> Scored:
    """``score`` of the passages in groups; equal texts are given to it once, and blank ones never."""
    first: dict[str, int] = {}
    for place, one in enumerate(passages):
        first.setdefault(one.text.strip(), place)
    blank = first.pop("", None)
    rows: dict[str, Row] = {} if blank is None else {"": (None, EMPTY, None, Spent())}
    places = list(first.values())
    for at in range(0, len(places), AT_ONCE):
        group = [passages[place] for place in places[at : at + AT_ONCE]]
        stopped = cancel is not None and cancel.is_set()
        found = [_stopped()] * len(group) if stopped else score(group)
        rows |= {one.text.strip(): row for one, row in zip(group, found, strict=True)}
    each = [rows[one.text.strip()] for one in passages]
    bounded = any(bounds is not None for _, _, bounds, _ in each)
    return Scored(
        tuple(score for score, _, _, _ in each),
        tuple(reason for _, reason, _, _ in each),
        tuple(bounds for _, _, bounds, _ in each) if bounded else (),
        sum((spent for _, _, _, spent in rows.values()), Spent()),
    )


def failed(error: ModelError, spent: Spent | None = None) -> Row:
    """No score, because the model gave none."""
    return None, f"{type(error).__name__}: {error}", None, spent or Spent(calls=1, failed=1)


def read(prompt: int, written: int = 0) -> Spent:
    """One call of so many tokens."""
    return Spent(calls=1, usage=Usage(prompt=prompt, completion=written))


def _stopped() -> Row:
    return None, CANCELLED, None, Spent()
