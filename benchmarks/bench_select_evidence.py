"""Which selectors put the evidence into a context of 300 words: needles, keys, chains, two hops, real texts.

    unabridged eval fetch-local-sets books perldoc pydoc aafaq --out sets/
    python benchmarks/bench_select_evidence.py --sets sets/books sets/perldoc sets/pydoc sets/aafaq --natural sets/books

writes ``benchmarks/results/select_evidence_cpu.{json,md}``, after each row, so that what was measured is never lost.
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
from unabridged.apps.selectors import load_selector
from unabridged.eval._resample import bootstrap_interval
from unabridged.eval.choices import Case, Choice, case_of, cases_of, summary
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
    "single": partial(niah, keys=1), "multi-key": niah, "variable tracking": vartrack, "two-hop": twohop,
}  # fmt: skip
WORDS = ("bm25", "linked", "iterative")
VECTORS = ("vectors", "hybrid", "iterative:hybrid")
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
    cases: Sequence[Case], name: str, selector: Selector, allowance: int, base: Sequence[Choice] | None
) -> tuple[dict[str, Any], list[Choice]]:
    """One row, and what it is the mean of; the difference is to ``base``."""
    started = time.process_time()
    found = [chosen(case, selector, allowance) for case in cases]
    cpu = (time.process_time() - started) / len(cases)
    row: dict[str, Any] = {"selector": name, **asdict(summary(cases, found, allowance)), "cpu_seconds": cpu}
    if base is not None:
        steps = np.array([one.recall - other.recall for one, other in zip(found, base, strict=True)])
        low, high = bootstrap_interval(steps)
        row["difference"] = {"value": float(steps.mean()), "low": low, "high": high}
    return row, found


def compared(
    place: dict[str, Any], cases: Sequence[Case], names: Sequence[str], known: dict[str, Selector], allowance: int
) -> Iterator[dict[str, Any]]:
    """A row for each selector, BM25 first."""
    base: list[Choice] | None = None
    for name in names:
        if name not in known:
            known[name] = load_selector(name)
        row, found = measured(cases, name, known[name], allowance, base)
        base = found if base is None else base
        yield {**place, **row}


def rows(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All that is measured, the cheap first."""
    known: dict[str, Selector] = {}
    novels = books(arguments.natural) if arguments.natural else None
    for size in arguments.sizes:
        for task in TASKS:
            samples = made(task, size, arguments.samples)
            for stretch in (1, 4):
                place = {"text": task, "size": size, "filler": "pool", "sentences": stretch}
                names = WORDS if stretch > 1 else (*WORDS, *(VECTORS if arguments.vectors else ()))
                yield from compared(
                    place, [case_of(one, stretch) for one in samples], names, known, arguments.allowance
                )
            if novels is not None:
                place = {"text": task, "size": size, "filler": "novels", "sentences": 1}
                cases = [case_of(one, 1) for one in natural(samples, novels, size)]
                yield from compared(place, cases, WORDS, known, arguments.allowance)
    for folder in arguments.sets:
        whole = read_set(folder)
        cut = partial(stretches, stretch=PASSAGE)
        cases, short = cases_of(
            whole, read_evidence(folder), cut, allowance=arguments.allowance, most=arguments.samples
        )
        place = {"text": whole.name, "size": None, "filler": None, "sentences": PASSAGE, "short": short}
        many = (*WORDS, "vectors", "hybrid") if folder == arguments.sets[0] and arguments.vectors else WORDS
        yield from compared(place, cases, many, known, arguments.allowance)
    yield from _few(arguments, novels, known)


def _few(
    arguments: argparse.Namespace, novels: Sequence[str] | None, known: dict[str, Selector]
) -> Iterator[dict[str, Any]]:
    """What takes a model over other words in each text: the smallest size, fewer samples, BM25 on the same ones."""
    size = min(arguments.sizes)
    for task in TASKS:
        samples = made(task, size, arguments.few)
        if arguments.cascade:
            place = {"text": task, "size": size, "filler": "pool", "sentences": 1}
            names = ("bm25", arguments.cascade)
            yield from compared(place, [case_of(one, 1) for one in samples], names, known, arguments.allowance)
        if novels is not None and arguments.vectors and task in ("variable tracking", "two-hop"):
            place = {"text": task, "size": size, "filler": "novels", "sentences": 1}
            cases = [case_of(one, 1) for one in natural(samples, novels, size)]
            names = ("bm25", "linked", "vectors", "hybrid")
            yield from compared(place, cases, names, known, arguments.allowance)


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
    for row in rows(arguments):
        body["rows"].append(row)
        arguments.out.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
        arguments.out.with_suffix(".md").write_text(page(body), encoding="utf-8")


if __name__ == "__main__":
    main()
