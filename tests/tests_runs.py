"""Small sets and systems for tests of runs."""

from __future__ import annotations

from pathlib import Path

from unabridged.apps.pipeline import Pipeline
from unabridged.apps.runs import Record, System, run_system
from unabridged.corpora import Query
from unabridged.encoders.hashing import HashingEncoder
from unabridged.eval.sets import RetrievalSet, facts
from unabridged.eval.synth.passkey import passkey
from unabridged.retrievers.result import Mode


def passkeys(length: int = 512, documents: int = 24, queries: int = 12) -> RetrievalSet:
    """A set whose evidence is known."""
    made = passkey(length, 0, documents=documents, queries=queries)
    asked = tuple(Query(name, text) for name, text in made.queries)
    qrels = {name: {made.documents[row].id: 1} for (name, _), row in zip(made.queries, made.relevant, strict=True)}
    return RetrievalSet(f"passkey{length}", made.documents, asked, qrels)  # type: ignore[arg-type]


def evidence_of(length: int = 512, documents: int = 24, queries: int = 12) -> dict[tuple[str, str], tuple[int, int]]:
    made = passkey(length, 0, documents=documents, queries=queries)
    return {
        (name, made.documents[row].id): (made.records[row].start, made.records[row].end)
        for (name, _), row in zip(made.queries, made.relevant, strict=True)
    }


def system(mode: Mode = Mode.HYBRID, window: int = 64, name: str | None = None) -> System:
    return System(name or f"hashing {mode.value}", HashingEncoder(dim=64, window=window), Pipeline(mode))


def run(out: Path, what: System, whole: RetrievalSet | None = None, **options: object) -> Record:
    whole = whole or passkeys()
    return run_system(whole, facts(whole), what, out, **options)  # type: ignore[arg-type]


def place(out: Path, name: str = "hashing_hybrid", of: str = "passkey512") -> Path:
    return out / "runs" / of / name / "run.json"
