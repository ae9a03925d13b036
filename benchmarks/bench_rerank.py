"""Reranking with the embedded language model: what it gives, and what it takes, on real long documents and a CPU.

    unabridged eval fetch-local-sets gensimwiki longcode manpages --out sets/
    python benchmarks/bench_rerank.py --set sets/gensimwiki --short sets/manpages/queries.jsonl --cache cache/

writes ``benchmarks/results/rerank_cpu.{json,md}``.  Every ranker gets the same candidates of the same queries, which
are chosen by hash; what is shown of a long document are its best segments by the index.  The index, the answers and the
scores are kept in the cache, so that an interrupted run goes on.  At the end one list of 100 short texts is ranked in
one prompt and by a sliding window.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from machine import machine

import unabridged as ub
from unabridged.apps.pipeline import Answers, Pipeline
from unabridged.apps.rankers import RankerOptions, load_ranker
from unabridged.apps.reranking import Listed, Reranking
from unabridged.apps.reranking_costs import estimated
from unabridged.apps.second_stage import Applied, SecondStage
from unabridged.corpora import read_queries
from unabridged.eval.measures import Evaluation, evaluate
from unabridged.eval.sets import RetrievalSet, facts, read_set
from unabridged.eval.significance import compare
from unabridged.retrievers.opened import Index
from unabridged.retrievers.result import Mode

OUT = Path(__file__).parent / "results" / "rerank_cpu.json"
RANKERS = ("embedded:attention", "embedded:likelihood", "embedded:full")
SHORT = 100
"""Texts of the list that is ranked in one prompt and by windows."""


def chosen(names: list[str], count: int) -> list[str]:
    """The first ``count`` names in the order of their SHA-256."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:count]


def scores(result: Evaluation) -> dict[str, Any]:
    """Mean and 95 % interval of each measure."""
    ends = result.intervals()
    return {
        str(measure): {"value": float(result.means[at]), "low": float(ends[at][0]), "high": float(ends[at][1])}
        for at, measure in enumerate(result.measures)
    }


def first_stage(index: Index, mode: Mode, queries: dict[str, str], depth: int) -> tuple[dict[str, Any], float]:
    """The run, ``depth`` documents deep, and seconds per query."""
    answers = Answers(index, Pipeline(mode), depth)
    run = answers.answer(queries)
    return run, sum(answers.seconds.values()) / len(queries)


def named(text: str, options: RankerOptions) -> tuple[str, None, RankerOptions]:
    """``MODEL:strategy+template=lettered+first_token`` taken apart: options stand behind a plus."""
    name, *more = text.split("+")
    pairs = (one.partition("=") for one in more)
    return name, None, replace(options, **{key: value or True for key, _, value in pairs})


def compared(arguments: argparse.Namespace, whole: RetrievalSet, index: Index) -> Iterator[dict[str, Any]]:
    """Each first stage, and each ranker upon it; all that is known so far after each of them."""
    queries = {query.id: query.text for query in whole.queries}
    asked = {name: queries[name] for name in chosen(list(queries), arguments.queries)}
    qrels = {name: whole.qrels[name] for name in asked}
    measures = ["nDCG@10", f"R@{arguments.depth}"]
    options = RankerOptions(
        cache=arguments.cache / "answers.sqlite", passage_tokens=arguments.passage_tokens, device="cpu"
    )
    rows: list[dict[str, Any]] = []
    body = {
        "set": whole.name,
        "revision": facts(whole).revision,
        "queries": len(asked),
        "depth": arguments.depth,
        "passage_tokens": arguments.passage_tokens,
        "rows": rows,
    }
    for mode in (Mode.BM25, Mode.HYBRID):
        run, seconds = first_stage(index, mode, asked, arguments.depth)
        base = evaluate(run, qrels, measures)
        rows.append({"system": mode.value, "calls": 0, "tokens": 0, "seconds": seconds, **scores(base)})
        yield body
        for name in ranked_again(arguments, mode):
            ranker = load_ranker(*named(arguments.named.get(name, name), options))
            started = time.process_time()
            applied = SecondStage(ranker, arguments.depth).applied(index, mode, asked, run)
            spent = time.process_time() - started
            result = evaluate(applied.run, qrels, measures)
            told = applied.record({})
            used = told["used"]
            seconds = timed(arguments.cache / f"{whole.name}-{mode.value}-{name}.json", applied, spent)
            [pair] = [one for one in compare({"again": result, "first": base}) if str(one.measure) == "nDCG@10"]
            rows.append(
                {
                    "system": f"{mode.value} + {name.removeprefix('embedded:')}",
                    "calls": used["calls"] / len(asked),
                    "tokens": (used["usage"]["prompt"] + used["usage"]["completion"]) / len(asked),
                    "seconds": sum(seconds) / len(seconds) if seconds else None,
                    "timed_queries": len(seconds),
                    "unchanged": sum(one.order == tuple(name for name, _ in one.listed.hits) for one in applied.found),
                    "statuses": used["statuses"],
                    "shown": told["shown"],
                    "difference": {
                        "value": pair.difference,
                        "low": pair.low,
                        "high": pair.high,
                        "p": pair.p_randomization,
                    },
                    **scores(result),
                }
            )
            yield body


def ranked_again(arguments: argparse.Namespace, mode: Mode) -> list[str]:
    """The rankers whose work upon a first stage is measured."""
    return [*(arguments.rankers if mode.value in arguments.upon else ()), *arguments.everywhere]


def timed(path: Path, applied: Applied, spent: float) -> list[float]:
    """CPU seconds of the queries that were computed, now or in an earlier run; those from the cache take none.

    CPU seconds of all cores, each query an equal part of ``spent``: a shared machine says little by the clock.
    """
    path = path.with_name(path.name.replace("/", "_"))
    known: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
    asked = [one for one in applied.found if one.ranking is not None and not one.ranking.spent.cached]
    known |= {one.listed.id: spent / len(asked) for one in asked}
    path.write_text(json.dumps(known))
    return list(known.values())


class Given:
    """Texts in memory."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts

    def text(self, doc_id: str) -> str | None:
        """The text of an id."""
        return self.texts.get(doc_id)

    def segments(self, query: str, doc_ids: Any) -> dict[str, Any]:
        """None are known."""
        return {}


def one_prompt_or_windows(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Calls, tokens and seconds of one list of short texts, in one prompt and by windows of 20 that move by 10."""
    texts = {query.id: query.text for query in read_queries(path)}
    names = chosen(list(texts), SHORT + 1)
    listed = Listed("short", texts[names[0]], tuple((name, -float(at)) for at, name in enumerate(names[1:])))
    rows = []
    for strategy in ("full", "sliding:20:10"):
        ranker = load_ranker(f"embedded:{strategy}", options=RankerOptions(device="cpu"))
        again = Reranking(ranker, Given(texts), SHORT)
        planned = estimated(ranker, again.requests([listed]))
        started = time.process_time()
        [found] = again.run([listed])
        cpu = time.process_time() - started
        if found.ranking is None or sorted(found.order) != sorted(names[1:]):
            raise SystemExit(f"{strategy} gave no permutation: {found.failure}")
        spent = found.ranking.spent
        rows.append(
            {
                "strategy": strategy, "candidates": len(found.ranked), "planned_calls": planned["calls"],
                "planned_prompt_tokens": planned["prompt_tokens"], "calls": spent.calls,
                "prompt_tokens": spent.usage.prompt, "answer_tokens": spent.usage.completion,
                "seconds": found.seconds, "cpu_seconds": cpu, "status": found.status.value,
                "all_shown": all(one.shown == one.total and one.prompts for one in found.ranking.exposures),
            }
        )  # fmt: skip
        yield rows


def page(body: dict[str, Any]) -> str:
    """The tables, in Markdown."""
    lines = [
        "# Reranking with the embedded language model on a CPU",
        "",
        f"`{body['command']}`; {body['machine']['processor']}, {body['machine']['cores']} cores, shared.",
        "",
    ]
    for held in body.get("sets", {}).values():
        reach = f"R@{held['depth']}"
        lines += [
            f"{held['set']}: {held['queries']} queries chosen by hash, {held['depth']} candidates each, at most "
            f"{held['passage_tokens']} tokens of a candidate in a prompt (its best segments). Intervals are 95 %; the "
            "difference is to the first stage, with the p of a paired randomisation test, not corrected for the number "
            "of rankers. A ranker that leaves every order unchanged has the scores of its first stage and no merit of "
            "its own.",
            "",
            f"| system | nDCG@10 | interval | difference | p | {reach} | calls | tokens | CPU s / query | unchanged |",
            "| --- | --: | --- | --- | --: | --: | --: | --: | --: | --: |",
        ]
        for row in held["rows"]:
            value, gain = row["nDCG@10"], row.get("difference")
            change = "" if gain is None else f"{gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
            p = "" if gain is None else f"{gain['p']:.3f}"
            took = "-" if row["seconds"] is None else f"{row['seconds']:.2f}"
            between = f"[{value['low']:.3f}, {value['high']:.3f}]"
            lines.append(
                f"| {row['system']} | {value['value']:.3f} | {between} | {change} | {p} | {row[reach]['value']:.3f} "
                f"| {row['calls']:.1f} | {row['tokens']:,.0f} | {took} | {row.get('unchanged', '')} |"
            )
        lines.append("")
    if rows := body.get("short"):
        lines += [
            f"One list of {rows[0]['candidates']} short texts, each shown whole, in one run; the clock ran while other "
            "work had the cores, the CPU seconds are the ranking's own:",
            "",
            "| strategy | calls planned | calls | prompt tokens | answer tokens | seconds | CPU seconds | status |",
            "| --- | --: | --: | --: | --: | --: | --: | --- |",
        ]
        lines += [
            f"| {row['strategy']} | {row['planned_calls']} | {row['calls']} | {row['prompt_tokens']:,} | "
            f"{row['answer_tokens']:,} | {row['seconds']:.1f} | {row['cpu_seconds']:.1f} | {row['status']} |"
            for row in rows
        ]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Runs the parts whose files were named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, nargs="*", default=[], help="folders of retrieval sets")
    parser.add_argument("--index", type=Path, nargs="*", default=[], help="indexes of them [built in the cache]")
    parser.add_argument("--rankers", nargs="*", default=list(RANKERS), help="MODEL:strategy upon each of --upon")
    parser.add_argument("--everywhere", nargs="*", default=[], help="MODEL:strategy upon BM25 and hybrid")
    parser.add_argument(
        "--named",
        nargs="*",
        default=[],
        help="NAME=MODEL:strategy[+template=..][+first_token]: how a ranker is called in tables",
    )
    parser.add_argument("--short", type=Path, help="file of queries: the short texts")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--depth", type=int, default=10)
    parser.add_argument("--passage-tokens", type=int, default=128)
    parser.add_argument("--upon", nargs="*", default=["bm25", "hybrid"], help="first stages that are ranked again")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    arguments.named = dict(one.split("=", 1) for one in arguments.named)
    if arguments.index and len(arguments.index) != len(arguments.set):
        parser.error("--index: one for each --set, in the same order")
    body: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    body |= {"machine": machine(), "command": command(arguments)}
    if arguments.short is not None:
        for rows in one_prompt_or_windows(arguments.short):
            body["short"] = rows
            write(arguments.out, body)
    for place, folder in enumerate(arguments.set):
        whole = read_set(folder, "test")
        kept = arguments.index[place] if arguments.index else arguments.cache / f"index-{whole.name}"
        index, _, _ = Pipeline().indexed(whole.corpus, ub.load_encoder(), kept)
        for known in compared(arguments, whole, index):
            body["sets"] = {**body.get("sets", {}), whole.name: known}
            write(arguments.out, body)


def command(arguments: argparse.Namespace) -> str:
    """The line that gives the same tables, with what decides them."""
    sizes = f"--queries {arguments.queries} --depth {arguments.depth} --passage-tokens {arguments.passage_tokens}"
    files = "--set SETS --short QUERIES --cache DIR"
    rankers = f"--rankers {' '.join(arguments.rankers)}"
    if arguments.everywhere:
        rankers += f" --everywhere {' '.join(arguments.everywhere)}"
    return f"python benchmarks/bench_rerank.py {files} {sizes} --upon {' '.join(arguments.upon)} {rankers}"


def write(path: Path, body: dict[str, Any]) -> None:
    """Both files."""
    path.write_text(json.dumps(body, indent=1) + "\n")
    path.with_suffix(".md").write_text(page(body))


if __name__ == "__main__":
    main()
