"""mteb as a module, with the hub closed unless the user opened it.

huggingface_hub and datasets read their switches once, when they are imported.  So the environment is set around the
import, and the switches themselves for the length of a block; both are as before afterwards.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from unabridged._extras import require

CLOSED = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
TRUE = frozenset({"1", "ON", "YES", "TRUE"})


def library() -> ModuleType:
    """The library; :class:`unabridged.errors.MissingExtra` where it is not installed."""
    return require("mteb", extra="eval", purpose="MTEB and LongEmbed")


@contextlib.contextmanager
def hub(scratch: Path, *, network: bool = False, local: bool = False) -> Iterator[ModuleType]:
    """The library for the length of a block; without ``network`` nothing in it can reach the hub.

    mteb's own default cache is made below ``scratch`` instead of in the home folder.  With ``local`` the Arrow files of
    what is read are kept there as well, which is right for folders; without it, data sets that were loaded from the hub
    before are found in the user's own cache.
    """
    if network:
        yield library()
        return
    scratch.mkdir(parents=True, exist_ok=True)
    known = "huggingface_hub.constants" in sys.modules
    asked = _asked()
    with _environment({**CLOSED, "MTEB_CACHE": str(scratch / "mteb")}):
        mteb = library()
    datasets = require("datasets", extra="eval")
    constants: Any = require("huggingface_hub.constants", extra="eval")

    before = bool(constants.HF_HUB_OFFLINE) if known else asked
    shown = datasets.utils.are_progress_bars_disabled()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_attribute(constants, "HF_HUB_OFFLINE", True, before))
        stack.enter_context(_attribute(datasets.config, "HF_HUB_OFFLINE", True, before))
        if local:
            stack.enter_context(_attribute(datasets.config, "HF_DATASETS_CACHE", scratch / "datasets"))
        datasets.disable_progress_bars()
        if not shown:
            stack.callback(datasets.enable_progress_bars)
        yield mteb


def _asked() -> bool:
    """Whether the user's own environment closes the hub."""
    return any(os.environ.get(name, "").upper() in TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


@contextlib.contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _attribute(owner: Any, name: str, value: Any, *before: Any) -> Iterator[None]:
    """``owner.name`` is ``value`` in the block, and ``before``, or what it was, behind it."""
    old = before[0] if before else getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, old)
