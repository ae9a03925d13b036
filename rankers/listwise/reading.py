"""One call's outcome to places of its group: from the words, or from the log-probabilities of the ids."""

from __future__ import annotations

import math
from collections.abc import Sequence

from unabridged.rankers.listwise.asking import Call
from unabridged.rankers.listwise.parsing import Parsed, ParseReport, parse
from unabridged.rankers.lm.contracts import Completion


def read(call: Call, outcome: Completion) -> Parsed:
    """The places that an answer names, best first; a permutation, with what was found."""
    if call.names is not None:
        return by_logprobs(call.names, outcome)
    form = call.template.form
    return parse(outcome.text, call.count, form=form, expected=call.expected, cut=outcome.finish != "stop")


def by_logprobs(names: Sequence[str], outcome: Completion) -> Parsed:
    """The order of the ids' log-probabilities; ids without one follow as they were shown, and are missing."""
    first = {name: value for name, value in (outcome.first or {}).items() if not math.isnan(value)}
    known = [place for place, name in enumerate(names) if name in first]
    missing = [place for place, name in enumerate(names) if name not in first]
    report = ParseReport(
        n_valid=len(known),
        n_missing=len(missing),
        n_dup=0,
        n_out_of_range=0,
        kind="wrong_format" if not known else "missing" if missing else "ok",
        form="alone" if known else "none",
    )
    return Parsed((*sorted(known, key=lambda place: -first[names[place]]), *missing), report)
