"""Docstrings that ask for long functions and classes: which code is a document, and what is left of its docstring."""

from __future__ import annotations

import pytest

from unabridged.eval.local_sets.build import build
from unabridged.eval.local_sets.longcode import LEAST
from unabridged.eval.sets import read_beir


def body(name, lines=LEAST // 3 + 1, indent=4):
    """Statements of three words and marks each."""
    return "".join(f"{' ' * indent}{name}_{n} = {n}\n" for n in range(lines))


@pytest.fixture
def built(tmp_path, monkeypatch):
    """The set of a library that is one module of the given text."""

    def built(text):
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "one.py").write_text(text)
        monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path / "lib"))
        build("longcode", tmp_path / "out")
        found = read_beir(tmp_path / "out" / "longcode")
        return {one.id: one.text for one in found.corpus}, {one.id: one.text for one in found.queries}, found.qrels

    return built


def test_a_long_function_is_asked_by_the_first_paragraph_of_its_docstring(built):
    doc = '    """Turns one thing\n    into another thing.\n\n    More of it.\n    """\n'
    texts, queries, qrels = built(f"import os\n\n\ndef turn():\n{doc}{body('v')}")
    assert texts == {"one.py:4": f"def turn():\n{body('v')}".strip()}
    assert queries == {"one.py:4": "Turns one thing into another thing."}
    assert qrels == {"one.py:4": {"one.py:4": 1}}


def test_a_document_has_no_fewer_words_and_marks_than_said(built):
    # Five are def f(): and six are the quotes on both sides.
    short, enough = "    " + "a " * (LEAST - 12), "    " + "a " * (LEAST - 11)
    doc = '    """Says what {} is all about."""\n'
    code = "def f():\n{}    '''\n{}\n    '''\n"
    fits = code.format(doc.format("this"), enough)
    lacks = code.format(doc.format("that"), short)
    texts, _, _ = built(fits + lacks)
    assert list(texts) == ["one.py:1"]


def test_documents_do_not_overlap(built):
    inner = f'    def inner(self):\n        """What the inner method does."""\n{body("i", indent=8)}'
    outer = f'class Outer:\n    """What the outer class does."""\n{inner}{body("o")}'
    bare = f"    def bare(self):\n{body('b', indent=8)}"
    other = f'class Other:\n    """What the other class does."""\n{bare}'
    texts, queries, _ = built(outer + other + f"class Silent:\n{bare}")
    assert list(queries.values()) == ["What the inner method does.", "What the other class does."]
    assert [text.split("(")[0].split(":")[0] for text in texts.values()] == ["def inner", "class Other", "class Silent"]
    assert "What the" not in "".join(texts.values())


def test_code_that_says_too_little_is_a_distractor(built):
    doc = '    """{}"""\n'
    functions = [
        f"def f():\n{body('a')}",
        f"def f():\n{doc.format('Only three words.')}{body('b')}",
        f"def f():\n{doc.format('What this one does here.')}    # It is WHAT this\n    # one\n{body('c')}",
        f"def f():\n{doc.format('What is said once more.')}    # It is WHAT is  said once more.\n{body('d')}",
    ]
    documents, queries, _ = built("".join(functions))
    assert len(documents) == 4
    assert list(queries.values()) == ["What this one does here."]


def test_equal_docstrings_share_judgements_and_equal_code_is_one_document(built):
    code = f'def f():\n    """What these two functions do."""\n{body("v")}'
    texts, queries, qrels = built(code + code + code.replace("v_", "w_"))
    second = 2 * (len(code.splitlines())) + 1
    assert list(texts) == ["one.py:1", f"one.py:{second}"]
    assert list(queries.values()) == ["What these two functions do."]
    assert qrels == {"one.py:1": dict.fromkeys(texts, 1)}


@pytest.mark.slow
def test_the_running_library_has_enough_of_them_and_none_repeats_its_query(tmp_path):
    first, second = build("longcode", tmp_path / "1"), build("longcode", tmp_path / "2")
    assert first == second
    assert first["queries"] >= 200
    found = read_beir(tmp_path / "1" / "longcode")
    texts = {one.id: one.text for one in found.corpus}
    assert min(map(len, texts.values())) > 2_000
    for query in found.queries:
        assert not [one for one in found.qrels[query.id] if query.text in " ".join(texts[one].split())]
