"""Cutting real source code by syntax: what is lost (nothing), what it costs, how often a file falls to lines.

    python benchmarks/bench_code_split.py FOLDER... --out benchmarks/results/code_split.md

Every file below the folders whose suffix has a grammar is cut under the embedded model's own tokenizer and window, and
each law is checked on it: the spans joined are the text, the tokens of the windows are all tokens once, no window holds
more than fits.  A file that breaks one ends the run.  The same files are then damaged (pieces cut out, doubled, and
letters of other scripts put in, by a fixed seed) and checked again.

Times are of the processor, for the cutting alone, tokens given; the baseline is whole lines packed into the same
windows, which needs no tree.  Ways alternate in one process and each has its best of three runs, so that other load
hits all.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from machine import machine

from unabridged.contracts import Rows
from unabridged.corpora import code_title
from unabridged.encoders._resolve import resolve
from unabridged.encoders._tokens import Tokenizer
from unabridged.encoders.code.languages import LANGUAGES, SUFFIXES
from unabridged.encoders.code.split import CodeSplitter, Split
from unabridged.encoders.code.syntax import parse
from unabridged.encoders.windows import Windows

CAPACITY = 254
"""Tokens of text in a window of all-MiniLM-L6-v2: 256 and two special ones."""
RUNS = 3
SIZES = 2_000_000
"""Bytes; larger files are left out."""
LETTERS = ("ñ", "日本語", "🙂", "\r\n", "e\u0301", "\t", "{", "'", "*/")


@dataclass(slots=True)
class Row:
    """What was found for one language.  ``seconds`` by way, ``notes`` by how files were cut."""

    files: int = 0
    lines: int = 0
    blocks: int = 0
    damaged: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("parse", "lines", "syntax"), 0.0))
    notes: Counter[str] = field(default_factory=Counter)

    def add(self, other: Row) -> None:
        """For the last line of the table."""
        self.files, self.lines = self.files + other.files, self.lines + other.lines
        self.blocks, self.damaged = self.blocks + other.blocks, self.damaged + other.damaged
        self.seconds = {name: took + other.seconds[name] for name, took in self.seconds.items()}
        self.notes += other.notes


def sources(folders: Sequence[Path], most: int) -> Iterator[tuple[str, str]]:
    """``(language, source)`` of at most ``most`` files of each language, as a corpus reader gives them."""
    taken: Counter[str] = Counter()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            language = SUFFIXES.get(path.suffix.lower())
            if language is None or taken[language.name] >= most or not path.is_file() or path.stat().st_size > SIZES:
                continue
            try:
                text = path.read_bytes().decode("utf-8")
            except UnicodeDecodeError:
                continue
            taken[language.name] += 1
            yield language.name, f"{code_title(path, str(path.relative_to(folder)))} {text}"


def check(text: str, offsets: Rows, found: Windows) -> None:
    """Ends the run where a law does not hold."""
    if not len(offsets):
        return
    joined = "".join(text[start:end] for start, end in found.spans.tolist())
    tokens = np.concatenate([np.arange(first, last) for first, last in found.ranges])
    if joined.encode("utf-8", "surrogatepass") != text.encode("utf-8", "surrogatepass"):
        sys.exit(f"spans do not rebuild the source: {text[:60]!r}")
    if not np.array_equal(tokens, np.arange(len(offsets))) or int(np.diff(found.ranges).max()) > CAPACITY:
        sys.exit(f"windows do not hold all tokens once, or too many: {text[:60]!r}")


def damaged(text: str, chance: random.Random) -> str:
    """``text`` with five pieces cut out, doubled or put in behind its title."""
    start = text.index(" ") + 1
    for _ in range(5):
        at = chance.randrange(start, len(text) + 1)
        size = chance.randrange(1, 200)
        piece = chance.choice(("", text[at : at + size] * 2, chance.choice(LETTERS)))
        text = text[:at] + piece + text[at + (size if piece == "" else 0) :]
    return text


def measure(row: Row, language: str, text: str, tokenizer: Tokenizer) -> None:
    """Cuts one file in each way, and a damaged copy of it by syntax."""
    offsets = tokenizer.encode([text])[0].characters()
    times: dict[str, list[float]] = {name: [] for name in row.seconds}
    start = text.index(" ") + 1
    found = CodeSplitter().divide(text, offsets, CAPACITY)
    for _ in range(RUNS):
        begin = time.process_time()
        parse(text, LANGUAGES[language], start)
        times["parse"].append(time.process_time() - begin)
        for how in (Split.LINES, Split.SYNTAX):
            begin = time.process_time()
            found = CodeSplitter(how).divide(text, offsets, CAPACITY)
            times[how.value].append(time.process_time() - begin)
            check(text, offsets, found)
    row.files += 1
    row.lines += text.count("\n")
    row.blocks += len(found.ranges)
    row.notes[found.note.split(":")[0]] += 1
    for name, took in times.items():
        row.seconds[name] += min(took)
    broken = damaged(text, random.Random(len(text)))
    offsets = tokenizer.encode([broken])[0].characters()
    check(broken, offsets, CodeSplitter().divide(broken, offsets, CAPACITY))
    row.damaged += 1


def table(rows: dict[str, Row]) -> list[str]:
    """The Markdown table."""
    lines = [
        "| language | files | lines | blocks | rebuilt, damaged too | one window | by syntax | fell to lines "
        "| parse, lines/s | by syntax, lines/s | by lines, lines/s | syntax : lines |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, row in rows.items():
        rates = {way: row.lines / took if took else 0.0 for way, took in row.seconds.items()}
        ratio = row.seconds["syntax"] / row.seconds["lines"] if row.seconds["lines"] else 0.0
        lines.append(
            f"| {name} | {row.files:,} | {row.lines:,} | {row.blocks:,} | {row.damaged:,} | {row.notes['whole']:,} "
            f"| {row.notes['syntax']:,} | {row.notes['lines']:,} | {rates['parse']:,.0f} | {rates['syntax']:,.0f} "
            f"| {rates['lines']:,.0f} | {ratio:.1f} |"
        )
    return lines


def main() -> None:
    """Measures and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--most", type=int, default=200, help="files of each language")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/code_split.md"))
    asked = parser.parse_args()
    tokenizer = Tokenizer(resolve(None))
    rows: dict[str, Row] = {name: Row() for name in LANGUAGES}
    for language, text in sources(asked.folders, asked.most):
        measure(rows[language], language, text, tokenizer)
    total = Row()
    for row in rows.values():
        total.add(row)
    facts = machine()
    text = "\n".join(
        [
            "# Cutting source code by syntax",
            "",
            f"{facts['processor']}, one thread, beside other work.  Windows of {CAPACITY} tokens of all-MiniLM-L6-v2; "
            "real files, every law checked on each and on a damaged copy.  Parse: the tree and the walk over it.",
            "",
            *table({**{name: row for name, row in rows.items() if row.files}, "all": total}),
            "",
        ]
    )
    asked.out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
