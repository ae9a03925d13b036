"""Writes the tables of docs/scale.md anew, by ``unabridged plan --documents``.

    python benchmarks/scale_tables.py [--check]

Each table stands behind a comment that says how it is made: the figures that are its rows, then for each column its
head and the options of the command.  ``--check`` changes nothing and ends with 1 where the page is not what the command
says now.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unabridged.apps.scaling import shown
from unabridged.retrievers.scale_question import Sum

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
BLOCK = re.compile(r"<!-- plan\n(?P<spec>.*?)-->\n(?P<table>.*?)<!-- end -->", re.DOTALL)


def answered(words: Sequence[str]) -> Mapping[str, Any]:
    """What ``unabridged plan`` with these options prints as JSON."""
    from typer.testing import CliRunner

    from unabridged.apps.cli import app

    result = CliRunner().invoke(app, ["plan", *words, "--output", "json"])
    if result.exit_code:
        raise SystemExit(f"plan {' '.join(words)}: {result.output}")
    body: Mapping[str, Any] = json.loads(result.stdout)
    return body


def table(spec: str) -> str:
    """The Markdown of one block."""
    first, *lines = [line.strip() for line in spec.strip().splitlines()]
    figures = [figure.strip() for figure in first.split(";")]
    columns = [line.partition(":")[::2] for line in lines]
    answers = [answered(shlex.split(options)) for _, options in columns]
    sums = [{one["name"]: Sum(**one) for one in answer["sums"]} for answer in answers]
    out = ["```bash", *(f"unabridged plan {options.strip()}" for _, options in columns), "```", ""]
    out += ["| | " + " | ".join(head.strip() for head, _ in columns) + " |", "|---|" + "---|" * len(columns)]
    for figure in figures:
        out.append(f"| {figure} | " + " | ".join(shown(own[figure]) if figure in own else "" for own in sums) + " |")
    recipes = [", ".join(sorted({kind(one) for one in answer["recipes"].values()})) for answer in answers]
    out.append("| index | " + " | ".join(recipes) + " |")
    out.append(
        "| fits | " + " | ".join("yes" if one["fits"] else "no: " + one["does_not_fit"][0] for one in answers) + " |"
    )
    return "\n".join([*out, ""])


def kind(recipe: Any) -> str:
    """A recipe in a word."""
    if isinstance(recipe, str):
        return recipe
    return str(recipe.get("factory") or recipe.get("kind") or recipe.get("name"))


def written(page: str) -> str:
    """The page with all tables made anew."""
    return BLOCK.sub(lambda found: f"<!-- plan\n{found['spec']}-->\n{table(found['spec'])}<!-- end -->", page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    new = written(page)
    if options.check:
        sys.exit(new != page)
    PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
