"""Does a language model find the segment that answers?  A pass key in filler, by the embedded model on a CPU.

    python benchmarks/bench_select_passkey.py

writes ``benchmarks/results/select_passkey_cpu.{json,md}``.  Each text is cut into segments, each scored alone in front
of the question; counted is whether the key's segment comes first, and whether the key is whole in what is kept
within a budget.  Each case is written down as soon as it is known, so that an interrupted run goes on.

The filler repeats itself, and equal segments are read once: seconds here say nothing of other texts, tokens read do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

from machine import machine

from unabridged.contracts import Document
from unabridged.eval.synth.passkey import passkey
from unabridged.eval.synth.records import SynthSet
from unabridged.rankers.lm.contracts import LanguageModel
from unabridged.rankers.lm.load import load_model
from unabridged.rankers.select.contracts import Cost, Passage, Scored, Selector
from unabridged.rankers.select.layouts import AnswerLayout
from unabridged.rankers.select.likely import LikelihoodSelector
from unabridged.rankers.select.selecting import SelectSettings, select
from unabridged.rankers.select.xl3m import EntropySelector, EntropySettings

OUT = Path(__file__).parent / "results" / "select_passkey_cpu.json"
PAPER = AnswerLayout(asking="{question}", opening="")
SCORES = {
    "entropy": lambda model: EntropySelector(model),
    "entropy, no opening": lambda model: EntropySelector(model, EntropySettings(layout=PAPER)),
    "mean of 8": lambda model: EntropySelector(model, EntropySettings(kind="mean")),
    "contrast": lambda model: EntropySelector(model, EntropySettings(kind="contrast")),
    "likelihood": lambda model: LikelihoodSelector(model),
}


class Kept:
    """``inner``, whose last scores can be looked at."""

    def __init__(self, inner: Selector) -> None:
        self.inner = inner
        self.passages: Sequence[Passage] = ()
        self.found = Scored(())

    @property
    def label(self) -> str:
        """The inner one's."""
        return self.inner.label

    def cost(self, question: str, passages: Sequence[Passage]) -> Cost:
        """The inner one's."""
        return self.inner.cost(question, passages)

    def score(self, question: str, passages: Sequence[Passage], *, cancel: Event | None = None) -> Scored:
        """The inner one's."""
        self.passages, self.found = passages, self.inner.score(question, passages, cancel=cancel)
        return self.found


def measured(
    model: LanguageModel, score: str, whole: SynthSet, case: int, tokens: int, overlap: int, budget: int
) -> dict[str, Any]:
    """One case: where the key's segment came, and whether the key is in what was kept."""
    row = whole.relevant[case]
    document, record = whole.documents[row], whole.records[row]
    selector = Kept(SCORES[score](model))
    settings = SelectSettings(tokens=tokens, overlap=overlap, budget_tokens=budget)
    started, cpu = time.perf_counter(), time.process_time()
    found = select(selector, [Document(document.id, document.text)], whole.queries[case][1], model, settings)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    holding = [at for at, one in enumerate(selector.passages) if one.start <= record.start and record.end <= one.end]
    scores = [float("-inf") if one is None else one for one in selector.found.scores]
    best = max((scores[at] for at in holding), default=float("-inf"))
    others = [one for at, one in enumerate(scores) if at not in set(holding)]
    return {
        "score": score,
        "length": whole.length,
        "tokens": tokens,
        "overlap": overlap,
        "case": case,
        "depth": record.depth,
        "segments": len(scores),
        "distinct": found.spent.calls,
        "read": found.spent.usage.prompt,
        "rank": 1 + sum(one > best for one in scores) if holding else None,
        "margin": best - max(others, default=best) if holding else None,
        "kept": any(one.start <= record.start and record.end <= one.end for one in found.spans),
        "result_tokens": found.tokens,
        "seconds": seconds,
        "cpu_seconds": cpu,
    }


def plan(arguments: argparse.Namespace) -> Iterator[tuple[str, int, int, int]]:
    """Score, segment length, overlap and case, what matters most first."""
    usual = (arguments.tokens, arguments.overlap)
    yield from (("entropy", *usual, case) for case in range(arguments.cases))
    for case in range(arguments.few):
        for score in SCORES:
            yield score, *usual, case
        for tokens, overlap in ((256, 64), (1024, 64), (512, 128)):
            yield "entropy", tokens, overlap, case


def page(body: dict[str, Any]) -> str:
    """The tables, in Markdown."""
    lines = [
        "# The segment that holds a pass key, by the embedded language model on a CPU",
        "",
        f"`{body['command']}`; {body['machine']['processor']}, {body['machine']['cores']} cores, shared.",
        "",
        "Texts of eval/synth/passkey.py; segments and budget in tokens of SmolLM2-135M-Instruct. First: no segment has "
        "a better score than one that holds the key whole. Kept: the key is whole in what a budget of "
        f"{body['budget']:,} tokens holds, head and question included. The filler repeats itself and equal segments "
        "are read once, so that the seconds (medians) hold for such texts only.",
        "",
        "| score | length | segment | overlap | cases | first | kept | worst rank | least margin | segments | read | "
        "tokens read | CPU s | s |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in body["rows"]:
        groups.setdefault((row["score"], row["length"], row["tokens"], row["overlap"]), []).append(row)
    for key, rows in groups.items():
        ranks = [row["rank"] or row["segments"] + 1 for row in rows]
        margins = [row["margin"] for row in rows if row["margin"] is not None]
        middle = {name: statistics.median(row[name] for row in rows) for name in ("segments", "distinct", "read")}
        lines.append(
            f"| {key[0]} | {key[1]:,} | {key[2]} | {key[3]} | {len(rows)} | {sum(one == 1 for one in ranks)} "
            f"| {sum(row['kept'] for row in rows)} | {max(ranks)} | {min(margins, default=0.0):+.3f} "
            f"| {middle['segments']:g} | {middle['distinct']:g} | {middle['read']:,.0f} "
            f"| {statistics.median(row['cpu_seconds'] for row in rows):.1f} "
            f"| {statistics.median(row['seconds'] for row in rows):.1f} |"
        )
    lines += ["", "By the depth at which the key stands (entropy, as in the first line):", ""]
    lines += ["| depth | cases | first | kept | least margin |", "| --- | --: | --: | --: | --: |"]
    first = next(iter(groups.values()))
    for fifth in range(5):
        rows = [row for row in first if min(4, int(row["depth"] * 5)) == fifth]
        if rows:
            margin = min((row["margin"] for row in rows if row["margin"] is not None), default=0.0)
            lines.append(
                f"| {fifth * 20} to {fifth * 20 + 20} % | {len(rows)} | {sum(row['rank'] == 1 for row in rows)} "
                f"| {sum(row['kept'] for row in rows)} | {margin:+.3f} |"
            )
    return "\n".join([*lines, ""])


def main() -> None:
    """Measures what is not known yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=32_768)
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--few", type=int, default=6, help="cases of the other scores and segment lengths")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--overlap", type=int, default=64)
    parser.add_argument("--budget", type=int, default=2_048)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    body: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {"rows": []}
    command = f"python benchmarks/bench_select_passkey.py --length {arguments.length} --cases {arguments.cases}"
    body |= {"machine": machine(), "command": command, "budget": arguments.budget}
    names = ("score", "length", "tokens", "overlap", "case")
    known = {tuple(row[name] for name in names) for row in body["rows"]}
    whole = passkey(arguments.length, seed=0, documents=arguments.cases, queries=arguments.cases)
    model = load_model("embedded")
    for score, tokens, overlap, case in plan(arguments):
        if (score, arguments.length, tokens, overlap, case) in known:
            continue
        known.add((score, arguments.length, tokens, overlap, case))
        body["rows"].append(measured(model, score, whole, case, tokens, overlap, arguments.budget))
        arguments.out.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
        arguments.out.with_suffix(".md").write_text(page(body), encoding="utf-8")


if __name__ == "__main__":
    main()
