"""Index fourteen long speeches with the embedded model and ask them questions.

Every answer lies thousands of tokens into its speech: what reads only the first 512 tokens cannot find it.
Run it twice: the second time nothing is encoded again.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import unabridged as ub
from unabridged.apps.indexing import describe
from unabridged.apps.progress import progress
from unabridged.retrievers.opened import Index

DATA = Path(__file__).parent / "data"
OUT = Path("demo-index")
SHOWN = 240
QUESTION = "Who attacked the settlers in Minnesota?"


def main() -> None:
    corpus = ub.read_corpus(DATA / "speeches.jsonl.gz")
    encoder = ub.load_encoder()
    with progress() as listener:
        index = ub.build_index(corpus, encoder, OUT, progress=listener)
    print(describe(index.build_report, OUT), "\n")

    answers = json.loads((DATA / "answers.json").read_text(encoding="utf-8"))
    with (DATA / "questions.tsv").open(encoding="utf-8", newline="") as file:
        questions = list(csv.reader(file, delimiter="\t"))
    found = shown = 0
    results = index.search([text for _, text in questions], k=1)
    for (name, question), result in zip(questions, results, strict=True):
        hit, answer = result[0], answers[name]
        before = int(encoder.count_tokens([index.source(hit.doc_id)[: hit.span.start]])[0])
        right = hit.doc_id == answer["doc_id"]
        overlaps = right and hit.span.start < answer["end"] and answer["start"] < hit.span.end
        found += right
        shown += overlaps
        print(f"Q  {question}")
        print(f"   {hit.doc_id}, characters {hit.span.start:,}-{hit.span.end:,} ({before:,} tokens into the document)"
              f"{'' if overlaps else '   [the answer stands elsewhere]'}")  # fmt: skip
        print(f"   {_around(hit.span.text, hit.span.start, answer if overlaps else None)}\n")
    print(f"{found} of {len(questions)} questions find their speech first; {shown} spans hold the answer itself.\n")

    print(f"{'ledger: document':24} {'tokens':>8} {'read':>8} {'windows':>8}")
    for line in index.ledger():
        print(f"{line.doc_id:24} {line.tokens_total:8,} {line.tokens_seen:8,} {line.segments:8,}")
    report = index.state.summary()
    print(f"{'all':24} {report['tokens_total']:8,} {report['tokens_seen']:8,} {report['segments']:8,}")
    if report["tokens_seen"] != report["tokens_total"]:
        raise SystemExit("some tokens were not read")
    _answer(index)
    print('\nNothing was truncated. Try:  .venv/bin/unabridged ask demo-index "your own question"')


def _answer(index: Index) -> None:
    """One question answered by the embedded language model, with the passage that says it."""
    print("\nAsking the embedded language model, which is small and reads 400 tokens of passages:")
    found = ub.answer(QUESTION, index, k=30, budget=400, max_tokens=48)
    print(f"Q  {found.question}")
    print(f"A  {found.cited}" if found.found else f"A  Not found in these documents ({found.why}): {found.text}")
    for one in found.citations:
        if index.source(one.doc_id)[one.start : one.end] != one.text:
            raise SystemExit("a citation is not what stands in its document")
        print(f"   [{one.number}] {one.doc_id}, characters {one.start:,}-{one.end:,}: {' '.join(one.text.split())}")
    seconds = found.timings["generate_ms"] / 1000
    print(f"   {seconds:.1f} s; ~ marks a source found by the words of the answer, not named by the model")


def _around(text: str, start: int, answer: dict[str, int] | None) -> str:
    """The part of a span to show: from the answer on, where it is known."""
    first = max(0, answer["start"] - start) if answer else 0
    return " ".join(text[first : first + SHOWN].split()) + " ..."


if __name__ == "__main__":
    main()
