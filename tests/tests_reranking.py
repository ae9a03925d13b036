"""Small runs with their texts, models of random weights, and a server whose answers a test writes."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

LM = Path(__file__).parent / "rankers" / "lm"
FILLER = "the the an the an 12 100 the"


def module(name: str):
    spec = importlib.util.spec_from_file_location(name, LM / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def write_set(folder: Path, queries: int = 4, documents: int = 6, long: tuple[int, ...] = ()) -> Path:
    """corpus.jsonl, queries.tsv and run.trec; documents of ``long`` have hundreds of words."""
    rows = [
        {"_id": f"d{n}", "title": f"Title {n}", "text": f"worth {n} " + " ".join([FILLER] * (60 if n in long else 1))}
        for n in range(documents)
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "queries.tsv").write_text("".join(f"q{n}\tquestion {n} worth\n" for n in range(queries)))
    lines = [f"q{q} Q0 d{n} {n + 1} {documents - n} t\n" for q in range(queries) for n in range(documents)]
    (folder / "run.trec").write_text("".join(lines))
    return folder


def ids_of(body: dict) -> list[int]:
    """The ids of the passages in a request."""
    text = body["messages"][-1]["content"]
    return [int(number) for number in re.findall(r"^\[(\d+)\] ", text, re.MULTILINE)]


def reversing(body: dict, usage: tuple[int, int] = (10, 2)) -> dict:
    """The answer that puts the last first."""
    text = " > ".join(f"[{number}]" for number in reversed(ids_of(body)))
    return module("scripted_server").answer(text, usage=usage)
