"""Build sets: ``python benchmarks/sets/build.py --out /tmp/sets aafaq pydoc`` (all by default)."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sets.documentation import aafaq, pgdoc, pydoc
from sets.encyclopedia import gensimwiki
from sets.layout import RetrievalSet
from sets.manuals import manpages, perldoc
from sets.pythoncode import stdlibcode, stdlibmod

BUILDERS: dict[str, Callable[[Path], RetrievalSet]] = {
    built.__name__: built for built in (aafaq, pydoc, stdlibmod, stdlibcode, manpages, gensimwiki, perldoc, pgdoc)
}


def build(name: str, out: Path) -> RetrievalSet:
    """The set ``name``, read from ``out/name`` if it is complete there and built into it otherwise."""
    folder = out / name
    if not (folder / "set.json").exists():
        BUILDERS[name](out / "packages").write(folder)
    return RetrievalSet.read(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(BUILDERS), metavar="SET", help=", ".join(BUILDERS))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for name in arguments.names:
        print(json.dumps(build(name, arguments.out).facts()))


if __name__ == "__main__":
    main()
