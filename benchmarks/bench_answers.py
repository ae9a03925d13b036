"""Answers of a language model over packs: exact match and F1 by what it is shown, and whether its citations are true.

    python benchmarks/bench_answers.py                       # the embedded model
    python benchmarks/bench_answers.py --model openai:m@URL

writes ``benchmarks/results/answers_cpu.{json,md}``; rows come as they are done.  The tasks are made from a seed and
have exact answers and evidence: ``niah`` asks for a number that one sentence says, ``twohop`` for a river that two
sentences lead to.  Of each text the passages are ranked by BM25 and packed at each budget; ``oracle`` shows the
evidence alone, ``nothing`` one word, ``elsewhere`` the passages of a text about other things, where the right answer is
that there is none.

Normalisation is that of SQuAD (Rajpurkar et al. 2016): small letters, no punctuation, no articles, single spaces; F1 is
of the words.  Answers come in sentences, so that ``contains`` counts those in which the answer stands whole.
"""

from __future__ import annotations

import argparse
import json
import re
import string
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from machine import machine

from unabridged.apps.selector_names import load_selector
from unabridged.eval.synth.niah import niah
from unabridged.eval.synth.sentences import Sample, sized
from unabridged.eval.synth.twohop import twohop
from unabridged.rankers.context.cutting import passages_of
from unabridged.rankers.generate.answerer import Answerer, AnswerSettings
from unabridged.rankers.generate.contracts import Answer
from unabridged.rankers.lm.contracts import LanguageModel
from unabridged.rankers.lm.load import load_model

OUT = Path(__file__).parent / "results" / "answers_cpu.json"
TASKS = {"niah": niah, "twohop": twohop}
BUDGETS = (512, 1_024, 2_048)
PASSAGE_TOKENS = 96
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_MARKS = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> list[str]:
    """The words of an answer as SQuAD compares them."""
    return _ARTICLES.sub(" ", text.lower().translate(_MARKS)).split()


def f1(said: str, wanted: str) -> float:
    """The harmonic mean of the precision and recall of the words."""
    one, other = normalised(said), normalised(wanted)
    same = sum((Counter(one) & Counter(other)).values())
    return 2 * same / (len(one) + len(other)) if same else 0.0


def scores(said: str, wanted: Sequence[str]) -> dict[str, float]:
    """Against the answer that fits best."""
    mine = normalised(said)
    return {
        "exact": float(any(mine == normalised(one) for one in wanted)),
        "f1": max(f1(said, one) for one in wanted),
        "contains": float(any(f" {' '.join(normalised(one))} " in f" {' '.join(mine)} " for one in wanted)),
    }


def conditions(sample: Sample, other: Sample) -> Iterator[tuple[str, int, Any, str]]:
    """Name, budget, hits and text of each way to show it."""
    evidence = [{"doc_id": "text", "start": start, "end": end, "score": 1.0} for start, end in
                (sample.spans[at] for at in sample.evidence)]  # fmt: skip
    yield "oracle", BUDGETS[0], evidence, sample.text
    yield "nothing", BUDGETS[0], [{"doc_id": "text", "start": 0, "end": 4, "score": 1.0}], "None"
    selector = load_selector("bm25")
    for name, shown, budgets in (("pack", sample, BUDGETS), ("elsewhere", other, BUDGETS[:1])):
        passages = passages_of("text", shown.text, tokens=PASSAGE_TOKENS)
        ranked = list(zip(passages, selector.score(sample.question, passages).scores, strict=True))
        for budget in budgets:
            yield name, budget, ranked, shown.text


def row(sample: Sample, name: str, found: Answer) -> dict[str, Any]:
    """What one answer is worth."""
    spans = [sample.spans[at] for at in sample.evidence]
    true = [any(one.start < end and start < one.end for start, end in spans) for one in found.citations]
    shown = [any(one.start <= start and end <= one.end for one in found.pack.sources) for start, end in spans]
    return {
        **scores(found.text, sample.answers),
        "found": found.found,
        "evidence_shown": all(shown) if name in ("oracle", "pack") else False,
        "cited": bool(found.citations),
        "true": any(true) if name in ("oracle", "pack") else None,
        "prompt_tokens": found.spent.usage.prompt,
        "seconds": found.spent.seconds,
        "question": sample.question,
        "answer": found.text,
        "wanted": list(sample.answers),
    }


def measured(model: LanguageModel, count: int, length: int) -> Iterator[tuple[str, str, int, dict[str, Any]]]:
    """Task, condition, budget and row of every answer."""
    for task, make in TASKS.items():
        samples = [sized(partial(make, seed=seed, length=length), length) for seed in range(count + 1)]
        for sample, other in pairwise(samples):
            for name, budget, hits, text in conditions(sample, other):
                writer = Answerer(model, AnswerSettings(budget=budget, max_tokens=48))
                yield (
                    task,
                    name,
                    budget,
                    row(sample, name, writer.answer(sample.question, hits, sources={"text": text})),
                )


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the answers of one condition."""
    names = ("exact", "f1", "contains", "found", "evidence_shown", "cited", "prompt_tokens", "seconds")
    judged = [one["true"] for one in rows if one["true"] is not None and one["cited"]]
    means = {name: fmean(float(one[name]) for one in rows) for name in names}
    return {"answers": len(rows), **means, "true": fmean(judged) if judged else None}


def table(results: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        f"# Answers of {results['model']} over packs",
        "",
        f"{results['count']} questions a task over texts of {results['length']:,} tokens; see `bench_answers.py`. "
        f"{results['machine']['processor']}, {results['machine']['cores']} cores.",
        "",
        "| task | shown | budget | evidence shown | exact | F1 | contains | found | cited | cited truly | tokens | s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in results["rows"]:
        true = "" if one["true"] is None else f"{100 * one['true']:.0f} %"
        shares = [
            f"{100 * one[name]:.0f} %" for name in ("evidence_shown", "exact", "f1", "contains", "found", "cited")
        ]
        cells = [one["task"], one["shown"], f"{one['budget']:,}", *shares, true]
        lines.append("| " + " | ".join([*cells, f"{one['prompt_tokens']:,.0f}", f"{one['seconds']:.1f}"]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--count", type=int, default=10, help="questions of each task")
    parser.add_argument("--length", type=int, default=4_096, help="tokens of a text")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    began = time.perf_counter()
    groups: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for task, name, budget, one in measured(load_model(given.model), given.count, given.length):
        groups.setdefault((task, name, budget), []).append(one)
        print(
            f"{task} {name} {budget}: {one['contains']:.0f} {one['answer'][:90]!r} wanted {one['wanted']}", flush=True
        )
        results = {
            "model": given.model, "count": given.count, "length": given.length, "machine": machine(),
            "seconds": time.perf_counter() - began,
            "rows": [{"task": key[0], "shown": key[1], "budget": key[2], **summary(rows)}
                     for key, rows in groups.items()],
            "answers": [{"task": key[0], "shown": key[1], "budget": key[2], **row_}
                        for key, rows in groups.items() for row_ in rows],
        }  # fmt: skip
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        given.out.with_suffix(".md").write_text(table(results), encoding="utf-8")


if __name__ == "__main__":
    main()
