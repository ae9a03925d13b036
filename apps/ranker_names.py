"""``MODEL[:strategy]`` taken apart, though names of models and addresses of servers hold colons of their own.

::

    embedded                                   full ranking by the embedded model
    embedded:likelihood                        the same model, by how well the query follows from each document
    path/to/folder:sliding:20:10               numbers belong to the strategy
    openai:MODEL@http://127.0.0.1:8000/v1:full
    cross:path/to/folder:mean-top:3            a cross-encoder; what follows says how passages make a document's score
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from unabridged.errors import UsageError
from unabridged.rankers.aggregate import Aggregate
from unabridged.rankers.listwise.strategies import STRATEGIES
from unabridged.rankers.lm.load import OPENAI_PREFIX

CROSS = "cross:"
FULL = "full"
ATTENTION, LIKELIHOOD, POINTWISE = "attention", "likelihood", "pointwise"
SCORED = (ATTENTION, LIKELIHOOD, POINTWISE)
"""Strategies of language models that give scores."""
AGGREGATES: tuple[str, ...] = get_args(Aggregate)
_URL = re.compile(r"https?://")


@dataclass(frozen=True, slots=True)
class Named:
    """What is to be loaded, and how it ranks."""

    model: str
    """Of a cross-encoder: its folder or hub id."""
    strategy: str
    """With its numbers; :data:`AGGREGATES` of a cross-encoder."""
    cross: bool

    @property
    def kind(self) -> str:
        """The strategy without its numbers."""
        return self.strategy.partition(":")[0]


def read_name(text: str, strategy: str | None = None) -> Named:
    """The model and the strategy that ``text`` names; ``strategy`` is one that is given beside it.

    :class:`UsageError` for an unknown strategy, which names those that there are, for two, and for no model.
    """
    cross = text.startswith(CROSS)
    known = AGGREGATES if cross else (*STRATEGIES, *SCORED)
    prefix = CROSS if cross else OPENAI_PREFIX if text.startswith(OPENAI_PREFIX) else ""
    rest = text.removeprefix(prefix)
    found = re.match(rf"(?P<model>.+?):(?P<strategy>(?:{'|'.join(map(re.escape, known))})(?::\d+)*)$", rest)
    if found is not None:
        rest, named = found["model"], found["strategy"]
        if strategy is not None:
            raise UsageError(f"{text} names its strategy, and so does {strategy!r}: name one.")
        strategy = named
    elif (unknown := _suffix(rest, behind_server=prefix == OPENAI_PREFIX)) is not None:
        raise UsageError(f"{text}: the strategy {unknown!r} is none of {', '.join(known)}.")
    if not rest.strip():
        raise UsageError(f"{text!r} names no model. Name one, as in embedded:{FULL} or openai:MODEL@https://host/v1.")
    chosen = strategy or (AGGREGATES[0] if cross else FULL)
    if chosen.partition(":")[0] not in known:
        raise UsageError(f"The strategy {chosen!r} is none of {', '.join(known)}.")
    return Named(rest if cross else prefix + rest, chosen, cross)


def _suffix(name: str, *, behind_server: bool) -> str | None:
    """What stands behind the last colon where that should have been a strategy; None if the colon is the name's."""
    url = _URL.search(name)
    if url is not None:
        path = name[url.end() :]
        host, slash, last = path.rpartition("/")
        port = rf"(?:\[[^\]]*\]|[^:]*)(?::\d+)?{'' if slash else '(?::(?P<more>.*))?'}$"
        if slash:
            return last.partition(":")[2] or None
        match = re.match(port, host or last)
        return None if match is None else match["more"]
    if behind_server or Path(name).exists():
        return None
    return Path(name).name.partition(":")[2] or None
