"""The set of documented functions: what a function and its question are in each language, and which of them stay."""

from __future__ import annotations

import random
import sys
import zipfile

import pytest
from tests_packages import deb, npm

from unabridged.errors import CorpusError, MissingExtra
from unabridged.eval.evidence import read_record
from unabridged.eval.local_sets import codesearch as recipe
from unabridged.eval.local_sets import codesearch_packages
from unabridged.eval.local_sets.build import build
from unabridged.eval.local_sets.codesearch_comments import query
from unabridged.eval.local_sets.codesearch_functions import GRAMMARS, commented
from unabridged.eval.local_sets.codesearch_near import NEAR, Distinct, shingles
from unabridged.eval.local_sets.codesearch_packages import SOURCES, Source
from unabridged.eval.sets import facts, read_beir
from unabridged.training.public_texts import ORIGINS

BODIES = {
    "javascript": "/**\n * Adds one number to another one.\n * @param {number} a\n */\n"
    "export const add = (a, b) => {\n  const sum = a + b;\n  return sum;\n};\n",
    "typescript": "class A {\n  /** Adds one number to another one. */\n  @bound()\n"
    "  add(a: number, b: number): number {\n    return a + b;\n  }\n}\n",
    "go": "// Add adds one number to another one.\n//\n// It never fails.\n"
    "func (n N) Add(a, b int) int {\n\treturn a + b\n}\n",
    "rust": "impl N {\n    /// Adds one number to another one.\n    ///\n    /// # Panics\n    /// Never.\n"
    "    #[inline]\n    pub fn add(a: i32, b: i32) -> i32 {\n        a + b\n    }\n}\n",
    "java": "class A {\n  /**\n   * Adds one number to another one. \n   * @return the sum\n   */\n  @Override\n"
    "  public int add(int a, int b) {\n    return a + b;\n  }\n}\n",
    "php": "<?php\nclass A\n{\n    /**\n     * Adds one number to another one.\n     *\n     * @param int $a\n     */\n"
    "    public function add($a, $b)\n    {\n        return $a + $b;\n    }\n}\n",
}
TEXTS = {
    "javascript": "export const add = (a, b) => {\n  const sum = a + b;\n  return sum;\n};",
    "typescript": "add(a: number, b: number): number {\n  return a + b;\n}",
    "go": "func (n N) Add(a, b int) int {\n\treturn a + b\n}",
    "rust": "pub fn add(a: i32, b: i32) -> i32 {\n    a + b\n}",
    "java": "@Override\npublic int add(int a, int b) {\n  return a + b;\n}",
    "php": "public function add($a, $b)\n{\n    return $a + $b;\n}",
}


@pytest.mark.parametrize("language", GRAMMARS)
def test_a_function_is_found_with_its_comment_in_every_language(language):
    [found] = commented(language, BODIES[language])
    assert found.text == TEXTS[language]
    lines = BODIES[language].splitlines()
    assert lines[found.line - 1].strip() == found.text.splitlines()[0].strip()
    assert lines[found.last - 1].strip() == found.text.splitlines()[-1].strip()
    asked = "adds one number to another one." if language == "go" else "Adds one number to another one."
    assert query(found.comment, found.text) == asked


@pytest.mark.parametrize("language", GRAMMARS)
def test_sources_of_any_kind_never_stop_the_search_for_functions(language):
    chance = random.Random(language)
    source = BODIES[language].replace("number", "nümber \U0001f600")
    assert len(list(commented(language, source.replace("\n", "\r\n")))) == 1
    for _ in range(150):
        at, size = chance.randrange(len(source)), chance.randrange(9)
        broken = source[:at] + chance.choice(["", "{", "\ud800", "/**", "\0", "é"]) + source[at + size :]
        for one in commented(language, broken):
            assert one.text
            assert 1 <= one.line <= one.last <= broken.count("\n") + 1
    assert list(commented(language, "")) == []


def test_only_a_comment_that_documents_the_function_itself_asks():
    javascript = """
const a = 1; /** about a and nothing else */
function one() {}
/** far above, a blank line lies between */

function two() {}
// not documentation
function three() {}
/** about the first */
function four() {
  /** inside a documented one */
  function inner() {}
}
(function () {
  /** inside a silent one */
  function five() {}
})();
object.method = function () {}; /** behind */
/** of an assignment */
object.other = async function () {
  return 1;
};
/** of a call, which is no function */
describe("x", function () {});
"""
    found = [(one.comment, one.text.split("(")[0]) for one in commented("javascript", javascript)]
    assert found == [
        ("/** about the first */", "function four"),
        ("/** inside a silent one */", "function five"),
        ("/** of an assignment */", "object.other = async function "),
    ]
    go = "//go:noinline\nfunc a() {}\n\n// Second line\n// of two.\nfunc b() {}\n"
    assert [one.comment for one in commented("go", go)] == ["//go:noinline", "// Second line\n// of two."]


def test_a_tree_as_deep_as_you_like_is_walked():
    nested = "(" * 3000 + ")" * 3000
    assert list(commented("javascript", f"x = {nested};")) == []


@pytest.mark.parametrize(
    ("comment", "asked"),
    [
        ("/** Draws {@link Line|a line} from <b>here</b> to `there`. */", "Draws a line from here to there ."),
        ("/**\n * Draws {@link Line} with\n * two ends here.\n *\n * More.\n */", "Draws Line with two ends here."),
        ("/* ** Reads the\n** whole of a file. */", "Reads the whole of a file."),
        ("/// Reads the [`File`](std::fs) to its end.\n/// # Errors\n/// None.", "Reads the File to its end."),
        ("Return a L{Deferred} that fires once later.", "Return a Deferred that fires once later."),
        ("Return the :class:`Graph` of all five nodes.", "Return the Graph of all five nodes."),
        ("// draw draws one line after another.", "draws one line after another."),
        ("/** {@inheritDoc} */", ""),
        ("/**\n * @param a what is drawn by this one\n */", ""),
        ("/** Draws a line. */", ""),
        ("/** TODO: draw the line from here to there. */", ""),
        ("/** Zeichnet eine schöne Linie von hier nach dort. */", ""),
        ("/** draw the secret line of code */", ""),
        (f"/** {'word ' * 61}*/", ""),
        ("//\n// ------\n//", ""),
    ],
)
def test_a_question_is_the_first_paragraph_in_plain_words(comment, asked):
    text = "function draw(x) {\n  // draw the  secret line\n  // of code\n}".replace("line\n  // of", "line of")
    assert query(comment, text) == asked


def jaccard(one, two):
    a, b = shingles(one), shingles(two)
    return len(a & b) / len(a | b)


def test_a_text_stays_exactly_when_no_kept_one_is_near():
    chance = random.Random(5)
    words = [f"w{n}" for n in range(40)]
    texts = []
    for _ in range(120):
        base = list(chance.choice(texts).split()) if texts and chance.random() < 0.7 else chance.choices(words, k=60)
        for _ in range(chance.randrange(6)):
            base[chance.randrange(len(base))] = chance.choice(words)
        texts.append(" ".join(base))
    held, kept = Distinct(), []
    for text in texts:
        expected = all(jaccard(text, other) < NEAR for other in kept)
        assert held.add(text) is expected
        kept += [text] * expected
    assert 10 < len(kept) < 110, "some of them are near, some are not"


def test_short_and_empty_texts_are_compared_too():
    held = Distinct()
    assert [held.add(text) for text in ("a b", "a  b", "", " ", "b a")] == [True, False, True, False, True]


def body(name, statements):
    return "".join(f"  {name}_{n} = {name}_{n + 1} + {n};\n" for n in range(statements))


def function(name, about, statements=4):
    return f"/** {about} {name} in some way. */\nfunction {name}() {{\n{body(name, statements)}}}\n"


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Two small packages, one of either registry's kind, in the place of the real ones."""
    folder = tmp_path / "packages"
    long = recipe.LONG // 6 + 1  # a statement has six words and marks
    scripts = {
        "lib/a.js": function("alpha", "Computes the great") + function("beta", "Makes one long", long),
        "lib/copy.js": function("beta", "Copies one long", long).replace("beta_3 ", "beta_x "),
        "lib/same.js": "".join(function(f"same{n}", "Does").replace(f"same{n} in", "it in") for n in range(4)),
        "lib/pair.js": "".join(function(f"pair{n}", "Does").replace(f"pair{n} in", "two in") for n in range(2)),
        "lib/tests/t.js": function("tested", "Tests the very"),
        "lib/a.min.js": function("small", "Makes the very"),
        "lib/short.js": "/** Is too short to be asked. */\nfunction short() {}\n",
    }
    npm(folder, "@some/thing", "1.0.0", {name: text.encode() for name, text in scripts.items()})
    inner = '    def inner():\n        """Says what the inner one does."""\n        a = 1\n        b = 2\n'
    module = f'def outer():\n    """Says what the outer one does."""\n    x = 1\n    y = 2\n{inner}    return inner\n'
    with zipfile.ZipFile(folder / "pack-2.0-py3-none-any.whl", "w") as archive:
        archive.writestr("pack/one.py", module)
        archive.writestr("pack/broken.py", "def f(:\n")
    deb(folder, "gopack", {"usr/share/go/src/one.go": (BODIES["go"].replace("return", "a++\n\treturn")).encode()})
    sources = (
        Source("python", "pack==2.0", "MIT", "", ".py"),
        Source("javascript", "npm:@some/thing@1.0.0", "ISC", "lib", ".js"),
        Source("go", "deb:gopack", "BSD-3-Clause", "usr/share/go/src", ".go"),
    )
    monkeypatch.setattr(recipe, "SOURCES", sources)
    monkeypatch.setenv("PATH", str(tmp_path))
    return folder


def test_the_set_has_documented_functions_with_where_they_are_from(packages, tmp_path):
    record = build("codesearch", tmp_path / "out", packages)
    found = read_beir(tmp_path / "out" / "codesearch")
    texts = {one.id: one for one in found.corpus}
    names = [one.text.split("(")[0].split()[-1] for one in texts.values() if not one.id.startswith("go/")]
    assert sorted(names) == ["alpha", "beta", "outer", "pair0", "pair1", *(f"same{n}" for n in range(4))]
    assert texts["go/one.go:4"].text.startswith("func (n N) Add(")
    alpha = texts["javascript/@some/thing/a.js:2"]
    assert alpha.title == "@some/thing/a.js"
    assert alpha.text == f"function alpha() {{\n{body('alpha', 4)}}}"
    assert dict(alpha.metadata) == {
        "language": "javascript",
        "package": "npm:@some/thing@1.0.0",
        "version": "1.0.0",
        "licence": "ISC",
        "lines": [2, 7],
        "pieces": recipe.PIECE.findall(alpha.text).__len__(),
    }
    asked = {one.id: one.text for one in found.queries}
    assert asked["javascript/@some/thing/a.js:2"] == "Computes the great alpha in some way."
    assert asked["python/pack/one.py:1"] == "Says what the outer one does."
    assert asked["go/one.go:4"] == "adds one number to another one."
    assert record == read_record(tmp_path / "out" / "codesearch")
    assert record["revision"] == facts(found).revision


def test_one_question_about_a_few_functions_is_answered_by_each_and_about_many_is_none(packages, tmp_path):
    build("codesearch", tmp_path / "out", packages)
    found = read_beir(tmp_path / "out" / "codesearch")
    asked = [one.text for one in found.queries]
    assert asked.count("Does two in some way.") == 1
    assert "Does it in some way." not in asked, f"more than {recipe.SHARED} functions do it"
    [pair] = [one.id for one in found.queries if one.text == "Does two in some way."]
    assert sorted(found.qrels[pair]) == ["javascript/@some/thing/pair.js:2", "javascript/@some/thing/pair.js:9"]


def test_the_record_counts_by_language_and_by_package(packages, tmp_path):
    record = build("codesearch", tmp_path / "out", packages)
    assert record["languages"]["javascript"] == {"documents": 8, "long": 1, "queries": 3, "long_queries": 1}
    assert record["languages"]["python"] == {"documents": 1, "long": 0, "queries": 1, "long_queries": 0}
    assert [(one["package"], one["version"], one["licence"], one["documents"]) for one in record["sources"]] == [
        ("pack==2.0", "2.0", "MIT", 1),
        ("npm:@some/thing@1.0.0", "1.0.0", "ISC", 8),
        ("deb:gopack", "1.0-1", "BSD-3-Clause", 1),
    ]
    assert all(len(one["sha256"]) == 64 for one in record["sources"])
    assert set(record["parsers"]) == {"tree-sitter", *(one.package for one in GRAMMARS.values())}


def test_two_builds_have_equal_bytes(packages, tmp_path):
    for name in ("one", "two"):
        build("codesearch", tmp_path / name, packages)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 4
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_long_functions_come_first_and_short_ones_fill_up(packages, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "LONG_DOCUMENTS", 1)
    monkeypatch.setattr(recipe, "DOCUMENTS", 3)
    monkeypatch.setattr(recipe, "SHORT_QUERIES", 1)
    record = build("codesearch", tmp_path / "out", packages)
    assert record["languages"]["javascript"] == {"documents": 3, "long": 1, "queries": 2, "long_queries": 1}


def test_an_archive_that_is_not_the_pinned_one_is_refused(packages, tmp_path, monkeypatch):
    monkeypatch.setattr(codesearch_packages, "SHA256", {"pack==2.0": "0" * 64})
    with pytest.raises(CorpusError, match=r"pack-2\.0-py3-none-any\.whl has the SHA-256 .*expected 0000"):
        build("codesearch", tmp_path / "out", packages)
    assert not (tmp_path / "out" / "codesearch").exists()


def test_without_a_grammar_the_command_that_brings_it_is_said(packages, tmp_path, monkeypatch):
    from unabridged.eval import _syntax

    _syntax.parser.cache_clear()
    monkeypatch.setitem(sys.modules, "tree_sitter_javascript", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "tree_sitter_javascript" else object())
    with pytest.raises(MissingExtra, match=r'pip install "unabridged\[code\]"'):
        build("codesearch", tmp_path / "out", packages)
    _syntax.parser.cache_clear()


def test_no_package_is_one_that_models_are_trained_on_or_another_set_is_made_of():
    trained = " ".join(origin.package.lower() for origin in ORIGINS.values())
    others = trained + " gensim python3 anarchism postgresql perl git manpages janeausten moby-dick @stdlib"
    for source in SOURCES:
        name = source.package.rpartition(":")[2].partition("==")[0].lower()
        bare = name[:1] + name[1:].partition("@")[0]
        assert bare not in others.split(), source
        assert all(word not in bare for word in ("django", "sympy", "networkx", "sqlalchemy", "sqlite", "gensim"))
    assert set(codesearch_packages.SHA256) == {one.package for one in SOURCES if not one.package.startswith("deb:")}
    assert len({one.language for one in SOURCES}) == 7


@pytest.mark.slow
@pytest.mark.network
def test_the_real_packages_give_enough_long_functions_that_are_asked_for(tmp_path):
    record = build("codesearch", tmp_path)
    assert 2000 <= record["documents"] <= 3000
    assert 300 <= record["queries"] <= 800
    assert sum(one["long_queries"] for one in record["languages"].values()) >= 250
    found = read_beir(tmp_path / "codesearch")
    assert facts(found).duplicate_share == 0
