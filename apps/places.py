"""Places to write to, tried before anything is measured."""

from __future__ import annotations

import tempfile
from pathlib import Path

from unabridged._extras import require
from unabridged.errors import UsageError


def check_folder(folder: Path, option: str) -> None:
    """Makes ``folder`` and tries to write in it; :class:`UsageError` that names ``option`` where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"{option} {folder} cannot be written: {error.strerror}. Name a folder that can.") from error


def check_file(path: Path, option: str) -> None:
    """:class:`UsageError` unless ``path`` is a file that can be written, or may become one."""
    if path.is_dir():
        raise UsageError(f"{option} {path} is a folder. Name a file.")
    check_folder(path.parent, option)


def check_plot(folder: Path | None, name: str) -> None:
    """Refuses plots that could not be saved as ``name`` in ``folder``; None asks for none.

    :class:`UsageError` for the place or the name, :class:`unabridged.errors.MissingExtra` without matplotlib.
    """
    if folder is None:
        return
    if name in ("", ".", "..") or Path(name).name != name:
        raise UsageError(f"--name {name!r} is no name of a file. Name the folder with --plot.")
    require("matplotlib", extra="plot", purpose="plots")
    check_folder(folder, "--plot")
