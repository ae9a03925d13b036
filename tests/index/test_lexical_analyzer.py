"""The analyzer against bm25s on ordinary text, and against itself on hostile text."""

import copy
import json
import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unabridged.errors import UsageError
from unabridged.index.lexical import Analyzer
from unabridged.index.lexical.analyzer import DEFAULT_PATTERN

SAME_PATTERN_BY_ANOTHER_NAME = DEFAULT_PATTERN + "(?#)"
TEXTS = [
    "The quick brown fox jumps over the lazy dog; it's 2 o'clock!",
    "naïve café — the Straße, 東京都 and Ελλάδα. 🙂 emoji🙂inside x86_64",
    "",
    "the and of",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("stemmer", [None, "english"])
def test_terms_are_those_of_bm25s(text, stemmer):
    bm25s = pytest.importorskip("bm25s")
    stem = None if stemmer is None else pytest.importorskip("Stemmer").Stemmer(stemmer)
    expected = bm25s.tokenize([text], stopwords="english", stemmer=stem, return_ids=False, show_progress=False)
    assert Analyzer(stemmer=stemmer).analyze(text) == [term for term in expected[0] if term]  # '' stands for no term


def test_stop_words_are_those_of_bm25s_without_running_its_import():
    code = (
        "import logging, sys; from unabridged.index.lexical import Analyzer\n"
        "assert 'the' in Analyzer().settings['stopwords']\n"
        "assert 'nicht' in Analyzer(stopwords='german').settings['stopwords']\n"
        "assert not {'bm25s', 'numba', 'Stemmer', 'torch'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert logging.getLogger().level != logging.DEBUG


def test_lowering_moves_no_character():
    text = "İSTANBUL İİ Boğaz"
    terms, starts = Analyzer(stopwords="none").analyze_with_starts(text)
    assert starts == [0, 9, 12]
    assert terms == [text[0:8].lower(), text[9:11].lower(), "boğaz"]
    assert Analyzer(stopwords="none").analyze(text.lower().replace("i̇", "İ")) == terms


def test_starts_point_at_the_tokens():
    text = "a Bee, the SEA 🙂🙂 dee_1 naïve"
    terms, starts = Analyzer().analyze_with_starts(text)
    assert terms == ["bee", "sea", "dee_1", "naïve"] == Analyzer().analyze(text)
    assert [text[start : start + len(term)].lower() for term, start in zip(terms, starts, strict=True)] == terms


@given(st.text(alphabet="abİé 🙂_.\n", max_size=60), st.lists(st.integers(0, 70), max_size=8))
def test_segments_partition_the_tokens_by_where_each_begins(text, cuts):
    starts = [0, *sorted(cuts)]
    analyzer = Analyzer(stopwords="none")
    tokens, begins = [], []
    for match in analyzer._regex.finditer(text):
        tokens.append(match.group())
        begins.append(match.start())
    expected = [[] for _ in starts]
    for token, begin in zip(tokens, begins, strict=True):
        expected[max(i for i, start in enumerate(starts) if start <= begin)].append(token)
    assert list(analyzer.split(text, starts)) == expected
    general = Analyzer(pattern=SAME_PATTERN_BY_ANOTHER_NAME, stopwords="none")
    assert list(general.split(text, starts)) == expected


def test_settings_come_back_from_json_and_name_every_stop_word():
    analyzer = Analyzer(stopwords="english", stemmer="english")
    again = Analyzer.from_settings(json.loads(json.dumps(analyzer.settings)))
    assert again.settings == analyzer.settings
    assert again.analyze("the running dogs") == ["run", "dog"]
    assert Analyzer(stopwords=("the",)).settings != analyzer.settings


def test_an_analyzer_can_be_copied_after_use():
    analyzer = Analyzer(stemmer="english")
    analyzer.analyze("running")
    assert copy.deepcopy(analyzer).analyze("running") == ["run"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "("}, "not a regular expression"),
        ({"pattern": r"(\w)(\w)"}, "2 capture groups"),
    ],
)
def test_a_bad_pattern_is_refused_at_once(options, message):
    with pytest.raises(UsageError, match=message):
        Analyzer(**options)


@pytest.mark.parametrize("options", [{"stopwords": "klingon"}, {"stemmer": "klingon"}])
def test_an_unknown_language_is_refused_with_the_known_ones(options):
    with pytest.raises(UsageError, match=r"klingon.*english"):
        Analyzer(**options).analyze("some text")


def test_a_token_that_is_no_unicode_passes():
    analyzer = Analyzer(pattern=r"\S+", stemmer="english")
    assert analyzer.analyze("run \ud800ing") == ["run", "\ud800ing"]


def test_empty_matches_are_no_terms():
    assert Analyzer(pattern=r"\w*", stopwords="none").analyze("a, b") == ["a", "b"]
