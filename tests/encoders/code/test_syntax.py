"""Trees against what the text says by eye and by Python's own parser, and hostile inputs."""

import ast
import inspect
import textwrap

import numpy as np
import pytest
from tests_code import SOURCES

from unabridged.encoders import plan, windows
from unabridged.encoders.code import syntax
from unabridged.encoders.code.detect import syntax_of
from unabridged.encoders.code.languages import LANGUAGES
from unabridged.encoders.code.syntax import ELEMENT, TooLong, parse, rank

PYTHON = LANGUAGES["python"]


def lines_of(text, characters):
    return [text.count("\n", 0, place) + 1 for place in characters]


def last_code_line(text):
    """Comments behind a last statement belong to its block in one tree and to nothing in the other."""
    lines = text.split("\n")
    while not lines[-1].strip() or lines[-1].lstrip().startswith("#"):
        lines.pop()
    return len(lines)


@pytest.mark.parametrize("module", [windows, plan, syntax, textwrap, inspect, ast], ids=lambda module: module.__name__)
def test_python_definitions_and_statements_are_those_of_pythons_own_parser(module):
    text = inspect.getsource(module)
    found = parse(text, PYTHON)
    tree = ast.parse(text)
    defined = [
        node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef))
    ]
    longer = {(node.lineno, node.end_lineno) for node in defined if node.end_lineno > node.lineno}
    signed = lines_of(text, found.signatures[:, 0])
    ends = [last_code_line(text[:end]) for end in found.definitions[:, 1]]
    assert set(zip(signed, ends, strict=True)) == longer
    top = {min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) for node in tree.body}
    best = found.places[found.ranks >= rank(0, definition=False)]
    marked = lines_of(text, best)
    # A comment above a statement is where the statement's cut is.
    above = {line for line in marked if text.split("\n")[line - 1].lstrip().startswith("#")}
    assert set(marked) - above <= top
    for line in top - set(marked):
        assert text.split("\n")[line - 2].lstrip().startswith("#")


@pytest.mark.parametrize("name", SOURCES)
def test_places_begin_lines_and_rise_and_definitions_lie_in_the_text(name):
    text = SOURCES[name]
    found = parse(text, LANGUAGES[name])
    assert found.errors == 0
    assert len(found.places) > 8
    assert (np.diff(found.places) > 0).all()
    assert found.ranks.min() >= ELEMENT
    for place in found.places:
        assert not text[text.rfind("\n", 0, place) + 1 : place].strip()
        assert not text[place].isspace()
    assert len(found.definitions) >= 1
    for (start, end), (first, last) in zip(found.definitions, found.signatures, strict=True):
        assert 0 <= start < last < end <= len(text)
        assert first < last


def test_characters_are_counted_and_not_bytes_and_the_title_is_counted_too():
    plain = "def a():\n    x = 1\n    return x\n\n\ndef b():\n    return 2\n"
    title = "größe/日本🙂.py "
    wide = plain.replace("x = 1", "x = '日本🙂é'")
    for text, start in ((plain, 0), (title + plain, len(title)), (title + wide, len(title))):
        found = parse(text, PYTHON, start)
        assert text[found.definitions[1, 0] :] == "def b():\n    return 2\n"
        assert text[slice(*found.signatures[1])] == ("def b():\n    ")


def test_half_a_surrogate_pair_is_one_character():
    text = "a = '\ud83d'\ndef b():\n    return '\ude42'\n\n\nc = 1\n"
    found = parse(text, PYTHON)
    assert text[found.definitions[0, 0] :].startswith("def b():")
    assert text[found.places[-1] :] == "c = 1\n"


def test_a_broken_bracket_hides_no_definition_behind_it():
    text = "x = (\n\n\ndef a():\n    return 1\n\n\ndef b():\n    return 2\n"
    found = parse(text, PYTHON)
    assert 0 < found.errors < 0.5
    assert {text.index("def a"), text.index("def b")} <= set(found.places.tolist())


@pytest.mark.parametrize("name", LANGUAGES)
@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        "(\n" * 20_000,
        "{\n" * 20_000 + "}\n" * 20_000,
        "if x:\n" + "".join("    " * depth + "if x:\n" for depth in range(1, 300)) + "    " * 300 + "y\n",
        "\x00\n" * 1000,
        "\ufeff",
        '"' * 9_999,
    ],
    ids=["brackets", "brackets on lines", "blocks", "conditions", "zeros", "mark", "quotes"],
)
def test_hostile_texts_are_parsed_without_recursion(name, text):
    found = parse(text, LANGUAGES[name])
    assert 0 <= found.errors <= 1
    assert len(found.places) == len(found.ranks)


def test_a_text_over_the_limit_is_not_parsed_and_says_so(monkeypatch):
    monkeypatch.setattr(syntax, "MAX_BYTES", 100)
    with pytest.raises(TooLong, match="101 bytes are more than the 100 that are parsed"):
        parse("x" * 101, PYTHON)


def test_a_tree_over_the_limit_is_left_and_the_text_is_cut_at_lines(monkeypatch):
    monkeypatch.setattr(syntax, "MAX_NODES", 50)
    with pytest.raises(TooLong, match="more than 50 nodes"):
        parse("(\n" * 100, PYTHON)
    found = syntax_of("a.py " + "x = 1\n" * 100)
    assert (found.syntax, found.reason) == (None, "its tree has more than 50 nodes")


def test_a_text_that_takes_too_much_work_is_given_up_at_the_same_step_each_time(monkeypatch):
    monkeypatch.setattr(syntax, "MAX_STEPS", 3)
    with pytest.raises(TooLong, match="parsing as python takes more than 3 hundred steps"):
        parse(inspect.getsource(inspect), PYTHON)
    assert parse("x = 1\n", PYTHON).errors == 0
