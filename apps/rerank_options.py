"""The options of rerankers: as options of ``rerank``, and as ``name=value`` where a command does other things too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from unabridged.errors import UsageError

if TYPE_CHECKING:
    from unabridged.apps.rankers import RankerOptions

FEW = 20
"""Documents that are ranked again where a user waits, or many systems are measured."""
Rerank: TypeAlias = Annotated[
    str | None,
    typer.Option("--rerank", help="MODEL[:strategy] that ranks the best hits again, such as embedded:likelihood."),
]
RerankDepth: TypeAlias = Annotated[
    int, typer.Option("--rerank-depth", help="With --rerank: how many hits are ranked again.")
]
RerankOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--rerank-option",
        help="name=value of the reranker, may be repeated: the options of the command rerank, without their dashes.",
    ),
]
NAMES: Mapping[str, type] = {
    "window": int, "step": int, "passes": int, "template": str, "passage_tokens": int, "thinking": int,
    "first_token": bool, "concurrency": int, "context": int, "cache": str, "device": str, "precision": str,
    "network": bool, "max_calls": int, "max_model_tokens": int, "max_cost": float, "price": str, "timeout": float,
    "attempts": int,
}  # fmt: skip
"""What may be given, and as what."""


def ranker_options(given: Mapping[str, Any]) -> RankerOptions:
    """The options of :func:`unabridged.apps.rankers.load_ranker` that ``given`` (of :data:`NAMES`) mean.

    ``price`` is what a million tokens of prompt and answer cost, as ``0.15,0.60``, with a third number for prompt
    tokens that the server had read before.
    """
    from unabridged.apps.rankers import RankerOptions
    from unabridged.rankers.lm.budget import Limits
    from unabridged.rankers.lm.pacing import Retry

    server: dict[str, Any] = {}
    if given.get("timeout") is not None:
        server["read_timeout"] = given["timeout"]
    if given.get("attempts") is not None:
        server["retry"] = Retry(attempts=given["attempts"])
    most = [given.get(name) for name in ("max_calls", "max_model_tokens", "max_cost")]
    limits = Limits(max_calls=most[0], max_tokens=most[1], max_cost=most[2])
    same = ("window", "step", "passes", "template", "passage_tokens", "context", "device", "precision")
    return RankerOptions(
        **{name: given.get(name) for name in same},
        thinking=given.get("thinking") or 0,
        first_token=bool(given.get("first_token")),
        network=bool(given.get("network")),
        workers=given.get("concurrency"),
        cache=None if given.get("cache") is None else Path(given["cache"]),
        limits=None if limits == Limits() else limits,
        prices=prices(given.get("price")),
        server=server,
    )


def prices(text: str | None) -> Any:
    """The :class:`~unabridged.rankers.lm.budget.Prices` in ``text``; None for None."""
    from unabridged.rankers.lm.budget import Prices

    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3) or not all(0 <= number < float("inf") for number in numbers):
        raise UsageError(
            f"--price takes what a million tokens cost, as PROMPT,ANSWER or PROMPT,ANSWER,CACHED; got {text!r}."
        )
    return Prices(prompt=numbers[0], completion=numbers[1], cached=numbers[2] if len(numbers) == 3 else None)


def pairs(options: Sequence[str] | None) -> dict[str, Any]:
    """``name=value`` pairs of :data:`NAMES`; :class:`UsageError` for another name or a value that does not fit."""
    given: dict[str, Any] = {}
    for option in options or ():
        name, sign, text = option.partition("=")
        name = name.replace("-", "_")
        if not sign or name not in NAMES:
            raise UsageError(f"--rerank-option takes name=value with one of {', '.join(NAMES)}; got {option!r}.")
        given[name] = _value(name, text)
    return given


def _value(name: str, text: str) -> Any:
    wanted = NAMES[name]
    if wanted is str:
        return text
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    fits = (
        isinstance(value, bool) if wanted is bool else isinstance(value, (int, wanted)) and not isinstance(value, bool)
    )
    if not fits:
        kind = {int: "a whole number", float: "a number", bool: "true or false"}[wanted]
        raise UsageError(f"--rerank-option {name} takes {kind}, got {text!r}.")
    return value
