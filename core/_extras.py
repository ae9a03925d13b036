"""Optional packages: found first, imported second, so that a broken install shows its own traceback."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from unabridged.errors import MissingExtra


def require(module: str, *, extra: str, purpose: str = "") -> ModuleType:
    """The imported ``module``, or :class:`MissingExtra` with the pip command that brings it."""
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        what = f" ({purpose})" if purpose else ""
        raise MissingExtra(f'{module} is not installed{what}. Install it with: pip install "unabridged[{extra}]"')
    return importlib.import_module(module)
