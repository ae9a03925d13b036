"""The names of measures: what people type, what is printed, and what was probably meant."""

from __future__ import annotations

import difflib
import re
from types import MappingProxyType

from unabridged.errors import UsageError

ALIASES: MappingProxyType[str, str] = MappingProxyType({
    "ndcg": "nDCG", "r": "R", "recall": "R", "set_recall": "R", "p": "P", "precision": "P", "set_p": "P",
    "ap": "AP", "map": "AP", "rr": "RR", "mrr": "RR", "recip_rank": "RR", "reciprocal_rank": "RR",
    "success": "Success", "hit": "Success", "hits": "Success", "hit_rate": "Success",
})  # fmt: skip
"""Name in lower case -> name as it is printed.  trec_eval, mteb and ir-measures write them so."""
EXAMPLES = "nDCG@10, R@100, P@10, AP, RR, RR@10, Success@5"
_WITH_CUT = re.compile(r"(?P<name>.*?[a-z])(?:_at_|_cut[_.]|[@_.])(?P<cut>\d+)")


def parse(text: str) -> tuple[str, int | None]:
    """``(name, cut)`` of a measure as people type it: ``nDCG@10``, ``ndcg_cut_10``, ``recall.100``, ``map``.

    :class:`UsageError` with the nearest names for one that is not known.
    """
    plain = "".join(text.split()).lower()
    found = _WITH_CUT.fullmatch(plain)
    name, cut = (plain, None) if found is None else (found["name"], int(found["cut"]))
    if name not in ALIASES:
        raise UsageError(f"unknown measure {text!r}. {_nearest(name, cut)}")
    return ALIASES[name], cut


def _nearest(name: str, cut: int | None) -> str:
    bare, depth = re.sub("[^a-z_].*", "", name) or name, re.search(r"\d+", name)
    cut = int(depth[0]) if cut is None and depth else cut
    near = dict.fromkeys(ALIASES[one] for one in difflib.get_close_matches(bare, ALIASES, n=6, cutoff=0.5))
    shown = ", ".join(one if cut is None else f"{one}@{cut}" for one in near)
    return f"Did you mean {shown}? Known are: {EXAMPLES}" if shown else f"Known are: {EXAMPLES}"
