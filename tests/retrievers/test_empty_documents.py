"""A document without a token is there, with a ledger line, and no search is the worse for it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import unabridged as ub
from unabridged.contracts import Encoded, Level
from unabridged.encoders.hashing import HashingEncoder
from unabridged.retrievers.compact import compact

QUERY = "who signed the annex"


class Hub(HashingEncoder):
    """Gives every text without words the vector of the query: the worst neighbour that there can be."""

    def encode_documents(self, texts, **options) -> Encoded:
        found = super().encode_documents(texts, **options)
        worst = self.encode_queries([QUERY])[0]
        documents, segments = found.documents, found.segments
        empty = found.coverage.total == 0
        if documents is not None:
            documents = np.where(empty[:, None], worst, documents)
        if segments is not None:
            segments = np.where(np.repeat(empty, np.diff(found.offsets))[:, None], worst, segments)
        return replace(found, documents=documents, segments=segments)


class Silent(HashingEncoder):
    """An encoder of somebody else: no segment for a text without words, and none for a text with ``mute``."""

    def encode_documents(self, texts, **options) -> Encoded:
        found = super().encode_documents(texts, **options)
        counts = np.diff(found.offsets)
        silent = (found.coverage.total == 0) | np.array(["mute" in text for text in texts])
        kept = np.repeat(~silent, counts)
        offsets = np.concatenate([[0], np.cumsum(np.where(silent, 0, counts))])
        segments = None if found.segments is None else found.segments[kept]
        return replace(found, offsets=offsets, spans=found.spans[kept], tokens=found.tokens[kept], segments=segments)


EMPTY = [{"_id": "nothing", "text": ""}, {"_id": "blank", "text": " \n\t "}, {"_id": "no word", "text": "...", "n": 1}]


def plain(records):
    return [*records, {"_id": "annex", "text": "The annex was signed by nine ministers. " * 40}]


def mixed(records):
    return [EMPTY[0], *plain(records), *EMPTY[1:]]


def test_empty_documents_have_a_ledger_line_and_are_found_by_id(records, tmp_path):
    index = ub.build_index(mixed(records), HashingEncoder(), tmp_path / "ix")
    lines = {line.doc_id: line for line in index.ledger()}
    for item in EMPTY:
        line = lines[item["_id"]]
        assert (line.tokens_total, line.tokens_seen, line.segments, line.status) == (0, 0, 1, "empty")
        assert index.source(item["_id"]) == item["text"]
    assert {lines[record["_id"]].status for record in records} == {"read"}
    report = index.report
    assert (report["failed"], report["empty"], report["documents"]) == (0, 3, len(records) + 4)
    assert not (tmp_path / "ix/failed.jsonl").exists()
    index.verify()


@pytest.mark.parametrize("level", ["segment", "doc", "both"])
@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
def test_a_search_answers_as_if_empty_documents_were_not_there(records, tmp_path, mode, level):
    kept = {"doc": Level.DOC, "segment": Level.SEGMENT, "both": Level.BOTH}[level]
    without = ub.build_index(plain(records), Hub(), tmp_path / "without", level=kept)
    index = ub.build_index(mixed(records), Hub(), tmp_path / "with", level=kept)
    expected = without.search_one(QUERY, k=50, mode=mode, level=level)
    found = index.search_one(QUERY, k=50, mode=mode, level=level)
    assert [(h.doc_id, h.score, h.span) for h in found] == [(h.doc_id, h.score, h.span) for h in expected]
    assert len(found) > 0


def test_a_filter_finds_no_empty_document_either(records, tmp_path):
    index = ub.build_index(mixed(records), Hub(), tmp_path / "ix")
    assert list(index.search_one(QUERY, filter={"n": 1})) == []


def test_an_index_of_nothing_but_empty_documents_answers_nothing(tmp_path):
    index = ub.build_index(EMPTY, HashingEncoder(), tmp_path / "ix")
    assert [line.status for line in index.ledger()] == ["empty"] * 3
    for mode in ("dense", "bm25", "hybrid"):
        assert list(index.search_one(QUERY, mode=mode)) == []


def test_deletion_and_compaction_keep_count_of_empty_documents(records, tmp_path):
    folder = tmp_path / "ix"
    ub.build_index(mixed(records), Hub(), folder)
    filled = [{"_id": "nothing", "text": "no longer"}, *mixed(records)[1:-1]]
    report = ub.build_index(filled, Hub(), folder, delete_missing=True).report
    assert (report["updated"], report["deleted"], report["empty"]) == (1, 1, 1)
    compact(folder)
    index = ub.open_index(folder, encoder=Hub())
    assert index.report["empty"] == 1
    assert [line.doc_id for line in index.ledger() if line.status == "empty"] == ["blank"]
    assert "blank" not in [hit.doc_id for hit in index.search_one(QUERY, k=50, mode="dense")]


def test_an_encoder_may_be_silent_about_empty_texts_and_not_about_others(records, tmp_path):
    folder = tmp_path / "ix"
    items = [*mixed(records), {"_id": "mute", "text": "a mute text"}]
    index = ub.build_index(items, Silent(), folder)
    assert index.report["failed_reasons"] == {"no-segment": 1}
    assert json.loads((folder / "failed.jsonl").read_text())["id"] == "mute"
    spans = {s.id(row): s.piece(row).spans.tolist() for s in index.shards for row in range(len(s.array("keys")))}
    assert [spans[item["_id"]] for item in EMPTY] == [[[0, 0]], [[0, 4]], [[0, 3]]]
    assert "annex" in [hit.doc_id for hit in index.search_one(QUERY, mode="dense")]
