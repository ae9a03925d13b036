"""Which language a text is in: by its title, its first line, what was asked for, or what it looks like."""

import importlib.util
import json
import sysconfig
from pathlib import Path

import pytest
from tests_code import SOURCES

from unabridged.corpora._code import CODE_SUFFIXES, code_title
from unabridged.encoders.code.detect import origin, syntax_of
from unabridged.encoders.code.languages import LANGUAGES, SUFFIXES, grammar, named
from unabridged.errors import MissingExtra, UsageError


@pytest.mark.parametrize("name", SOURCES)
def test_a_text_without_a_name_is_recognised_by_its_syntax(name):
    assert syntax_of(SOURCES[name]).syntax.language == name


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_a_path_in_front_of_the_text_says_the_language_and_is_no_code(suffix):
    name = SUFFIXES[suffix].name
    found = syntax_of(f"src/größe/a{suffix} {SOURCES[name]}")
    assert found.syntax.errors == 0
    assert (found.origin.path, found.origin.start) == (f"src/größe/a{suffix}", len(f"src/größe/a{suffix} "))
    assert found.syntax.language == name


def test_every_suffix_of_a_grammar_is_one_of_a_code_file_and_its_title_is_recognised(tmp_path):
    assert set(SUFFIXES) <= CODE_SUFFIXES
    for suffix, language in SUFFIXES.items():
        path = tmp_path / f"a file\twith spaces{suffix.upper()}.gz"
        title = code_title(path, path.name)
        assert origin(f"{title} x").language is language
        assert origin(f"{title} x").path == f"a%20file%09with%20spaces{suffix.upper()}"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("#!/usr/bin/python3", "python"),
        ("#!/usr/bin/env -S python3 -u", "python"),
        ("#! /usr/bin/env node", "javascript"),
        ("#!/usr/local/bin/ruby -w", "ruby"),
        ("#!/usr/bin/php", "php"),
    ],
)
def test_an_interpreter_in_the_first_line_says_the_language(line, name):
    assert origin(f"{line}\nx = 1\n").language is LANGUAGES[name]


@pytest.mark.parametrize("line", ["#!/bin/sh", "#!/usr/bin/perl", "# python", "python3", "", "main.txt x", ".py x"])
def test_other_first_lines_say_nothing_and_the_setting_counts(line):
    assert origin(f"{line}\nx = 1\n", LANGUAGES["go"]).language is LANGUAGES["go"]


def test_the_title_counts_before_the_first_line_and_that_before_the_setting():
    assert origin("a.rb #!/usr/bin/python\n", LANGUAGES["go"]).language is LANGUAGES["ruby"]
    assert origin("#!/usr/bin/python\n", LANGUAGES["go"]).language is LANGUAGES["python"]


def test_a_header_is_read_as_cpp_where_that_fits_better():
    assert syntax_of(f"a.h {SOURCES['cpp']}").syntax.language == "cpp"
    assert syntax_of(f"a.h {SOURCES['c']}").syntax.language == "c"


def test_php_without_its_tag_is_php():
    text = SOURCES["php"].removeprefix("<?php\n")
    assert syntax_of(f"a.php {text}").syntax.errors == 0


@pytest.mark.parametrize(
    "text",
    [
        "It was the best of times, it was the worst of times.\n" * 30,
        "name,price\ncoffee,3\ntea,2\n" * 30,
        "\x00\x01\x02" * 100,
        "",
        "{{{{((((" * 50,
        "\n".join(f"word{i}" for i in range(5000)) + "\nend\nunless\n",
        ("The chair asked each member, unless one objected, to vote. " * 9 + "\n\n") * 20,
        json.dumps([{"name": f"a {i}", "values": [i, i / 3], "text": "some words"} for i in range(40)], indent=1),
    ],
)
def test_what_is_no_code_is_in_no_language(text):
    found = syntax_of(text)
    assert (found.syntax, found.reason) == (None, "unknown language")


COMMENTS = (
    "/**\n" + " * What is said at length of every function, of why it is so, of how it may be called.\n" * 60 + " */\n"
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("typescript", "export function pairs<T>(): Operator<T, [T, T]> {\n  return (from) => join(from);\n}\n"),
        ("typescript", "export declare function skip<T>(notifier: Input<any>): Operator<T>;\n"),
        ("tsx", "const Mark = ({ size }: Props) => <b style={{ size }}>!</b>;\nexport default Mark;\n"),
        ("javascript", "export * from './a';\nexport { one } from './b';\n"),
        ("java", "package shop;\n\npublic interface Till {\n    void open();\n}\n"),
        ("php", "<?php\n\nnamespace Shop;\n\ninterface Till\n{\n    public function open(): bool;\n}\n"),
        ("rust", "pub fn size(path: &str) -> usize {\n    path.len()\n}\n"),
    ],
)
def test_a_few_lines_below_a_page_of_comments_are_recognised(name, text):
    found = syntax_of(text if name == "php" else COMMENTS + text)
    assert found.syntax is not None, found.reason
    assert found.syntax.language == name


def test_files_of_the_standard_library_are_in_python_without_their_names():
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("[a-m]*.py"))[::2]
    texts = [text for path in files if len(text := path.read_text(encoding="utf-8")) < 40_000]
    found = [syntax_of(text).syntax for text in texts]
    assert len(texts) >= 20
    assert sum(one is not None and one.language == "python" for one in found) >= 0.94 * len(texts)


@pytest.mark.parametrize(("name", "expected"), [("C++", "cpp"), ("c#", "c_sharp"), ("JS", "javascript")])
def test_a_language_has_the_names_that_people_use(name, expected):
    assert named(name).name == expected


def test_an_unknown_language_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match=r"'cobol'.*python, java"):
        named("cobol")


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_missing_grammar_names_the_pip_command(name, monkeypatch):
    found = importlib.util.find_spec
    grammar.cache_clear()
    absent = LANGUAGES[name].module
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None if module == absent else found(module))
    with pytest.raises(MissingExtra, match=rf"pip install {LANGUAGES[name].wheel}, or .*unabridged\[code\]"):
        grammar(LANGUAGES[name])
    grammar.cache_clear()
