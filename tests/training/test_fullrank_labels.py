"""Complete lists: exact with a perfect teacher, read and written in the form that is published."""

import json
import random

import pytest
from tests_rankers import ScriptedModel, request_of, sorting

from unabridged.errors import CorpusError, MissingFile, ServerUnavailable
from unabridged.rankers.contracts import Request
from unabridged.rankers.listwise.engine import ListwiseRanker
from unabridged.rankers.listwise.sliding import MultiPass, Sliding
from unabridged.training.fullrank.labels import Label, read_labels, teach, write_labels


def test_a_perfect_teacher_gives_the_exact_order_of_a_hundred_in_45_calls_or_in_81():
    worths = random.Random(5).sample(range(999), 100)
    right = sorted(range(100), key=lambda place: -worths[place])
    for shrinking, calls in ((True, 45), (False, 81)):
        teacher = ListwiseRanker(ScriptedModel(sorting), MultiPass(shrinking=shrinking))
        taught = teach(teacher, [request_of(worths)])
        assert taught.labels[0].order == tuple(right)
        assert taught.labels[0].final == tuple(f"d{place}" for place in right)
        assert taught.rankings[0].spent.calls == calls
    one_pass = teach(ListwiseRanker(ScriptedModel(sorting), Sliding()), [request_of(worths)])
    assert one_pass.labels[0].order[:10] == tuple(right[:10])
    assert one_pass.labels[0].order != tuple(right)


def test_lists_that_are_partly_the_first_stages_are_left_out_and_named():
    turns = iter(range(100))

    def dying(prompt, sampling, constraint):
        return sorting(prompt, sampling, constraint) if next(turns) < 2 else ServerUnavailable("gone")

    teacher = ListwiseRanker(ScriptedModel(dying), MultiPass())
    taught = teach(teacher, [request_of(range(30), name="a"), Request("q", (), "b")])
    assert taught.labels == ()
    assert [(one.id, one.stage, one.reason) for one in taught.failures] == [
        ("a", "label", "partial"),
        ("b", "label", "too few candidates"),
    ]
    assert "gone" in taught.failures[0].message


def test_labels_are_read_as_written_with_any_id(tmp_path):
    labels = [Label("q 1", ("a b", "c\td", "é\n"), ("é\n", "a b", "c\td")), Label("2", ("x", "y"), ("x", "y"))]
    path = tmp_path / "labels.jsonl"
    write_labels(path, labels)
    assert read_labels(path) == labels
    assert labels[0].order == (2, 0, 1)


def test_a_published_line_with_other_keys_and_numbers_is_read(tmp_path):
    path = tmp_path / "labels.jsonl"
    line = {"qid": 3, "initial_list": [7, 8], "final_list": ["8", "7"], "query": "more"}
    path.write_text(json.dumps(line) + "\n\n", encoding="utf-8")
    assert read_labels(path) == [Label("3", ("7", "8"), ("8", "7"))]


WRONG = {
    "no JSON": "{",
    "no object": "[1]",
    "no lists": '{"qid": "1"}',
    "no qid": '{"initial_list": [], "final_list": []}',
    "an id twice": '{"qid": "1", "initial_list": ["a", "a"], "final_list": ["a", "a"]}',
    "a missing id": '{"qid": "1", "initial_list": ["a", "b"], "final_list": ["a"]}',
    "a strange id": '{"qid": "1", "initial_list": ["a", "b"], "final_list": ["a", "c"]}',
    "an id again": '{"qid": "1", "initial_list": ["a", "b"], "final_list": ["a", "b", "a"]}',
    "the query again": '{"qid": "0", "initial_list": ["a", "b"], "final_list": ["a", "b"]}',
}


@pytest.mark.parametrize("name", WRONG)
def test_lines_that_are_no_labels_are_named(tmp_path, name):
    path = tmp_path / "labels.jsonl"
    path.write_text('{"qid": "0", "initial_list": ["a", "b"], "final_list": ["b", "a"]}\n' + WRONG[name])
    with pytest.raises(CorpusError, match=r"labels\.jsonl:2"):
        read_labels(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFile, match="none"):
        read_labels(tmp_path / "none.jsonl")
