"""The scripts in examples: each answers a question from a real index of real speeches, with its sources."""

from __future__ import annotations

import ast
import csv
import gzip
import importlib.util
import json
import re
import runpy
import sys
from pathlib import Path

import pytest

import unabridged as ub
from unabridged.encoders.hashing import HashingEncoder

EXAMPLES = Path(__file__).parents[3] / "examples"
SCRIPTS = ("rag_langchain", "rag_llamaindex", "rag_haystack")
AROUND = 3_000
"""Characters of each speech on both sides of the answer in it, that are indexed."""
SPEECHES = 4


def stretches() -> dict[str, tuple[str, str, str]]:
    """Parts of speeches by the id of a question: the part, the question, the passage that answers it."""
    lines = gzip.decompress((EXAMPLES / "data" / "speeches.jsonl.gz").read_bytes()).decode().splitlines()
    speeches = {one["_id"]: f"{one['title']} {one['text']}" for one in map(json.loads, lines)}
    answers = json.loads((EXAMPLES / "data" / "answers.json").read_text(encoding="utf-8"))
    with (EXAMPLES / "data" / "questions.tsv").open(encoding="utf-8", newline="") as file:
        questions = dict(csv.reader(file, delimiter="\t"))
    found = {}
    for name, answer in list(answers.items())[:SPEECHES]:
        part = speeches[answer["doc_id"]][max(0, answer["start"] - AROUND) : answer["end"] + AROUND]
        found[name] = part, questions[name], answer["text"]
    return found


@pytest.fixture(scope="module")
def speeches():
    return stretches()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A language model of random weights: what it writes is nonsense, what it is shown is not."""
    path = Path(__file__).parents[2] / "rankers" / "lm" / "tiny_language_models.py"
    spec = importlib.util.spec_from_file_location("tiny_language_models", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.llama(tmp_path_factory.mktemp("tiny") / "model", context=4096)


def indexed(speeches, out: Path, encoder) -> Path:
    ub.build_index([{"_id": name, "text": part} for name, (part, _, _) in speeches.items()], encoder, out).close()
    return out


def printed(script: str, arguments: list[str], monkeypatch, capsys) -> tuple[str, list[tuple[str, int, int]]]:
    """The answer, and the sources below it."""
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    runpy.run_path(str(EXAMPLES / f"{script}.py"), run_name="__main__")
    out = capsys.readouterr().out
    sources = re.findall(r"^\[\d+\] (\S+), characters (\d+)-(\d+)$", out, re.MULTILINE)
    answer = re.split(r"^\[1\] ", out, maxsplit=1, flags=re.MULTILINE)[0]
    return answer.strip(), [(name, int(start), int(end)) for name, start, end in sources]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_shows_its_model_the_passage_that_answers(script, speeches, tiny, tmp_path, monkeypatch, capsys):
    folder = indexed(speeches, tmp_path / "ix", HashingEncoder(window=96))
    name, (part, question, passage) = next(iter(speeches.items()))
    _, sources = printed(script, [str(folder), question, str(tiny)], monkeypatch, capsys)
    assert sources
    at = part.index(passage)
    assert any(doc == name and start < at + len(passage) and at < end for doc, start, end in sources)
    assert all(0 <= start < end <= len(speeches[doc][0]) for doc, start, end in sources)


@pytest.fixture(scope="module")
def embedded(speeches, tmp_path_factory) -> Path:
    return indexed(speeches, tmp_path_factory.mktemp("embedded") / "ix", ub.load_encoder())


@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine writes a few tokens a second
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_answers_by_the_embedded_models(script, speeches, embedded, monkeypatch, capsys):
    folder = embedded
    _, question, passage = next(iter(speeches.values()))
    answer, sources = printed(script, [str(folder), question], monkeypatch, capsys)
    assert sources
    told = {word for word in re.findall(r"\w{5,}|\d+", answer.lower())} & set(
        re.findall(r"\w{5,}|\d+", passage.lower())
    )
    assert told - set(re.findall(r"\w+", question.lower())), answer


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_has_at_most_ten_statements_besides_its_imports(script):
    tree = ast.parse((EXAMPLES / f"{script}.py").read_text(encoding="utf-8"))
    inner = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    said = [node for node in inner if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    imports = [node for node in inner if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert len(inner) - len(said) - len(imports) <= 10
