"""Strategies by the names that the command line and reports use."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from unabridged.errors import UsageError
from unabridged.rankers.listwise.plans import Strategy
from unabridged.rankers.listwise.setwise import Setwise
from unabridged.rankers.listwise.sliding import Full, MultiPass, Sliding
from unabridged.rankers.listwise.topdown import TopDown
from unabridged.rankers.listwise.tournament import Tournament


def _full(most: int | None = None) -> Strategy:
    return Full(most=most)


def _sliding(window: int = 20, step: int | None = None, passes: int = 1) -> Strategy:
    return Sliding(window=window, step=max(1, window // 2) if step is None else step, passes=passes)


def _multipass(window: int = 20, step: int | None = None) -> Strategy:
    return MultiPass(window=window, step=max(1, window // 2) if step is None else step)


def _whole(window: int = 20, step: int | None = None) -> Strategy:
    return MultiPass(window=window, step=max(1, window // 2) if step is None else step, shrinking=False)


def _topdown(window: int = 20, cut: int | None = None, buffer: int | None = None) -> Strategy:
    cut = max(1, window // 2) if cut is None else cut
    if buffer is None:
        return TopDown(window=window, cut=cut, buffer=max(window, cut))
    return TopDown(window=window, cut=cut, buffer=buffer, exhaustive=False)


def _tournament(repeats: int = 1, group: int = 20, seed: int = 0) -> Strategy:
    return Tournament(repeats=repeats, group=group, seed=seed)


def _setwise(children: int = 3, top: int = 10) -> Strategy:
    return Setwise(children=children, top=top)


def _insertion(children: int = 3, top: int = 10) -> Strategy:
    return Setwise(children=children, top=top, method="insertion")


STRATEGIES: Mapping[str, tuple[Callable[..., Strategy], tuple[str, ...]]] = {
    "full": (_full, ("most",)),
    "sliding": (_sliding, ("window", "step", "passes")),
    "multipass": (_multipass, ("window", "step")),
    "multipass-whole": (_whole, ("window", "step")),
    "topdown": (_topdown, ("window", "cut", "buffer")),
    "tournament": (_tournament, ("repeats", "group", "seed")),
    "setwise": (_setwise, ("children", "top")),
    "setwise-insertion": (_insertion, ("children", "top")),
}
"""Name to what builds the strategy, and the numbers that may follow the name."""


def read_strategy(text: str) -> Strategy:
    """The strategy that is written ``name`` or ``name:number:number``, such as ``sliding:20:10``.

    :class:`UsageError` for an unknown name, too many numbers, or something that is no number.
    """
    name, *numbers = text.strip().split(":")
    if name not in STRATEGIES:
        raise UsageError(f"Strategy {name!r} is none of {', '.join(STRATEGIES)}.")
    build, known = STRATEGIES[name]
    if len(numbers) > len(known) or not all(one.isascii() and one.isdigit() for one in numbers):
        form = name + "".join(f"[:{one}]" for one in known)
        raise UsageError(f"Strategy {text!r} should be written {form}, with whole numbers.")
    return build(*map(int, numbers))
