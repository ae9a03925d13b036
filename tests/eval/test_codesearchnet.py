"""CodeSearchNet's layouts, written here by their descriptions, and every way in which a copy can be wrong."""

from __future__ import annotations

import gzip
import json

import pytest
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.errors import CorpusError, MissingFile, UsageError
from unabridged.eval._syntax import without_docstring
from unabridged.eval.codesearchnet import LANGUAGES, CodeText, read_codesearchnet
from unabridged.eval.sets import facts

CODE = {
    "go": "func Add(a int, b int) int {\n\treturn a + b\n}",
    "java": "public int add(int a, int b) {\n    return a + b;\n}",
    "javascript": "function add(a, b) {\n  return a + b;\n}",
    "php": "public function add($a, $b)\n{\n    return $a + $b;\n}",
    "python": 'def add(a, b):\n    """Adds two numbers."""\n    return a + b',
    "ruby": "def add(a, b)\n  a + b\nend",
}


def row(number, language="go", code=None, **changes):
    code = CODE[language] if code is None else code
    return {
        "repo": "some/project",
        "path": f"src/file{number}",
        "func_name": f"add{number}",
        "original_string": code,
        "language": language,
        "code": code,
        "code_tokens": code.split(),
        "docstring": f"Adds  the numbers of case {number}.\n\nMore.",
        "docstring_tokens": ["Adds", "the", "numbers", "of", "case", str(number), "."],
        "sha": "0" * 40,
        "url": f"https://example.org/{language}/{number}#L1-L3",
        "partition": "test",
    } | changes


def write(path, rows, suffix=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(one) + "\n" for one in rows).encode()
    path.with_name(path.name + suffix).write_bytes(gzip.compress(data) if suffix == ".gz" else data)


def cleaned(folder, language="go", candidates=6, asked=(1, 4), **changes):
    """codebase.jsonl with all candidates, and the parts; a candidate's code is its own."""
    rows = [row(n, language, f"{CODE[language]}\n// {n}", **changes) for n in range(candidates)]
    place = folder / language
    write(place / "codebase.jsonl", rows)
    write(place / "test.jsonl", [rows[n] for n in asked])
    write(place / "valid.jsonl", [rows[0]])
    write(place / "train.jsonl", [row(99, language)])
    return rows


def as_published(folder, language="go", suffix=".gz"):
    place = folder / language / "final" / "jsonl"
    rows = [row(n, language, f"{CODE[language]}\n// {n}") for n in range(8)]
    write(place / "train" / f"{language}_train_0.jsonl", [row(99, language)], suffix)
    write(place / "valid" / f"{language}_valid_0.jsonl", rows[:3], suffix)
    write(place / "test" / f"{language}_test_0.jsonl", rows[3:5], suffix)
    write(place / "test" / f"{language}_test_1.jsonl", rows[5:], suffix)
    return rows


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_cleaned_protocol_asks_test_docstrings_of_the_whole_codebase(tmp_path, language):
    rows = cleaned(tmp_path, language)
    found = read_codesearchnet(tmp_path, language)
    assert found.name == f"codesearchnet-{language}"
    assert {one.id: one.text for one in found.queries} == {
        rows[n]["url"]: f"Adds the numbers of case {n} ." for n in (1, 4)
    }
    assert found.qrels == {rows[n]["url"]: {rows[n]["url"]: 1} for n in (1, 4)}
    texts = {one.id: one.text for one in found.corpus}
    expected = [one["code"].replace('    """Adds two numbers."""\n', "") for one in rows]
    assert texts == dict(zip((one["url"] for one in rows), expected, strict=True))
    assert "two numbers" not in "".join(texts.values())


def test_tokens_are_what_the_published_models_read(tmp_path):
    rows = cleaned(tmp_path)
    found = read_codesearchnet(tmp_path, "go", text=CodeText.TOKENS)
    assert [one.text for one in found.corpus] == [" ".join(one["code_tokens"]) for one in rows]


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_the_published_layout_has_the_functions_of_valid_and_test_as_candidates(tmp_path, suffix):
    rows = as_published(tmp_path, suffix=suffix)
    found = read_codesearchnet(tmp_path, "go")
    assert [one.id for one in found.corpus] == [one["url"] for one in rows]
    assert [one.id for one in found.queries] == [one["url"] for one in rows[3:]]
    assert facts(found).unknown == ()
    dev = read_codesearchnet(tmp_path, "go", "valid")
    assert [one.id for one in dev.queries] == [one["url"] for one in rows[:3]]
    assert facts(dev).documents == 8


def test_lists_of_addresses_choose_the_rows_of_the_cleaned_set(tmp_path):
    rows = as_published(tmp_path)
    (tmp_path / "go" / "test.txt").write_text(f"{rows[4]['url']}\n{rows[6]['url']}\n")
    (tmp_path / "go" / "codebase.txt").write_text("\n".join(rows[n]["url"] for n in (0, 4, 6, 7)))
    found = read_codesearchnet(tmp_path, "go")
    assert [one.id for one in found.corpus] == [rows[n]["url"] for n in (0, 4, 6, 7)]
    assert [one.id for one in found.queries] == [rows[n]["url"] for n in (4, 6)]


def test_the_folder_of_a_language_and_the_columns_of_the_hub_are_read_too(tmp_path):
    names = {
        "url": "func_code_url",
        "code": "func_code_string",
        "docstring": "func_documentation_string",
        "docstring_tokens": "func_documentation_tokens",
    }
    rows = [{new: row(n)[old] for old, new in names.items()} for n in range(3)]
    write(tmp_path / "valid.jsonl", rows[:1])
    write(tmp_path / "test.jsonl", rows[1:])
    found = read_codesearchnet(tmp_path, "go")
    assert [one.text for one in found.queries] == ["Adds the numbers of case 1 .", "Adds the numbers of case 2 ."]
    assert len(list(found.corpus)) == 3


def test_copies_with_numbers_instead_of_addresses_and_without_tokens_are_read(tmp_path):
    rows = [{"idx": n, "code": CODE["go"], "docstring": f"Adds  case {n}.\nAll of it."} for n in range(3)]
    write(tmp_path / "go" / "codebase.jsonl", rows)
    write(tmp_path / "go" / "test.jsonl", rows[2:])
    found = read_codesearchnet(tmp_path, "go")
    assert [(one.id, one.text) for one in found.queries] == [("2", "Adds case 2. All of it.")]
    assert found.qrels == {"2": {"2": 1}}


def test_two_functions_at_one_address_are_two_documents_and_answer_the_same_queries(tmp_path):
    same = "https://example.org/one-line#L1-L1"
    rows = [row(1, url=same, code="a"), row(2), row(3, url=same, code="b")]
    write(tmp_path / "go" / "codebase.jsonl", rows)
    write(tmp_path / "go" / "test.jsonl", [rows[0], rows[2]])
    found = read_codesearchnet(tmp_path, "go")
    assert [(one.id, one.text) for one in found.corpus][::2] == [(same, "a"), (f"{same} (2)", "b")]
    assert found.qrels == {name: {same: 1, f"{same} (2)": 1} for name in (same, f"{same} (2)")}
    assert [list(found.corpus), list(found.corpus)][0] == list(found.corpus), "every pass gives the same"


def fails(folder, message, language="go", **options):
    with pytest.raises(CorpusError, match=message):
        list(read_codesearchnet(folder, language, **options).corpus)


def test_errors_name_the_file_and_the_line(tmp_path):
    rows = cleaned(tmp_path)
    place = tmp_path / "go"
    for broken, message in (
        ({**rows[1], "url": ""}, r"test\.jsonl:2: an id must be"),
        ({**rows[1], "language": "java"}, r"test\.jsonl:2: expected language = 'go', found 'java'"),
        ({**rows[1], "docstring_tokens": "Adds"}, r"test\.jsonl:2: .*must be a list of strings"),
        ({**rows[1], "docstring_tokens": [1]}, r"test\.jsonl:2: .*must be a list of strings"),
        ({**rows[1], "docstring_tokens": [" "]}, r"test\.jsonl:2: the docstring must be a text"),
        ({**rows[1], "url": "elsewhere"}, r"test\.jsonl:2: the candidates have no function 'elsewhere'"),
        ({"code": "x"}, r"test\.jsonl:2: expected a field 'url'"),
    ):
        write(place / "test.jsonl", [rows[4], broken])
        fails(tmp_path, message)
    (place / "test.jsonl").write_text(json.dumps(rows[4]) + "\n{not json\n")
    fails(tmp_path, r"test\.jsonl:2: not JSON")
    (place / "test.jsonl").write_text("\n")
    fails(tmp_path, "at least one query")
    write(place / "test.jsonl", [rows[4]])
    write(place / "codebase.jsonl", [*rows[:5], {**rows[5], "code": None}])
    fails(tmp_path, r"codebase\.jsonl:6: the code must be a string, found NoneType")
    write(place / "codebase.jsonl", [*rows[:5], {**rows[5], "code_tokens": None}])
    fails(tmp_path, r"codebase\.jsonl:6: .*list of strings", text=CodeText.TOKENS)


def test_a_damaged_archive_says_so(tmp_path):
    as_published(tmp_path)
    path = tmp_path / "go" / "final" / "jsonl" / "test" / "go_test_1.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-12])
    fails(tmp_path, r"go_test_1\.jsonl\.gz")


def test_what_is_not_there_is_said_with_what_is(tmp_path):
    with pytest.raises(UsageError, match="no language 'cobol'; choose one of go, java"):
        read_codesearchnet(tmp_path, "cobol")
    with pytest.raises(MissingFile, match="no such folder"):
        read_codesearchnet(tmp_path / "nowhere", "go")
    write(tmp_path / "go" / "test.jsonl", [row(1)])
    fails(tmp_path, r"expected test\.jsonl and codebase\.jsonl, .* found test\.jsonl")
    fails(tmp_path, r"expected dev\.jsonl", split="dev")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('def f():\n    """Doc."""\n    return 1', "def f():\n    return 1"),
        ("def f():\n    '''Doc\n\n    of é lines.'''\n\n    return 1\n", "def f():\n\n    return 1\n"),
        ('def f(): "Doc."; return 1', "def f(): ; return 1"),
        ('@cached\ndef f(a="""x"""):\n    # note\n    u"Doc."\n    print 1', None),
        ("def f():\n    return '''no docstring'''", "def f():\n    return '''no docstring'''"),
        ("async def f():\n        'Doc.'\n        pass", "async def f():\n        pass"),
        ("x = 1", "x = 1"),
        ("", ""),
        ('def f():\n    """Doc."""', "def f():\n"),
    ],
)
def test_docstrings_are_left_out_and_nothing_else_is(source, expected):
    if expected is None:
        expected = '@cached\ndef f(a="""x"""):\n    # note\n    print 1'
    assert without_docstring(source) == expected


def command(*arguments):
    return CliRunner().invoke(app, ["eval", "codesearchnet", *map(str, arguments)])


def test_the_command_scores_several_languages_and_says_what_is_wrong(tmp_path):
    cleaned(tmp_path / "data", "go")
    rows = cleaned(tmp_path / "data", "python", candidates=9, asked=(1, 4, 7))
    for one, word in zip(rows, "abcdefghi", strict=True):
        one |= {"code": f"def {word * 4}():\n    return {word * 3}", "docstring_tokens": ["find", word * 3]}
    write(tmp_path / "data" / "python" / "codebase.jsonl", rows)
    write(tmp_path / "data" / "python" / "test.jsonl", [rows[n] for n in (1, 4, 7)])
    options = ["--data", tmp_path / "data", "--out", tmp_path / "out", "--mode", "bm25", "--quiet"]
    done = command(*options, "--language", "go", "--language", "python", "--output", "json")
    assert done.exit_code == 0, done.output
    go, python = json.loads(done.stdout)["runs"]
    assert list(python["measures"]) == ["RR", "R@1", "R@5", "R@10", "R@100"]
    assert python["measures"]["RR"]["value"] == 1.0, "each of the three words is in one function"
    assert (go["set"]["name"], go["set"]["documents"]) == ("codesearchnet-go", 6)
    cut = ["--encoder", "hashing:32", "--mode", "dense", "--split", "lines", "--part", "valid", "--code", "tokens"]
    done = command(*options, *cut, "--language", "go", "--output", "json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["runs"][0]["set"]["name"] == "codesearchnet-go.valid"
    (tmp_path / "data" / "go" / "test.jsonl").write_text("{}\n")
    done = command(*options, "--language", "go")
    assert done.exit_code == 5
    assert "test.jsonl:1" in done.output
