"""Where what is made once and used again is kept: converted models and answers of servers."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "UNABRIDGED_CACHE"


def cache_folder() -> Path:
    """``$UNABRIDGED_CACHE``, else ``unabridged`` in ``$XDG_CACHE_HOME``, else in ``~/.cache``; not made here."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    # By the XDG rule a path that is not absolute is ignored.
    base = Path(shared) if shared and Path(shared).is_absolute() else Path.home() / ".cache"
    return base / "unabridged"
