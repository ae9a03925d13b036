"""The passkey generator against the published statistics of the original."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unabridged.errors import UsageError
from unabridged.eval.synth import passkey as module
from unabridged.eval.synth.passkey import LENGTHS, NAMES, filled, needle, passkey, question
from unabridged.eval.synth.published import PUBLISHED_EDGES, Characters, characters
from unabridged.eval.synth.published import published as their
from unabridged.eval.synth.records import boundaries, insert

TABLE = {
    256: (167, 787, 866, 890, 87_524, 8),
    512: (359, 1_697, 1_776, 1_800, 178_519, 3),
    1024: (743, 3_519, 3_598, 3_622, 360_718, 2),
    2048: (1_511, 7_154, 7_233, 7_257, 724_219, 3),
    4096: (3_047, 14_430, 14_509, 14_533, 1_451_816, 0),
    8192: (6_119, 28_983, 29_062, 29_086, 2_907_116, 0),
    16384: (12_263, 58_086, 58_165, 58_189, 5_817_416, 0),
    32768: (24_551, 116_292, 116_371, 116_395, 11_638_016, 0),
}
"""L: words of filler, their characters, least, most and all characters of 100 documents, edge needles; published."""


def published(length: int) -> tuple[int, int, int]:
    """Least, most and all characters, from the description that mteb ships where it is installed."""
    spec = importlib.util.find_spec("mteb")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "descriptive_stats" / "Retrieval" / "LEMBPasskeyRetrieval.json"
        if path.is_file():
            stats = json.loads(path.read_text())[f"test_{length}"]["documents_text_statistics"]
            return stats["min_text_length"], stats["max_text_length"], stats["total_text_length"]
    return TABLE[length][2:5]


@pytest.mark.parametrize("length", LENGTHS)
def test_characters_are_those_of_the_published_set_up_to_the_edge_needles(length):
    words, characters, *_, published_edges = TABLE[length]
    least, most, total = published(length)
    made = passkey(length)
    hay = filled(words)
    assert len(hay.split(" ")) == words == 3 * length // 4 - 25
    assert len(hay) == characters
    inside = [len(d.text) for d, r in zip(made.documents, made.records, strict=True) if not r.edge]
    edges = sum(record.edge for record in made.records)
    for document, record in zip(made.documents, made.records, strict=True):
        assert len(document.text) == characters + 1 + (record.end - record.start) + record.edge
    assert min(inside) == least
    assert max(inside) == most == least + 24
    assert sum(map(len, made.texts)) - edges == total - published_edges


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("seed", [0, 11])
def test_with_as_many_edge_needles_as_published_all_statistics_are_equal(length, seed):
    least, most, total = published(length)
    made = passkey(length, seed, edges=PUBLISHED_EDGES[length])
    assert characters(made) == Characters(least, most, total, 100, 50) == their(length)
    assert sum(record.edge for record in made.records) == TABLE[length][-1] == PUBLISHED_EDGES[length]
    assert passkey(length, seed, edges=None) == passkey(length, seed)


def test_published_statistics_are_those_of_the_table_without_mteb_and_none_of_other_lengths(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for length, (_, _, least, most, total, _) in TABLE.items():
        assert their(length) == Characters(least, most, total, 100, 50)
    assert their(300) is None


def test_a_hundred_names_of_8_to_20_characters_and_1258_in_all():
    assert len(NAMES) == len(set(NAMES)) == 100
    assert (min(map(len, NAMES)), max(map(len, NAMES)), sum(map(len, NAMES))) == (8, 20, 1258)
    parts = [part for name in NAMES for part in name.split(" ")]
    assert len(parts) == len(set(parts)) == 200, "no document is found by half of its name"


def test_needle_and_question_have_the_published_sizes_and_words():
    assert len(needle("Ab Cdefgh", "12345")) == 62 + 2 * 9
    assert len(needle("Ab Cdefgh", "12345").split()) == 16
    assert len(question("Ab Cdefgh")) == 25 + 9
    assert "pass key" in needle("A B", "12345")
    assert "passkey" in question("A B")


@pytest.mark.parametrize("length", [256, 4096])
def test_each_question_is_answered_by_exactly_one_document_and_the_record_says_where(length):
    made = passkey(length, seed=3)
    assert len({record.answer for record in made.records}) == 100
    assert len(set(made.questions)) == 50
    for (query, text), row in zip(made.queries, made.relevant, strict=True):
        name = text.removeprefix("what is the passkey for ").removesuffix("?")
        assert [at for at, t in enumerate(made.texts) if name in t] == [row]
        assert made.qrels[query] == {made.documents[row].id: 1}
    for document, record in zip(made.documents, made.records, strict=True):
        line = document.text[record.start : record.end]
        assert line.count(record.answer) == 2
        assert document.text[record.start - 1] == document.text[record.end] == "\n"
        assert record.answer not in document.text.replace(line, "")
        before, after = document.text[: record.start - 1], document.text[record.end + 1 :]
        hay = f"{before} {after}" if before and after else before + after
        assert record.depth == pytest.approx((len(hay) - len(after)) / len(hay), abs=1e-12)
        assert record.edge == (not before or not after)


def test_ids_of_queries_and_documents_differ_so_that_no_evaluator_drops_the_answer():
    made = passkey(256, documents=10, queries=5)
    assert not {d.id for d in made.documents} & {name for name, _ in made.queries}
    assert made.queries[0][0] == "ctx256_query0"


def test_every_sentence_boundary_is_a_possible_place():
    hay = filled(19 * 2 + 6)
    assert boundaries(hay) == [0, 20, 37, 56, 68, 90, 110, 127, 146, 158, 180, 200]
    assert hay.endswith("The plate is round. The cup"), "its end is no boundary"
    found = {round(r.depth * len(hay)) for seed in range(9) for r in passkey(92, seed).records}
    assert found == set(boundaries(hay))


def test_a_line_at_an_edge_keeps_its_empty_part():
    assert insert("A b. C d.", 0, "X.") == ("\nX.\nA b. C d.", 1)
    assert insert("A b. C d.", 5, "X.") == ("A b.\nX.\nC d.", 5)
    assert insert("A b. C d.", 9, "X.") == ("A b. C d.\nX.\n", 10)


def test_equal_seeds_give_equal_bytes_in_another_process_and_other_seeds_do_not():
    code = (
        "import hashlib; from unabridged.eval.synth.passkey import passkey; "
        "print(hashlib.sha256(repr(passkey(512, 7)).encode()).hexdigest())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": salt}, capture_output=True, check=True
        ).stdout
        for salt in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert passkey(512, 7) == passkey(512, 7)
    assert passkey(512, 7).texts != passkey(512, 8).texts


def test_the_published_wording_may_be_given():
    mine = "One two three. Four five six."
    assert passkey(256, documents=4, queries=2, filler=mine).texts[0].count("Four five six.") > 20


def test_the_record_of_a_data_set_holds_what_it_was_made_from():
    record = passkey(256, 5, documents=4, queries=2).as_json([250, 251, 252, 253], "bert")
    assert (record["version"], record["seed"], record["tokenizer"]) == (module.VERSION, 5, "bert")
    assert record["tokens"] == [250, 251, 252, 253]
    assert len(record["records"]) == 4
    json.dumps(record)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 32}, "at least"),
        ({"queries": 101}, "queries <= documents"),
        ({"documents": 101, "queries": 1}, "<= 100"),
        ({"names": ["Al Bo", "Al Bo"], "documents": 2, "queries": 1}, "2 times"),
        ({"names": ["Al Bo", "Al Bob"], "documents": 2, "queries": 1}, "2 times"),
        ({"filler": "no end"}, "ends a sentence"),
        ({"edges": 100}, "edges must number 0 to"),
        ({"edges": -1}, "edges must number 0 to"),
    ],
    ids=["short", "queries", "documents", "twice", "inside-another", "no-sentence", "edges", "negative"],
)
def test_parameters_that_cannot_be_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        passkey(**{"length": 256, **options})
