"""Answers of a language model by what it is shown: exact match and F1, how often there is none, how true the marks are.

    python benchmarks/bench_answers.py                                  # the embedded model, five questions of each set
    python benchmarks/bench_answers.py --queries 10 --sure --set sets/aafaq
    python benchmarks/bench_answers.py --model openai:m@URL

writes ``benchmarks/results/answers_cpu.{json,md}`` after each answer; the same line continues there, and answers that
are in the file are not asked for again (delete it to begin anew).

``needle`` asks for a number that one sentence of a long made text says; ``speeches`` are the real questions of
``examples/data`` over its fourteen speeches, with the short answers below, each of which stands in the marked passage
unless it is yes or no.  A set of ``--set`` has marked sections and no short answers: its rows say whether the marks of
the answer lead to the section.

Shown is what :func:`unabridged.answer` shows with a selector, and: ``evidence``, the marked passage alone;
``elsewhere``, the best passages of texts without the answer, where the right answer is that there is none.

Normalisation is that of SQuAD (Rajpurkar et al. 2016): small letters, no punctuation, no articles, single spaces; F1 is
of the words.  Answers come in sentences, so that ``contains`` counts those in which a right answer stands whole.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import re
import string
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from machine import machine

import unabridged as ub
from unabridged.apps.selector_names import load_selector, options_of
from unabridged.eval.evidence import read_evidence
from unabridged.eval.sets import read_set
from unabridged.eval.synth.niah import niah
from unabridged.eval.synth.sentences import sized
from unabridged.files import write_atomic
from unabridged.rankers.context.cutting import passages_of
from unabridged.rankers.generate.contracts import Answer
from unabridged.rankers.lm.contracts import LanguageModel
from unabridged.rankers.lm.load import load_model
from unabridged.rankers.select.contracts import Passage, Selector

OUT = Path(__file__).parent / "results" / "answers_cpu.json"
DATA = Path(__file__).parents[1] / "examples" / "data"
SELECTORS = ("bm25", "bm25>64>vectors", "bm25>8>xl3m")
EVIDENCE, ELSEWHERE = "evidence", "elsewhere"
SURE = "evidence, sure"
"""Two candidates, their summaries and a vote, in place of one call."""
SHORT_ANSWERS = {
    "observatory": ("observation upon the phenomena of the heavens",),
    "gold": ("yes", "more extensive and valuable than was anticipated"),
    "sioux": ("the Sioux Indians", "Sioux", "the Sioux Indians in Minnesota"),
    "alaska": ("no",),
    "oklahoma": ("about 5,000", "5,000"),
    "submarines": ("ten battleships", "fifteen fleet submarines, eighty-five coast submarines"),
    "muscle-shoals": ("no",),
    "prohibition": ("the Department of Justice",),
    "highways": ("over 38,000", "38,000", "over 38,000 persons"),
    "greeks": ("yes", "they would succeed in their contest"),
}
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_MARKS = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Question:
    """One question, the texts it is asked of, and what is known of its answer."""

    name: str
    text: str
    texts: Mapping[str, str]
    others: Mapping[str, str]
    """Texts without the answer."""
    evidence: tuple[tuple[str, int, int], ...]
    """Document and characters."""
    answers: tuple[str, ...] = ()


def normalised(text: str) -> list[str]:
    """The words of an answer as SQuAD compares them."""
    return _ARTICLES.sub(" ", text.lower().translate(_MARKS)).split()


def f1(said: str, wanted: str) -> float:
    """The harmonic mean of the precision and recall of the words."""
    one, other = normalised(said), normalised(wanted)
    same = sum((Counter(one) & Counter(other)).values())
    return 2 * same / (len(one) + len(other)) if same else 0.0


def scores(said: str, wanted: Sequence[str]) -> dict[str, float]:
    """Against the answer that fits best; nothing where none is known."""
    if not wanted:
        return {}
    mine = normalised(said)
    return {
        "exact": float(any(mine == normalised(one) for one in wanted)),
        "f1": max(f1(said, one) for one in wanted),
        "contains": float(any(f" {' '.join(normalised(one))} " in f" {' '.join(mine)} " for one in wanted)),
    }


def needles(count: int, length: int) -> Iterator[Question]:
    """Made texts of at most ``length`` tokens; the other text is that of the next seed."""
    samples = [sized(partial(niah, seed=seed, length=length, keys=1), length) for seed in range(count + 1)]
    for at, one in enumerate(samples[:-1]):
        spans = tuple(("text", *one.spans[row]) for row in one.evidence)
        yield Question(str(at), one.question, {"text": one.text}, {"text": samples[at + 1].text}, spans, one.answers)


def speeches(count: int) -> Iterator[Question]:
    """The real questions; the other texts are all speeches but the one with the answer."""
    texts: dict[str, str] = {}
    with gzip.open(DATA / "speeches.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            texts[row["_id"]] = f"{row['title']} {row['text']}"
    marked = json.loads((DATA / "answers.json").read_text(encoding="utf-8"))
    with (DATA / "questions.tsv").open(encoding="utf-8", newline="") as file:
        asked = dict(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    for name, text in islice(asked.items(), count):
        where = marked[name]
        passage = texts[where["doc_id"]][where["start"] : where["end"]]
        absent = [one for one in SHORT_ANSWERS[name] if one not in passage and one not in ("yes", "no")]
        absent = [one for one in absent if one.removeprefix("the ") not in passage]
        if passage != where["text"] or absent:
            raise ValueError(f"the passage of {name} is another one, or has not {absent}")
        others = {key: value for key, value in texts.items() if key != where["doc_id"]}
        span = (where["doc_id"], where["start"], where["end"])
        yield Question(name, text, texts, others, (span,), SHORT_ANSWERS[name])


def of_set(folder: Path, count: int) -> Iterator[Question]:
    """Questions of a set with marked sections, over the document with the section; the other is the next such one."""
    found = read_set(folder)
    texts = {one.id: one.text for one in found.corpus}
    asked = {one.id: one.text for one in found.queries}
    # One question a document: many of one would weigh it as many times.
    first = list({one.doc_id: one for one in reversed(read_evidence(folder))}.values())[::-1][: count + 1]
    for at, one in enumerate(first[:count]):
        other = first[(at + 1) % len(first)].doc_id
        own, away = {one.doc_id: texts[one.doc_id]}, {other: texts[other]}
        yield Question(one.query_id, asked[one.query_id], own, away, ((one.doc_id, one.start, one.end),))


class Asking:
    """One model, asked in the ways that are compared; passages are cut once."""

    def __init__(self, model: LanguageModel, budget: int, max_tokens: int) -> None:
        self._model, self._budget, self._max_tokens = model, budget, max_tokens
        self._cut = cache(lambda name, text: tuple(passages_of(name, text)))
        self._selector = cache(self._loaded)

    def answer(self, question: Question, shown: str) -> Answer:
        """The answer with what ``shown`` names."""
        texts = question.others if shown == ELSEWHERE else question.texts
        more: dict[str, Any] = {}
        hits: Any = [
            Passage(name, start, end, question.texts[name][start:end]) for name, start, end in question.evidence
        ]
        if shown not in (EVIDENCE, SURE):
            hits = [one for name, text in texts.items() for one in self._cut(name, text)]
            more["select"] = self._selector(SELECTORS[0] if shown == ELSEWHERE else shown)
        if shown == SURE:
            more["strategy"] = "sure"
        return ub.answer(
            question.text, hits, model=self._model, sources=texts, budget=self._budget, max_tokens=self._max_tokens,
            **more,
        )  # fmt: skip

    def _loaded(self, name: str) -> Selector:
        """A selector that uses the model at hand where it needs one."""
        stage = name.rpartition(">")[2]
        return load_selector(name, language=self._model) if "language" in options_of(stage) else load_selector(name)


def row(question: Question, found: Answer, shown: str) -> dict[str, Any]:
    """What one answer is worth."""

    def meets(name: str, start: int, end: int) -> bool:
        return any(name == doc_id and start < stop and begin < end for doc_id, begin, stop in question.evidence)

    there = [
        any(one.doc_id == doc_id and one.start <= start and end <= one.end for one in found.pack.sources)
        for doc_id, start, end in question.evidence
    ]
    own = shown != ELSEWHERE
    return {
        **(scores(found.text if found.found else "", question.answers) if own else {}),
        "none": not found.found,
        "evidence": own and all(there),
        "part": own and any(meets(one.doc_id, one.start, one.end) for one in found.pack.sources),
        "cited": bool(found.citations),
        "true": any(meets(one.doc_id, one.start, one.end) for one in found.citations) if own else None,
        "prompt_tokens": found.spent.usage.prompt,
        "seconds": round(found.timings["total_ms"] / 1000, 3),
        "answer": found.text,
        "notes": list(found.notes),
        **({"sure": found.sure.as_json()} if found.sure else {}),
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the answers of one cell; None where nothing is known."""
    names = ("exact", "f1", "contains", "none", "evidence", "part", "cited", "prompt_tokens", "seconds")
    means = {name: fmean(float(one[name]) for one in rows) if name in rows[0] else None for name in names}
    judged = [one["true"] for one in rows if one["true"] is not None and one["cited"]]
    return {"answers": len(rows), **means, "true": fmean(judged) if judged else None}


def table(results: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        f"# Answers of {results['model']} by what it is shown",
        "",
        f"`{results['command']}`; {results['machine']['processor']}, {results['machine']['cores']} cores, shared.",
        "",
        f"Packs of at most {results['budget']:,} tokens of the model's own, answers of at most {results['max_tokens']}."
        f" Needles stand in texts of {results['length']:,} tokens. Evidence, part: packs with all, and with any, of "
        "the marked passage. Exact, F1, contains: against short answers; an answer that there is none counts 0. None: "
        "answers that there is none, which are right in the rows `elsewhere` alone. Cited: answers with a source; of "
        "these, led to the evidence. Seconds are of one question from passages to marks.",
        "",
        "| questions | shown | answers | evidence | part | exact | F1 | contains | none | cited | to the evidence | "
        "tokens | s |",
        "| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for one in results["rows"]:
        away = one["shown"] == ELSEWHERE
        cells = [one["questions"], one["shown"], f"{one['answers']}"]
        for name in ("evidence", "part", "exact", "f1", "contains", "none", "cited", "true"):
            hidden = one[name] is None or (away and name in ("evidence", "part"))
            cells.append("" if hidden else f"{one[name]:.2f}")
        lines.append("| " + " | ".join([*cells, f"{one['prompt_tokens']:,.0f}", f"{one['seconds']:.1f}"]) + " |")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Setting:
    """What answers depend on beside the question; a file of other settings is not continued."""

    model: str
    budget: int
    max_tokens: int
    length: int


class Results:
    """The answers that are there, by questions, shown and name; each new one is written at once."""

    def __init__(self, out: Path, setting: Setting, command: str) -> None:
        self._out, self._setting, self._command = out, setting, command
        self.rows: dict[tuple[str, str, str], dict[str, Any]] = {}
        if out.is_file():
            old = json.loads(out.read_text(encoding="utf-8"))
            known = {name: old.get(name) for name in asdict(setting)}
            if known != asdict(setting):
                raise SystemExit(f"{out} has answers of {known}: delete it, or name another file with --out.")
            self.rows = {(one["questions"], one["shown"], one["name"]): one for one in old["answers"]}

    def add(self, key: tuple[str, str, str], found: Mapping[str, Any]) -> None:
        """Keeps an answer."""
        questions, shown, name = key
        self.rows[key] = {"questions": questions, "shown": shown, "name": name, **found}
        cells: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for one in self.rows.values():
            cells.setdefault((one["questions"], one["shown"]), []).append(one)
        body = {
            **asdict(self._setting), "command": self._command, "machine": machine(),
            "rows": [{"questions": cell[0], "shown": cell[1], **summary(rows)} for cell, rows in cells.items()],
            "answers": list(self.rows.values()),
        }  # fmt: skip
        self._out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self._out, (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode())
        write_atomic(self._out.with_suffix(".md"), table(body).encode())


def main() -> None:
    """Asks what is not in the file yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--queries", type=int, default=5, help="questions of each set")
    parser.add_argument("--length", type=int, default=4_096, help="tokens of a made text")
    parser.add_argument("--budget", type=int, default=512, help="tokens of a pack")
    parser.add_argument("--max-tokens", type=int, default=48, help="tokens of an answer")
    parser.add_argument("--select", nargs="+", default=list(SELECTORS), help="what orders the passages")
    parser.add_argument("--set", type=Path, nargs="*", default=[], help="folders of sets with marked sections")
    parser.add_argument("--sure", action="store_true", help="ask for two candidates too, and vote on them")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    line = ["python benchmarks/bench_answers.py", f"--queries {given.queries}"]
    line += [f"--model {given.model}"] if given.model != parser.get_default("model") else []
    line += [f"--set {' '.join(one.name for one in given.set)}"] if given.set else []
    line += ["--sure"] if given.sure else []
    setting = Setting(given.model, given.budget, given.max_tokens, given.length)
    results = Results(given.out, setting, " ".join(line))
    asking = Asking(load_model(given.model), given.budget, given.max_tokens)
    sets = {
        "needle": list(needles(given.queries, given.length)),
        "speeches": list(speeches(given.queries)),
        **{folder.name: list(of_set(folder, given.queries)) for folder in given.set},
    }
    began = time.perf_counter()
    # What says most comes first: where there is time for a part only, it is that part.
    for shown in (EVIDENCE, given.select[0], ELSEWHERE, *([SURE] if given.sure else []), *given.select[1:]):
        for kind, questions in sets.items():
            for question in questions:
                if (key := (kind, shown, question.name)) in results.rows:
                    continue
                found = row(question, asking.answer(question, shown), shown)
                results.add(key, found)
                print(f"{time.perf_counter() - began:6.0f} s  {' '.join(key)}: {found['answer'][:90]!r}", flush=True)


if __name__ == "__main__":
    main()
