"""What the front door of answers refuses before it loads anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unabridged.apps.rankers import OpenRanker
from unabridged.errors import UsageError
from unabridged.rankers.context.contracts import ContextPack
from unabridged.rankers.generate.checks import check_hits, check_whole, check_word, shown
from unabridged.rankers.select.contracts import Selector
from unabridged.retrievers.opened import Index
from unabridged.retrievers.result import Mode


def check_found(found: Any, *, rerank: Any, select: Any, sources: Any, packing: Any) -> None:
    """:class:`UsageError` for what no answer can be found in, and for options that a pack leaves nothing to do."""
    if not isinstance(found, (str, Path, Index)):
        check_hits(found)
    if isinstance(found, str) and not found.strip():
        raise UsageError("The name of the index is empty; expected its folder.")
    if not isinstance(found, ContextPack):
        return
    given = {"rerank": rerank, "select": select, "sources": sources, "packing": packing}
    for name, value in given.items():
        if value is not None and not (isinstance(value, Mapping) and not value):
            raise UsageError(
                f"{name} is for hits, and a pack is given, which is shown as it is. Leave {name} out, or give the hits "
                "that the pack was made of."
            )


def check_order(*, k: Any, mode: Any, rerank: Any, depth: Any, select: Any) -> None:
    """:class:`UsageError` for numbers and names by which nothing can be ordered."""
    check_whole("k", k, "segments")
    check_whole("rerank_depth", depth, "hits")
    check_word("mode", mode.value if isinstance(mode, Mode) else mode, [one.value for one in Mode])
    if rerank is not None and select is not None:
        raise UsageError("rerank and select both order the hits: name one of them.")
    if rerank is not None and not isinstance(rerank, (str, OpenRanker)):
        raise UsageError(f"rerank={shown(rerank)}; expected the name of a ranker, one of load_ranker, or None.")
    if select is not None and not isinstance(select, (str, Selector)):
        raise UsageError(f"select={shown(select)}; expected the name of a selector, one of load_selector, or None.")


def check_calls(*, model: Any, listener: Any, cancel: Any, network: Any) -> None:
    """:class:`UsageError` for what cannot be called, waited for or loaded."""
    if isinstance(model, str) and not model.strip():
        raise UsageError("model is empty. Name embedded, a folder, a hub id, or openai:MODEL@URL.")
    if listener is not None and not callable(listener):
        raise UsageError(f"listener={shown(listener)}; expected a function of one piece of the answer, or None.")
    if cancel is not None and not callable(getattr(cancel, "is_set", None)):
        raise UsageError(f"cancel={shown(cancel)}; expected a threading.Event, or None.")
    if not isinstance(network, bool):
        raise UsageError(f"network={shown(network)}; expected True or False: whether models may be downloaded.")
