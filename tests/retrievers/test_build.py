"""Laws of the build: by content, never by position; every document read or recorded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import unabridged as ub
from unabridged.contracts import Document, Encoded, Failure, Level, OverflowPolicy
from unabridged.corpora import ListCorpus
from unabridged.encoders.hashing import HashingEncoder
from unabridged.errors import CorpusError, DuplicateId, IndexLocked, PassportMismatch, UsageError
from unabridged.manifest import load_manifest
from unabridged.retrievers import fill, staging
from unabridged.retrievers.build import build
from unabridged.retrievers.compact import compact
from unabridged.retrievers.lock import locked
from unabridged.retrievers.opened import Index
from unabridged.retrievers.settings import BuildSettings


class CountingEncoder(HashingEncoder):
    """Remembers every text it was asked to encode."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.encoded: list[str] = []

    def encode_documents(self, texts, **options) -> Encoded:
        self.encoded.extend(texts)
        return super().encode_documents(texts, **options)


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill, "UNIT_CHARACTERS", 3000)
    monkeypatch.setattr(staging, "SHARD_DOCUMENTS", 4)


def manifest_of(folder: Path) -> dict:
    return load_manifest(folder)


def texts(index: Index) -> dict[str, str]:
    return {line.doc_id: index.source(line.doc_id) for line in index.ledger()}


def test_a_built_index_holds_every_document_whole(records, tmp_path):
    index = ub.build_index(records, HashingEncoder(), tmp_path / "ix")
    assert texts(index) == {r["_id"]: f"{r['title']} {r['text']}" for r in records}
    assert index.report["documents"] == index.report["added"] == len(records)
    assert index.report["tokens_seen"] == index.report["tokens_total"] > 0
    index.verify()


def test_the_spans_of_every_document_cover_every_character_under_split(records, tmp_path):
    index = ub.build_index(records, HashingEncoder(window=64), tmp_path / "ix")
    for shard in index.shards:
        for row in range(len(shard.array("keys"))):
            start, stop = shard.segment_range(row)
            covered = [shard.span_text(row, segment) for segment in range(start, stop)]
            assert "".join(text for _, _, text in covered) == shard.source(row)
            assert [s for s, _, _ in covered[1:]] == [e for _, e, _ in covered[:-1]]


def test_two_builds_of_one_corpus_have_one_manifest(records, tmp_path):
    for name in ("a", "b"):
        ub.build_index(records, HashingEncoder(), tmp_path / name)
    assert (tmp_path / "a/manifest.json").read_bytes() == (tmp_path / "b/manifest.json").read_bytes()


def test_an_unchanged_second_run_encodes_nothing_and_writes_nothing(records, tmp_path):
    ub.build_index(records, HashingEncoder(), tmp_path / "ix")
    before = (tmp_path / "ix/manifest.json").read_bytes()
    encoder = CountingEncoder()
    index = ub.build_index(records, encoder, tmp_path / "ix")
    assert encoder.encoded == []
    assert index.report["unchanged"] == len(records)
    assert (tmp_path / "ix/manifest.json").read_bytes() == before


def test_insertion_and_reordering_encode_only_the_new_text(records, tmp_path):
    ub.build_index(records, HashingEncoder(), tmp_path / "ix")
    encoder = CountingEncoder()
    new = {"_id": "new", "text": "a text that nobody has seen"}
    moved = [records[3], new, *records[:3], *records[4:]]
    index = ub.build_index(moved, encoder, tmp_path / "ix")
    assert encoder.encoded == ["a text that nobody has seen"]
    assert len(index) == len(records) + 1


def test_a_changed_text_replaces_the_old_one(records, tmp_path):
    ub.build_index(records, HashingEncoder(), tmp_path / "ix")
    changed = [dict(r) for r in records]
    changed[1]["text"] = "quite another text about zebras"
    encoder = CountingEncoder()
    index = ub.build_index(changed, encoder, tmp_path / "ix")
    assert encoder.encoded == ["Title 1 quite another text about zebras"]
    assert index.report["updated"] == 1
    assert len(index) == len(records)
    assert index.search_one("zebras", mode="bm25")[0].doc_id == changed[1]["_id"]


def test_changed_metadata_reuses_the_vector(records, tmp_path):
    ub.build_index(records, HashingEncoder(), tmp_path / "ix")
    changed = [dict(r) for r in records]
    changed[2]["metadata"] = {"row": 99}
    encoder = CountingEncoder()
    index = ub.build_index(changed, encoder, tmp_path / "ix")
    assert encoder.encoded == []
    assert index.report["reused_vectors"] == 1
    assert [h.doc_id for h in index.search_one("w1", filter={"row": 99})] == [changed[2]["_id"]]


def test_delete_missing_removes_what_the_corpus_does_not_name_and_only_then(records, tmp_path):
    ub.build_index(records, HashingEncoder(), tmp_path / "ix")
    fewer = [records[0], records[4]]
    assert len(ub.build_index(fewer, HashingEncoder(), tmp_path / "ix")) == len(records)
    index = ub.build_index(fewer, HashingEncoder(), tmp_path / "ix", delete_missing=True)
    assert set(texts(index)) == {fewer[0]["_id"], fewer[1]["_id"]}
    assert index.report["deleted"] == len(records) - 2
    assert {h.doc_id for h in index.search_one("w1 w2 w3", k=100)} <= {fewer[0]["_id"], fewer[1]["_id"]}


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
def test_an_index_grown_and_shrunk_searches_like_a_fresh_one(records, tmp_path, mode):
    encoder = HashingEncoder()
    grown = tmp_path / "grown"
    ub.build_index(records[:3], encoder, grown)
    ub.build_index(records[2:], encoder, grown, delete_missing=True)
    ub.build_index([records[5], records[0]], encoder, grown, add=True)
    kept = [records[2], records[3], records[4], records[5], records[0]]
    fresh = ub.build_index(kept, encoder, tmp_path / "fresh")
    for query in ("w7 w61 w5", "title", "w0"):
        a = [(h.doc_id, round(h.score, 5), h.span) for h in ub.open_index(grown).search_one(query, k=10, mode=mode)]
        b = [(h.doc_id, round(h.score, 5), h.span) for h in fresh.search_one(query, k=10, mode=mode)]
        assert sorted(a) == sorted(b)
        assert a


def test_compaction_drops_deleted_rows_and_answers_the_same(records, tmp_path):
    folder = tmp_path / "ix"
    ub.build_index(records, HashingEncoder(), folder)
    ub.build_index(records[1:4], HashingEncoder(), folder, delete_missing=True)
    before = [(h.doc_id, h.span) for h in ub.open_index(folder).search_one("w5 w9 title", k=10)]
    report = compact(folder)
    index = ub.open_index(folder, verify=True)
    assert report["removed"] == 3
    assert index.state.rows == len(index) == 3
    assert [(h.doc_id, h.span) for h in index.search_one("w5 w9 title", k=10)] == before


def test_equal_texts_are_encoded_once_and_share_their_vector(tmp_path):
    encoder = CountingEncoder()
    items = [{"_id": str(n), "text": f"filler {n} " * 200 if n % 3 else "the very same text"} for n in range(12)]
    index = ub.build_index(items, encoder, tmp_path / "ix")
    assert encoder.encoded.count("the very same text") <= 1 + 1  # once by the index; twice only inside one unit
    same = [
        h for h in index.search_one("the very same text", mode="dense", k=12) if h.span.text == "the very same text"
    ]
    assert len(same) == 4
    assert len({h.score for h in same}) == 1


def test_poisoned_documents_are_recorded_and_retried_alone(records, tmp_path):
    folder = tmp_path / "ix"
    bad = {"_id": "poison", "text": "POISON in the cup"}
    items = [*records[:2], bad, *records[2:], {"_id": "number", "text": 5}]
    report = ub.build_index(items, HashingEncoder(fail_on="POISON"), folder).report
    lines = [json.loads(line) for line in (folder / "failed.jsonl").read_text().splitlines()]
    assert {line["id"]: line["reason"] for line in lines} == {"poison": "encoder-error", "number": "not-a-string"}
    assert report["failed"] == 2
    assert report["documents"] == len(records)
    encoder = CountingEncoder()
    again = ub.build_index(items[:-1], encoder, folder).report
    assert encoder.encoded == ["POISON in the cup"]
    assert again["failed"] == 0
    left = [json.loads(line)["id"] for line in (folder / "failed.jsonl").read_text().splitlines()]
    assert left == ["number"]  # this run did not see it
    ub.build_index(items[:-1], HashingEncoder(), folder, delete_missing=True)
    assert not (folder / "failed.jsonl").exists()


def test_duplicate_ids_are_refused_before_anything_is_written(records, tmp_path):
    with pytest.raises(DuplicateId, match="with space"):
        ub.build_index([*records, records[1]], HashingEncoder(), tmp_path / "ix")
    assert not (tmp_path / "ix/manifest.json").exists()


def test_an_empty_corpus_is_refused(tmp_path):
    with pytest.raises(CorpusError):
        ub.build_index([], HashingEncoder(), tmp_path / "ix")


def test_another_encoder_is_refused_with_both_fingerprints(records, tmp_path):
    ub.build_index(records, HashingEncoder(), tmp_path / "ix")
    other = HashingEncoder(seed=1)
    with pytest.raises(PassportMismatch) as caught:
        ub.build_index(records, other, tmp_path / "ix")
    assert other.passport.fingerprint[:16] in str(caught.value)
    assert HashingEncoder().passport.fingerprint[:16] in str(caught.value)
    with pytest.raises(PassportMismatch):
        ub.open_index(tmp_path / "ix", encoder=other)


def test_other_settings_are_refused_by_name(records, tmp_path):
    ub.build_index(records, HashingEncoder(), tmp_path / "ix", level="both")
    with pytest.raises(PassportMismatch, match="level='both'"):
        ub.build_index(records, HashingEncoder(), tmp_path / "ix", level="segment")


def test_adding_to_nothing_is_a_usage_error(records, tmp_path):
    with pytest.raises(UsageError):
        ub.build_index(records, HashingEncoder(), tmp_path / "ix", add=True)


def test_a_second_writer_is_refused_while_readers_go_on(records, tmp_path):
    folder = tmp_path / "ix"
    index = ub.build_index(records, HashingEncoder(), folder)
    with locked(folder):
        with pytest.raises(IndexLocked):
            ub.build_index(records, HashingEncoder(), folder)
        assert len(index.search_one("w1")) > 0


class BrokenEncoder(HashingEncoder):
    """Returns NaN for one text."""

    def encode_documents(self, texts, **options) -> Encoded:
        found = super().encode_documents(texts, **options)
        for row, text in enumerate(texts):
            if "rotten" in text:
                found.segments[found.offsets[row]] = np.nan
        return found


def test_vectors_that_are_not_finite_fail_their_document_only(records, tmp_path):
    items = [*records, {"_id": "r", "text": "rotten apple"}]
    index = ub.build_index(items, BrokenEncoder(), tmp_path / "ix")
    assert index.report["failed_reasons"] == {"not-finite": 1}
    assert len(index) == len(records)


@pytest.mark.parametrize("policy", ["truncate", "warn"])
def test_truncation_is_in_the_ledger_of_every_document(records, tmp_path, policy):
    encoder = HashingEncoder(window=64)
    index = ub.build_index(records, encoder, tmp_path / "ix", overflow=policy)
    totals = encoder.count_tokens([f"{r['title']} {r['text']}" for r in records])
    for line, total in zip(index.ledger(), totals, strict=True):
        assert line.tokens_total == total
        assert line.tokens_seen == min(total, line.tokens_seen) <= encoder.window
        assert line.truncated == (total > line.tokens_seen)
    assert index.report["truncated"] == sum(line.truncated for line in index.ledger()) > 0


def test_overflow_error_fails_the_long_documents_and_keeps_the_others(records, tmp_path):
    encoder = HashingEncoder(window=256)
    counts = encoder.count_tokens([f"{r['title']} {r['text']}" for r in records])
    index = ub.build_index(records, encoder, tmp_path / "ix", overflow="error")
    assert index.report["failed_reasons"] == {"overflow": int((counts > 254).sum())}
    assert index.report["tokens_seen"] == index.report["tokens_total"]


@pytest.mark.parametrize(("level", "factor"), [("doc", (0, 1)), ("segment", (1, 0)), ("both", (1, 1))])
def test_each_level_keeps_its_vectors(records, tmp_path, level, factor):
    index = ub.build_index(records, HashingEncoder(window=64), tmp_path / "ix", level=level)
    body = index.state.summary()
    assert body["vectors"] == factor[0] * body["segments"] + factor[1] * body["documents"]
    assert index.search_one("w1 w2", k=3)[0].span.text
    assert index.search_one("w1 w2", k=3, mode="dense")[0].doc_id


def test_aggregate_keeps_one_vector_per_document_and_reads_everything(records, tmp_path):
    index = ub.build_index(records, HashingEncoder(window=64), tmp_path / "ix", overflow="aggregate")
    assert index.report["vectors"] == len(records)
    assert index.report["tokens_seen"] == index.report["tokens_total"]
    with pytest.raises(UsageError):
        BuildSettings(overflow=OverflowPolicy.AGGREGATE, level=Level.BOTH)


def test_failures_of_the_corpus_pass_into_the_list(records, tmp_path):
    items = [Failure("x", "f:1", "read", "malformed-json", "bad"), Document("ok", "fine text")]

    class Mixed:
        def __iter__(self):
            return iter(items)

    report = build(Mixed(), HashingEncoder(), tmp_path / "ix")
    assert (report.documents, report.failed) == (1, 1)


def test_metadata_and_title_survive(tmp_path):
    corpus = ListCorpus([Document("a", "text here", "The title", {"year": 1999, "tags": ["x"]})])
    build(corpus, HashingEncoder(), tmp_path / "ix")
    index = ub.open_index(tmp_path / "ix")
    shard, row, _ = index.rows.locate(0)
    assert json.loads(shard.metadata(row)) == {"tags": ["x"], "title": "The title", "year": 1999}


def test_a_document_that_became_unreadable_is_not_deleted(records, tmp_path):
    folder = tmp_path / "ix"
    ub.build_index(records, HashingEncoder(), folder)
    broken = [*records[:2], {"_id": records[2]["_id"], "text": 7}]
    report = ub.build_index(broken, HashingEncoder(), folder, delete_missing=True).report
    assert (report["deleted"], report["failed"]) == (3, 1)
    assert ub.open_index(folder).source(str(records[2]["_id"]))


def test_nothing_is_deleted_while_an_item_has_lost_its_name(tmp_path):
    path, folder = tmp_path / "c.jsonl", tmp_path / "ix"
    path.write_text('{"_id": "a", "text": "one"}\n{"_id": "b", "text": "two"}\n')
    ub.build_index(path, HashingEncoder(), folder)
    path.write_text('{"_id": "a", "text": "one"}\n{"_id": "b", "te')
    report = ub.build_index(path, HashingEncoder(), folder, delete_missing=True).report
    assert (report["documents"], report["deleted"], report["missing_kept"], report["failed"]) == (2, 0, 1, 1)


def test_an_update_that_cannot_be_encoded_keeps_the_old_version(records, tmp_path):
    folder = tmp_path / "ix"
    ub.build_index(records, HashingEncoder(), folder)
    changed = [dict(r) for r in records]
    changed[1]["text"] = "POISON"
    report = ub.build_index(changed, HashingEncoder(fail_on="POISON"), folder, delete_missing=True).report
    assert (report["documents"], report["added"], report["updated"], report["failed"]) == (len(records), 0, 0, 1)
    assert ub.open_index(folder).source("with space") == f"{records[1]['title']} {records[1]['text']}"


def test_a_corpus_that_differs_at_the_second_reading_is_not_committed(tmp_path):
    class Once:
        def __init__(self) -> None:
            self.items = iter([Document("a", "one"), Document("b", "two")])

        def __iter__(self):
            return self.items

    folder = tmp_path / "ix"
    ub.build_index([{"_id": "x", "text": "kept"}], HashingEncoder(), folder)
    with pytest.raises(CorpusError, match="changed while it was read"):
        ub.build_index(Once(), HashingEncoder(), folder, delete_missing=True)
    assert [line.doc_id for line in ub.open_index(folder).ledger()] == ["x"]


def test_metadata_that_json_cannot_hold_fails_its_document_only(records, tmp_path):
    odd = [Document("odd", "text", metadata={"x": object()}), Document("fine", "text", metadata={"x": 1})]
    report = ub.build_index(odd, HashingEncoder(), tmp_path / "ix").report
    assert report["failed_reasons"] == {"metadata": 1}
    assert report["documents"] == 1


@pytest.mark.parametrize(
    "options",
    [{"k1": "x"}, {"k1": -5}, {"b": 9}, {"bm25_variant": "foo"}, {"stemmer": "klingon"}, {"recall_target": 0}],
)
def test_settings_that_could_only_fail_later_are_refused_at_once(records, tmp_path, options):
    encoder = CountingEncoder()
    with pytest.raises(UsageError):
        ub.build_index(records, encoder, tmp_path / "ix", **options)
    assert encoder.encoded == []


@pytest.mark.parametrize("wrong", [{"a": 1}, Document("a", "b"), 7, None])
def test_what_is_no_corpus_is_refused(wrong, tmp_path):
    with pytest.raises(UsageError):
        ub.build_index(wrong, HashingEncoder(), tmp_path / "ix")


def test_only_the_options_that_are_given_are_compared_and_a_new_recipe_is_kept(records, tmp_path):
    folder = tmp_path / "ix"
    ub.build_index(records, HashingEncoder(window=16), folder, level="segment", k1=2.0)
    index = ub.build_index(records, HashingEncoder(window=16), folder, recipe="hnsw")
    assert index.report["index"]["recipe"].startswith("HNSW")
    assert ub.open_index(folder).state.settings.recipe == "hnsw"
    assert ub.open_index(folder).state.settings.k1 == 2.0


def test_an_index_inside_its_corpus_does_not_index_itself(tmp_path):
    (tmp_path / "a.txt").write_text("a text")
    folder = tmp_path / "idx"
    ub.build_index(ub.read_corpus(tmp_path), HashingEncoder(), folder)
    report = ub.build_index(ub.read_corpus(tmp_path), HashingEncoder(), folder).report
    assert report["documents"] == report["unchanged"] == 1
    assert report["skipped"] == {"index": 1}


def test_readers_of_the_generation_before_keep_their_files(records, tmp_path):
    folder = tmp_path / "ix"
    ub.build_index(records, HashingEncoder(), folder)
    ub.build_index(records[:3], HashingEncoder(), folder, delete_missing=True)
    reader = ub.open_index(folder)
    compact(folder)
    assert reader.search_one("w1 w2 title").hits


def test_compaction_of_an_index_without_living_documents_empties_it(records, tmp_path):
    folder = tmp_path / "ix"
    ub.build_index(records, HashingEncoder(), folder)
    ub.build_index([{"_id": "p", "text": "POISON"}], HashingEncoder(fail_on="POISON"), folder, delete_missing=True)
    assert compact(folder)["removed"] == len(records)
    assert ub.open_index(folder).state.rows == 0
