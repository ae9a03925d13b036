"""Index folders behind engines: one suite over the folder itself, Milvus Lite, and PostgreSQL with pgvector."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from tests_backends import ENGINES, engine_url

import unabridged as ub
from tests_support import brute_force_documents
from unabridged.encoders.hashing import HashingEncoder
from unabridged.errors import (
    BackendMismatch,
    BackendUnreachable,
    IndexLocked,
    PassportMismatch,
    RuntimeFailure,
    UsageError,
)
from unabridged.index.backends import connect, parse_address
from unabridged.retrievers.backends.load import content_of, sync
from unabridged.retrievers.backends.opened import BackendIndex
from unabridged.retrievers.backends.remembered import NAME, address_of, remember
from unabridged.retrievers.compact import compact

HOSTILE = ['quo"te', "it's", "back\\slash", "x' OR '1'='1", "naïve é 漢字 🙂", "tab\tline\nend", "i" * 1000, "{%s} $1"]
ENCODER = HashingEncoder(window=64)
QUERIES = ["word3 word17 word99 word250", "word1 word2", "twin text of seven words here now"]


def items() -> list[dict[str, object]]:
    """Sixty documents of 1 to 10 windows, with odd ids, twins and empty ones."""
    rng = np.random.default_rng(3)
    vocabulary = [f"word{n}" for n in range(400)]
    out: list[dict[str, object]] = []
    for n in range(60):
        text = " ".join(rng.choice(vocabulary, size=int(rng.integers(10, 600))))
        if 20 <= n < 35:
            text = "twin text of seven words here now"
        if n in (40, 41):
            text = "   "
        name = HOSTILE[n] if n < len(HOSTILE) else f"doc {n}"
        fields = {"year": 2000 + n % 4, "tag": "ab"[n % 2], "tags": ["x", f"t{n % 3}"], "odd": HOSTILE[n % 8]}
        out.append({"_id": name, "text": text, "metadata": fields if n % 9 else {}})
    return out


def build(folder, parts=3):
    """The documents in several shards."""
    every = items()
    step = -(-len(every) // parts)
    for start in range(0, len(every), step):
        ub.build_index(every[start : start + step], ENCODER, folder, add=start > 0).close()
    return ub.open_index(folder, encoder=ENCODER)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("behind") / "ix"
    build(place).close()
    return place


@pytest.fixture(scope="module")
def local(folder):
    with ub.open_index(folder, encoder=ENCODER) as index:
        yield index


def load(index, url, **options):
    backend = connect(url)
    try:
        return sync(index, backend, **options)
    finally:
        backend.close()


@pytest.fixture(scope="module", params=["folder", *ENGINES])
def index(request, folder, local, tmp_path_factory):
    """The same index, searched three ways."""
    if request.param == "folder":
        yield local
        return
    url = engine_url(request.param, tmp_path_factory.mktemp("engine"))
    load(local, url)
    with BackendIndex(folder, url, encoder=ENCODER) as opened:
        yield opened


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


@pytest.fixture(params=["pgvector", pytest.param("milvus-lite", marks=pytest.mark.slow)])
def either(request):
    """As ``engine``; the file is slow to make and is tried with the slow tests."""
    return request.param


def keys(result):
    return [(hit.doc_id, hit.span.start, hit.span.end) for hit in result]


def same(got, expected):
    """Equal hits in equal order, with spans; scores to what two ways of adding up give."""
    for one, two in zip(got, expected, strict=True):
        assert keys(one) == keys(two)
        np.testing.assert_allclose([h.score for h in one], [h.score for h in two], rtol=1e-5, atol=1e-6)


def test_documents_are_scored_as_by_a_naive_loop_over_all_of_them(index, local):
    empty = {line.doc_id for line in local.ledger() if line.status == "empty"}
    for query in QUERIES:
        expected = [(name, score) for name, score in brute_force_documents(local, query) if name not in empty]
        got = [(hit.doc_id, hit.score) for hit in index.search_one(query, k=100, mode="dense")]
        assert {name for name, _ in got} == {name for name, _ in expected}
        np.testing.assert_allclose([s for _, s in got], [s for _, s in expected], rtol=1e-5, atol=1e-6)


FILTERS = [
    None,
    {"year": 2001},
    {"year": [2001, 2002], "tag": "b"},
    {"tags": "t1"},
    {"odd": HOSTILE},
    {"odd": 'x" or 1==1 or "'},
    {"tag": "a' OR '1'='1"},
    {'tag"] == "a" or metadata["tag': "a"},
    {"tag": None},
    {"id": HOSTILE},
    {"id": "nobody"},
    {"year": lambda year: year == 2003},
    {"year": lambda year: year == 2003, "tag": "b"},
    {"tag": []},
    {"year": 2001.0},
]


@pytest.mark.parametrize("wanted", FILTERS, ids=lambda one: ",".join(one or ()))
@pytest.mark.parametrize("level", ["doc", "segment"])
def test_hits_order_spans_and_scores_are_those_of_the_folder(index, local, level, wanted):
    for k in (5, 80):
        expected = local.search(QUERIES, k, mode="dense", level=level, filter=wanted)
        same(index.search(QUERIES, k, mode="dense", level=level, filter=wanted), expected)


@pytest.mark.parametrize("level", ["doc", "segment", "both"])
def test_words_and_vectors_together_are_those_of_the_folder(index, local, level):
    same(index.search(QUERIES, 7, level=level), local.search(QUERIES, 7, level=level))


def test_equal_documents_come_in_their_order_and_the_first_survive_the_cut(index):
    for k in (5, 15):
        hits = index.search_one("twin text of seven words here now", k, mode="dense")
        assert [hit.doc_id for hit in hits] == [f"doc {n}" for n in range(20, 20 + k)]


def test_ids_come_back_as_they_were(index):
    found = {hit.doc_id for hit in index.search_one("word1", 500, mode="dense", filter={"id": HOSTILE})}
    assert found == set(HOSTILE)


def test_more_than_there_is_gives_all_that_match_and_empty_documents_are_none(index):
    hits = index.search_one("word1", 500, mode="dense")
    assert len(hits) == 58
    assert not {"doc 40", "doc 41"} & {hit.doc_id for hit in hits}
    assert len(index.search_one("word1", 5000, mode="dense", level="segment")) == index.state.segment_rows - 2


def test_threads_get_what_a_single_one_gets(index):
    alone = [keys(index.search_one(query, 9, mode="dense")) for query in QUERIES * 3]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda query: keys(index.search_one(query, 9, mode="dense")), QUERIES * 3)) == alone


def test_the_engine_answered_and_says_how(index):
    if not isinstance(index, BackendIndex):
        pytest.skip("the folder itself")
    before = index.applied()
    index.search_one("word1", 9, mode="dense", filter={"tag": "a"})
    after = index.applied()
    scans = [name for name in after if name.startswith("exact scan here")]
    assert after["searches"] > before["searches"]
    assert sum(after[name] for name in scans) == sum(before.get(name, 0) for name in scans)
    assert after["applied"]["segments"]["index"] in ("exact", "FLAT")


def test_what_changed_is_sent_and_nothing_else(engine, tmp_path):
    place, url = tmp_path / "ix", engine_url(engine, tmp_path)
    with build(place) as index:
        first = load(index, url)
        assert (first.loaded_shards, first.documents, first.kept_shards) == (3, 58, 0)
        again = load(index, url)
        assert (again.loaded_shards, again.kept_shards, again.removed_shards) == (0, 3, 0)
        assert (first.recall_at_10 is None) == (engine == "milvus-lite")
    changed = items()[:50]
    changed[5]["text"] = "Quetzalcoatl signed the annex in Reykjavik"
    ub.build_index(changed, ENCODER, place, delete_missing=True).close()
    with pytest.raises(BackendMismatch, match="generation 3") as caught:
        BackendIndex(place, url, encoder=ENCODER)
    assert "unabridged index" in str(caught.value)
    with ub.open_index(place, encoder=ENCODER) as index:
        second = load(index, url)
        assert (second.loaded_shards, second.documents, second.kept_shards) == (1, 1, 3)
        assert second.removed_rows > 11  # ten documents and the old form of one, with their segments
    with BackendIndex(place, url, encoder=ENCODER) as behind, ub.open_index(place, encoder=ENCODER) as local:
        same(behind.search(QUERIES, 100, mode="dense"), local.search(QUERIES, 100, mode="dense"))
        hits = behind.search_one("Quetzalcoatl annex Reykjavik", 100, mode="dense")
        assert hits[0].doc_id == HOSTILE[5]
        assert len([hit for hit in hits if hit.doc_id == HOSTILE[5]]) == 1
        assert not {f"doc {n}" for n in range(50, 60)} & {hit.doc_id for hit in hits}
    compact(place)
    with ub.open_index(place, encoder=ENCODER) as index:
        third = load(index, url)
        assert third.removed_shards == 4
    with BackendIndex(place, url, encoder=ENCODER) as behind, ub.open_index(place, encoder=ENCODER) as local:
        same(behind.search(QUERIES, 20, mode="dense"), local.search(QUERIES, 20, mode="dense"))


KILLED = """
import os, signal, sys
import unabridged as ub
from unabridged.index.backends import connect
from unabridged.retrievers.backends import load

folder, url = sys.argv[1:]
whole = load.batches_of
seen = []

def broken(shard, alive, layout):
    seen.append(shard)
    for batch in whole(shard, alive, layout):
        if len(seen) == 2:
            half = list(whole(shard, alive & (__import__("numpy").arange(len(alive)) < 7), layout))
            yield half[0]
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch

load.batches_of = broken
load.sync(ub.open_index(folder), connect(url))
"""


def test_a_load_killed_in_the_middle_of_a_shard_goes_on_and_loses_nothing(either, tmp_path):
    place, url = tmp_path / "ix", engine_url(either, tmp_path)
    with build(place) as index:
        done = subprocess.run([sys.executable, "-c", KILLED, str(place), url], capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        with pytest.raises(BackendMismatch, match="1 of 3 shards"):
            BackendIndex(place, url, encoder=ENCODER)
        with pytest.raises(BackendMismatch, match="not finished"):
            ub.open_backend(url, ENCODER)
        report = load(index, url)
        assert (report.loaded_shards, report.kept_shards) == (2, 1)
        with BackendIndex(place, url, encoder=ENCODER) as behind:
            same(behind.search(QUERIES, 100, mode="dense"), index.search(QUERIES, 100, mode="dense"))


def test_rows_that_somebody_else_wrote_or_took_are_noticed(either, tmp_path):
    place, url = tmp_path / "ix", engine_url(either, tmp_path)
    with build(place) as index:
        load(index, url)
        backend = connect(url)
        try:
            number = backend.recorded().shards[str(index.state.shard_entries[0]["name"])].number
            key = (number << 32) + 1
            if either == "pgvector":
                tables = backend._tables
                tables.run("DELETE FROM {table} WHERE key = %s", [key], tables.table("segments"))
            else:
                backend._client.delete(backend._name("segments"), ids=[key])
            recorded = backend.recorded()
            backend.begin(recorded.generation, 3, 1)
            with pytest.raises(BackendMismatch, match="counts"):
                sync(index, backend)
        finally:
            backend.close()


def test_vectors_of_another_encoder_are_refused_with_both_fingerprints(either, tmp_path, folder, local):
    url = engine_url(either, tmp_path)
    other = HashingEncoder(window=64, seed=9)
    ub.build_index(["a text of one", "and another"], other, tmp_path / "other").close()
    with ub.open_index(tmp_path / "other", encoder=other) as index:
        load(index, url)
    for attempt in (
        lambda: BackendIndex(folder, url, encoder=ENCODER),
        lambda: load(local, url),
        lambda: ub.open_backend(url, ENCODER),
    ):
        with pytest.raises(PassportMismatch) as caught:
            attempt()
        assert other.passport.fingerprint[:16] in str(caught.value)
        assert ENCODER.passport.fingerprint[:16] in str(caught.value)


def test_an_engine_without_the_collection_says_how_to_load_it(either, tmp_path, folder):
    url = engine_url(either, tmp_path)
    with pytest.raises(BackendMismatch, match="unabridged index"):
        BackendIndex(folder, url, encoder=ENCODER)
    with pytest.raises(BackendMismatch, match="unabridged index"):
        ub.open_backend(url, ENCODER)


def test_an_index_of_empty_documents_is_loaded_and_finds_nothing(tmp_path):
    place, url = tmp_path / "ix", engine_url("pgvector", tmp_path)
    ub.build_index(["   ", ""], ENCODER, place).close()
    with ub.open_index(place, encoder=ENCODER) as index:
        assert load(index, url).documents == 0
    with BackendIndex(place, url, encoder=ENCODER) as behind:
        assert len(behind.search_one("word", mode="dense")) == 0


@pytest.mark.parametrize("level", ["doc", "segment"])
def test_an_index_of_one_set_of_vectors_has_one_in_the_engine(either, tmp_path, level):
    place, url = tmp_path / "ix", engine_url(either, tmp_path)
    ub.build_index(items(), ENCODER, place, level=level).close()
    with ub.open_index(place, encoder=ENCODER) as index:
        load(index, url)
        with BackendIndex(place, url, encoder=ENCODER) as behind:
            same(behind.search(QUERIES, 9, mode="dense"), index.search(QUERIES, 9, mode="dense"))
        with ub.open_backend(url, ENCODER) as remote:
            got, expected = remote.search(QUERIES, 9), index.search(QUERIES, 9, mode="dense")
            for one, two in zip(got, expected, strict=True):
                np.testing.assert_allclose([h.score for h in one], [h.score for h in two], atol=1e-3)
            if level == "doc":
                with pytest.raises(UsageError, match="keeps vectors"):
                    remote.search(QUERIES, 9, level="segment")


@pytest.fixture(scope="module", params=ENGINES)
def remote(request, local, tmp_path_factory):
    url = engine_url(request.param, tmp_path_factory.mktemp("alone"), options="texts=yes")
    load(local, url, texts=True)
    with ub.open_backend(url, ENCODER) as opened:
        yield opened


class TestAlone:
    """Reading an engine where no folder is at hand."""

    @pytest.mark.parametrize("level", ["doc", "segment", "both"])
    @pytest.mark.parametrize("wanted", [None, {"tag": "a"}, {"tags": ["t1"], "year": 2001}, {"id": HOSTILE[:5]}])
    def test_hits_are_those_of_the_folder_to_the_engine_s_precision(self, remote, local, level, wanted):
        got = remote.search(QUERIES, 12, level=level, filter=wanted)
        expected = local.search(QUERIES, 12, mode="dense", level=level, filter=wanted)
        for one, two in zip(got, expected, strict=True):
            np.testing.assert_allclose([h.score for h in one], [h.score for h in two], atol=1e-3)
            scores = np.array([h.score for h in two])
            apart = np.abs(np.diff(scores, append=-9)) > 1e-3
            apart &= np.abs(np.diff(scores, prepend=9)) > 1e-3
            for place in np.flatnonzero(apart):
                a, b = one[place], two[place]
                assert (a.doc_id, a.span) == (b.doc_id, b.span)  # with the text: it was loaded

    def test_hits_have_metadata(self, remote):
        for hit in remote.search(["word1"], 20)[0]:
            row = next(one for one in items() if one["_id"] == hit.doc_id)
            assert dict(hit.metadata) == row["metadata"]

    def test_what_it_cannot_do_is_a_typed_error(self, remote):
        for error, options in (
            (UsageError, {"filter": {"year": lambda year: True}}),
            (UsageError, {"level": "nothing"}),
            (UsageError, {"k": 0}),
            (UsageError, {"k": 20_000}),
        ):
            with pytest.raises(error):
                remote.search(["word"], **options)
        with pytest.raises(UsageError, match="at least one word"):
            remote.search([" "])

    @pytest.mark.parametrize("level", ["doc", "segment", "both"])
    def test_what_is_deleted_between_search_and_fetch_is_no_hit(self, remote, level, monkeypatch):
        fetch, gone = remote.backend.fetch, []

        def without_the_first(which, column, keys, **options):
            rows = fetch(which, column, keys, **options)
            gone.append(gone[0] if gone else rows[0].document)
            return [row for row in rows if row.document != gone[0]]

        whole = remote.search(QUERIES[:1], 12, level=level)[0]
        monkeypatch.setattr(remote.backend, "fetch", without_the_first)
        hits = remote.search(QUERIES[:1], 12, level=level)[0]
        assert gone
        assert {hit.doc_id for hit in hits} <= {hit.doc_id for hit in whole} or level != "segment"
        assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
        assert all(hit.doc_id for hit in hits)

    def test_it_says_what_it_is(self, remote, local):
        assert len(remote) == 58
        assert remote.report["passport"] == local.state.passport.fingerprint
        assert remote.recorded.content == content_of(local.state)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://someone:s3cr3t@127.0.0.1:1/base?collection=x&connect_timeout=2",
        "milvus://someone:s3cr3t@127.0.0.1:1/x?timeout=1",
    ],
)
def test_an_engine_that_does_not_answer_is_named_without_its_password(url, capfd):
    with pytest.raises(BackendUnreachable, match=r"127\.0\.0\.1:1") as caught:
        connect(url)
    seen: BaseException | None = caught.value
    while seen is not None:
        assert "s3cr3t" not in str(seen)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    assert "s3cr3t" not in "".join(capfd.readouterr())
    assert "Check host, port" in str(caught.value)


@pytest.mark.slow
def test_a_file_of_milvus_lite_has_one_process_at_a_time(tmp_path):
    url = engine_url("milvus-lite", tmp_path)
    backend = connect(url)
    try:
        code = "import sys; from unabridged.index.backends import connect; connect(sys.argv[1])"
        done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, check=False)
        assert done.returncode == 1
        assert IndexLocked.__name__ in done.stderr.decode()
    finally:
        backend.close()


def test_only_the_address_without_its_account_is_written_down(tmp_path):
    remember(tmp_path, parse_address("postgresql://someone:s3cr3t@host:99/base?collection=x&sslmode=require"))
    text = (tmp_path / NAME).read_text()
    assert json.loads(text) == {"url": "postgresql://host:99/base?collection=x&sslmode=require"}
    assert address_of(tmp_path, "remembered").place == "host:99"
    (tmp_path / NAME).write_text('{"url": 5}')
    with pytest.raises(UsageError, match="names no engine"):
        address_of(tmp_path, "remembered")
    (tmp_path / NAME).unlink()
    with pytest.raises(UsageError, match="remembers no engine"):
        address_of(tmp_path, "remembered")


def test_an_engine_that_breaks_off_in_a_search_is_a_typed_error(folder, local, tmp_path):
    url = engine_url("pgvector", tmp_path)
    load(local, url)
    with BackendIndex(folder, url, encoder=ENCODER) as behind:
        behind.backend._tables.connection.close()
        with pytest.raises(RuntimeFailure, match="broke off"):
            behind.search_one("word1", mode="dense")


def test_the_state_that_an_engine_holds_is_named_by_encoder_shards_and_deletions(local):
    state = local.state
    assert content_of(state) == content_of(replace(state, generation=99))
    assert content_of(state) != content_of(replace(state, shard_entries=state.shard_entries[:2]))
    assert content_of(state) != content_of(replace(state, deleted={"sha256": "x"}))
    assert content_of(state) != content_of(replace(state, passport=replace(state.passport, fingerprint="x")))
