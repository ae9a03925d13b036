"""Which selectors put the evidence into a context of 300 words: needles, keys, chains, two hops, real texts.

    unabridged eval fetch-local-sets books perldoc pydoc aafaq --out sets/
    python benchmarks/bench_select_evidence.py --sets sets/books sets/perldoc sets/pydoc sets/aafaq --natural sets/books

writes ``benchmarks/results/select_evidence_cpu.{json,md}`` after each row; the same line continues there, and rows that
are in the file are not measured again (delete it to begin anew).
Made texts are cut into sentences, and into stretches of four; with ``--natural`` the same needles also stand between
the sentences of real novels, instead of filler from a pool.  The difference to BM25 is paired over the same samples.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

from unabridged.apps.select_runs import chosen, stretches
from unabridged.apps.selector_names import load_selector
from unabridged.eval._resample import bootstrap_interval
from unabridged.eval.choices import Case, case_of, cases_of, summary
from unabridged.eval.evidence import read_evidence
from unabridged.eval.sets import read_set
from unabridged.eval.synth.niah import niah
from unabridged.eval.synth.selection import words
from unabridged.eval.synth.sentences import FILLER, Sample, sized
from unabridged.eval.synth.twohop import twohop
from unabridged.eval.synth.vartrack import vartrack
from unabridged.rankers.select.contracts import Selector

OUT = Path(__file__).parent / "results" / "select_evidence_cpu.json"
TASKS: dict[str, Callable[..., Sample]] = {
    "variable tracking": vartrack, "two-hop": twohop, "single": partial(niah, keys=1), "multi-key": niah,
}  # fmt: skip
CHAINS = ("variable tracking", "two-hop")
WORDS = ("bm25", "linked", "iterative")
VECTORS = ("vectors", "hybrid")
PASSAGE = 4
"""Sentences of a passage of real texts."""


def made(task: str, size: int, count: int) -> list[Sample]:
    """``count`` samples of at most ``size`` words."""
    return [sized(partial(TASKS[task], seed=seed, length=size), size, words) for seed in range(count)]


def natural(samples: Sequence[Sample], sentences: Sequence[str], size: int) -> Iterator[Sample]:
    """The same needles among neighbouring sentences of real books, as many as have ``size`` words with them."""
    filler = frozenset(FILLER)
    for sample in samples:
        needles = [one for one in sample.sentences if one not in filler]
        at = random.Random(sample.seed).randrange(len(sentences) // 2)
        room = size - sum(map(words, needles))
        own: list[str] = []
        while room >= 0:
            room -= words(sentences[at])
            own.append(sentences[at])
            at += 1
        own = own[:-1]
        places = random.Random(f"places-{sample.seed}")
        slots = sorted(places.sample(range(len(own) + len(needles)), len(needles)))
        whole = list(own)
        for slot, needle in zip(slots, needles, strict=True):
            whole.insert(slot, needle)
        rows = dict(zip(needles, slots, strict=True))
        evidence = tuple(rows[sample.sentences[row]] for row in sample.evidence)
        yield replace(sample, sentences=tuple(whole), evidence=evidence)


def books(folder: Path) -> list[str]:
    """The sentences of a set's documents, in their order, without those of one or two words."""
    found = [text[a:b] for one in read_set(folder).corpus for text in [one.text] for a, b in stretches(text, 1)]
    return [" ".join(one.split()) for one in found if len(one.split()) > 2]


def measured(
    cases: Sequence[Case], name: str, selector: Selector, allowance: int, base: Sequence[float] | None
) -> dict[str, Any]:
    """One row; the difference is to the recalls ``base`` of the same cases."""
    started = time.process_time()
    found = [chosen(case, selector, allowance) for case in cases]
    cpu = (time.process_time() - started) / len(cases)
    recalls = [one.recall for one in found]
    row: dict[str, Any] = {"selector": name, **asdict(summary(cases, found, allowance)), "cpu_seconds": cpu}
    if base is not None:
        steps = np.array(recalls) - np.array(base)
        low, high = bootstrap_interval(steps)
        row["difference"] = {"value": float(steps.mean()), "low": low, "high": high}
    return {**row, "recalls": recalls}


class Measuring:
    """Rows that are there, and those that are added."""

    def __init__(self, old: Sequence[dict[str, Any]], allowance: int) -> None:
        self._old = {key(row): row for row in old}
        self._known: dict[str, Selector] = {}
        self._allowance = allowance

    def rows(
        self, place: dict[str, Any], names: Sequence[str], many: int, cases: Callable[[], Sequence[Case]]
    ) -> Iterator[dict[str, Any]]:
        """A row for each selector, BM25 first; ``cases`` are made only if one of them is missing."""
        made: Sequence[Case] | None = None
        base: list[float] | None = None
        for name in names:
            row = self._old.get(key({**place, "selector": name, "asked": many}))
            if row is None:
                made = cases() if made is None else made
                if name not in self._known:
                    self._known[name] = load_selector(name)
                own = measured(made, name, self._known[name], self._allowance, base)
                row = {**place, "asked": many, **own}
            base = row["recalls"] if base is None else base
            yield row


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What tells two rows apart."""
    return tuple(row[name] for name in ("text", "size", "filler", "sentences", "asked", "selector"))


def rows(arguments: argparse.Namespace, old: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All that is measured, words first, then what takes a model."""
    measuring = Measuring(old, arguments.allowance)
    novels = books(arguments.natural) if arguments.natural else None
    many = arguments.samples
    for size in arguments.sizes:
        for task in TASKS:
            for stretch in (1, 4):
                place = _place(task, size, "pool", stretch)
                yield from measuring.rows(place, WORDS, many, _pool(task, size, many, stretch))
            if novels is not None:
                place = _place(task, size, "novels", 1)
                yield from measuring.rows(place, WORDS, many, _novels(task, size, many, novels))
    for folder in arguments.sets:
        place = _place(folder.name, None, None, PASSAGE)
        yield from measuring.rows(place, WORDS, many, partial(_real, folder, many, arguments.allowance))
    yield from _dear(arguments, measuring, novels)


def _dear(
    arguments: argparse.Namespace, measuring: Measuring, novels: Sequence[str] | None
) -> Iterator[dict[str, Any]]:
    """What takes a model over every text: the smallest size, and fewer samples where no text repeats another."""
    many, few = arguments.samples, arguments.few
    size = min(arguments.sizes)
    for task in TASKS if arguments.cascade else ():
        names: tuple[str, ...] = ("bm25", arguments.cascade)
        yield from measuring.rows(_place(task, size, "pool", 1), names, few, _pool(task, size, few, 1))
    if not arguments.vectors:
        return
    for task in CHAINS:
        names = ("bm25", "linked", *VECTORS)
        yield from measuring.rows(_place(task, size, "pool", 1), ("bm25", *VECTORS), many, _pool(task, size, many, 1))
        if novels is not None:
            yield from measuring.rows(_place(task, size, "novels", 1), names, few, _novels(task, size, few, novels))
    for folder in arguments.sets[:1]:
        place = _place(folder.name, None, None, PASSAGE)
        cases = partial(_real, folder, many, arguments.allowance)
        yield from measuring.rows(place, ("bm25", *VECTORS), many, cases)


def _place(text: str, size: int | None, filler: str | None, stretch: int) -> dict[str, Any]:
    return {"text": text, "size": size, "filler": filler, "sentences": stretch}


def _pool(task: str, size: int, count: int, stretch: int) -> Callable[[], list[Case]]:
    return lambda: [case_of(one, stretch) for one in made(task, size, count)]


def _novels(task: str, size: int, count: int, novels: Sequence[str]) -> Callable[[], list[Case]]:
    return lambda: [case_of(one, 1) for one in natural(made(task, size, count), novels, size)]


def _real(folder: Path, most: int, allowance: int) -> list[Case]:
    cut = partial(stretches, stretch=PASSAGE)
    return cases_of(read_set(folder), read_evidence(folder), cut, allowance=allowance, most=most)[0]


def page(body: dict[str, Any]) -> str:
    """The table, in Markdown."""
    lines = [
        "# Evidence in a chosen context of 300 words",
        "",
        f"`{body['command']}`; {body['machine']['processor']}, {body['machine']['cores']} cores, shared.",
        "",
        f"An allowance of {body['allowance']} words. Recall: the share of the evidence that is in the context; all: "
        "samples without a missing piece; some: samples with any; precision: the share of the context that is "
        "evidence. Brackets: 95 % bootstrap intervals; the difference in recall to BM25 is paired over the same "
        "samples. Pool: filler of 24 sentences, which vectors tell from needles at a glance; novels: the same needles "
        "between neighbouring sentences of real novels. CPU seconds are of all cores, for one text. Real sets: the "
        "evidence is a marked section, often longer than the allowance, so that recall has a ceiling below 1.",
        "",
        "| text | words | filler | sentences | samples | selector | recall | difference to BM25 | all | some | "
        "precision | CPU s | calls | tokens |",
        "| --- | --: | --- | --: | --: | --- | --- | --- | --- | --: | --: | --: | --: | --: |",
    ]
    for row in body["rows"]:
        gain = row.get("difference")
        change = "" if gain is None else f"{gain['value']:+.2f} [{gain['low']:+.2f}, {gain['high']:+.2f}]"
        recall, every = (
            f"{row[key]['value']:.2f} [{row[key]['low']:.2f}, {row[key]['high']:.2f}]"
            for key in ("recall", "all_evidence")
        )
        lines.append(
            f"| {row['text']} | {row['words']:,.0f} | {row['filler'] or 'real'} | {row['sentences']} | {row['cases']} "
            f"| {row['selector']} | {recall} | {change} | {every} | {row['hit']['value']:.2f} | "
            f"{row['precision']['value']:.3f} | {row['cpu_seconds']:.2f} | {row['calls']:,.0f} | {row['tokens']:,.0f} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    """Measures and writes after each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8_000, 31_000], help="words of made texts")
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--allowance", type=int, default=300)
    parser.add_argument("--natural", type=Path, help="a set whose sentences stand around the needles")
    parser.add_argument("--sets", type=Path, nargs="*", default=[], help="real sets; vectors are measured on the first")
    parser.add_argument("--vectors", action="store_true", help="measure the embedded encoder too")
    parser.add_argument("--cascade", help="a selector with a language model, such as bm25>xl3m")
    parser.add_argument("--few", type=int, default=10, help="samples of what takes a model")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    command = "python benchmarks/bench_select_evidence.py --samples {} --natural SET --sets SETS{}{}".format(
        arguments.samples,
        " --vectors" if arguments.vectors else "",
        f" --cascade '{arguments.cascade}'" if arguments.cascade else "",
    )
    body: dict[str, Any] = {
        "command": command, "machine": machine(), "samples": arguments.samples, "allowance": arguments.allowance,
        "seeds": f"0 to {arguments.samples - 1}", "rows": [],
    }  # fmt: skip
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    old = json.loads(arguments.out.read_text(encoding="utf-8"))["rows"] if arguments.out.is_file() else []
    done: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows(arguments, old):
        done[key(row)] = row
        body["rows"] = [*done.values(), *(one for one in old if key(one) not in done)]
        arguments.out.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
        arguments.out.with_suffix(".md").write_text(page(body), encoding="utf-8")


if __name__ == "__main__":
    main()
