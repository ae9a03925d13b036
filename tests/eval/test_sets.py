"""Retrieval sets: every layout of one small set reads as the same set, and whatever does not fit is named."""

import gzip
import json

import pytest

import unabridged
from unabridged.corpora import ListCorpus, Query, read_qrels
from unabridged.errors import CorpusError, DuplicateId, MissingFile, UsageError
from unabridged.eval.sets import (
    RetrievalSet,
    WholeCorpus,
    facts,
    read_beir,
    read_hub,
    read_loco,
    read_longembed,
    read_set,
    write_beir,
)
from unabridged.eval.trec import write_qrels

DOCUMENTS = [("d 1", "Title", "the first text"), ("2", "", "the second"), ("3", "", "a third"), ("é", "", "a third")]
QUERIES = [("q1", "which is first?"), ("02", "which is second?")]
QRELS = {"q1": {"d 1": 2, "3": 0}, "02": {"2": 1}}
UNJUDGED = ("q9", "nobody judged this")


def rows(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(one) + "\n" for one in records)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def parquet(path, records):
    arrow = pytest.importorskip("pyarrow")
    path.parent.mkdir(parents=True, exist_ok=True)
    pytest.importorskip("pyarrow.parquet").write_table(arrow.Table.from_pylist(records), path)
    return path


def corpus_records(key="_id"):
    return [{key: name, "title": title, "text": text} for name, title, text in DOCUMENTS]


def query_records(key="_id"):
    return [{key: name, "text": text} for name, text in [*QUERIES, UNJUDGED]]


def judgement_records():
    return [{"query-id": q, "corpus-id": d, "score": g} for q, grades in QRELS.items() for d, g in grades.items()]


def beir(folder):
    rows(folder / "corpus.jsonl", corpus_records())
    rows(folder / "queries.jsonl", query_records())
    (folder / "qrels").mkdir()
    table = "".join(f"{one['query-id']}\t{one['corpus-id']}\t{one['score']}\n" for one in judgement_records())
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + table, encoding="utf-8")
    return folder


def hub_parquet(folder):
    """As the hub stores a set: one folder a configuration, shards in their names, another name for the one split."""
    parquet(folder / "corpus" / "corpus-00000-of-00002.parquet", corpus_records("id")[:2])
    parquet(folder / "corpus" / "corpus-00001-of-00002.parquet", corpus_records("id")[2:])
    parquet(folder / "queries" / "queries-00000-of-00001.parquet", query_records("id"))
    parquet(folder / "data" / "test-00000-of-00001.parquet", judgement_records())
    parquet(folder / "data" / "dev-00000-of-00001.parquet", judgement_records()[:1])
    return folder


def hub_jsonl(folder):
    rows(folder / "corpus.jsonl.gz", corpus_records())
    rows(folder / "queries.jsonl", query_records())
    rows(folder / "qrels" / "test.jsonl", judgement_records())
    rows(folder / "qrels" / "train.jsonl", judgement_records()[:1])
    (folder / "README.md").write_text("---\nconfigs: []\n---\n")
    return folder


def hub_subsets(folder):
    for language, records in (("en", corpus_records()), ("de", corpus_records()[:1])):
        rows(folder / f"{language}-corpus" / "test.jsonl", records)
        rows(folder / f"{language}-queries" / "test.jsonl", query_records())
        rows(folder / f"{language}-qrels" / "test.jsonl", judgement_records())
    return folder


LAYOUTS = {
    "beir": lambda folder: read_beir(beir(folder)),
    "beir-found": lambda folder: read_set(beir(folder)),
    "hub-parquet": lambda folder: read_hub(hub_parquet(folder)),
    "hub-jsonl": lambda folder: read_set(hub_jsonl(folder)),
    "hub-subset": lambda folder: read_hub(hub_subsets(folder), subset="en"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_a_set_reads_as_the_same_set(tmp_path, layout):
    found = LAYOUTS[layout](tmp_path)
    for _ in range(2):
        assert [(one.id, one.title, one.text) for one in found.corpus] == DOCUMENTS, "it can be read again"
    assert found.queries == tuple(Query(*one) for one in QUERIES), "only queries with judgements"
    assert found.unjudged == 1
    assert found.qrels == QRELS
    (tmp_path / "other").mkdir()
    assert facts(found) == facts(read_beir(beir(tmp_path / "other")))


def test_facts_count_and_say_what_the_judgements_name_in_vain(tmp_path):
    found = facts(read_beir(beir(tmp_path)))
    assert (found.documents, found.queries, found.judgements, found.unknown) == (4, 2, 3, ())
    assert found.characters == len("Title the first text" + "the second" + 2 * "a third")
    assert found.duplicate_share == 1 / 4
    lost = RetrievalSet("x", WholeCorpus(ListCorpus(["only"])), (Query("q", "?"),), {"q": {"0": 1, "z": 1, "a": 1}})
    assert facts(lost).unknown == ("a", "z")


def test_the_revision_depends_on_content_and_on_nothing_else(tmp_path):
    def revision(documents=DOCUMENTS, queries=QUERIES, qrels=QRELS, name="x"):
        items = [unabridged.Document(one[0], one[2], one[1]) for one in documents]
        return facts(
            RetrievalSet(name, WholeCorpus(ListCorpus(items)), tuple(Query(*q) for q in queries), qrels)
        ).revision

    plain = revision()
    assert plain == revision(DOCUMENTS[::-1], QUERIES[::-1], dict(reversed(QRELS.items())), "y")
    changed = [
        revision(DOCUMENTS[1:]),
        revision([*DOCUMENTS, DOCUMENTS[0]]),
        revision([("d 1", "Title the", "first text"), *DOCUMENTS[1:]]),
        revision(queries=[("q1", "other"), QUERIES[1]]),
        revision(qrels={**QRELS, "02": {"2": 2}}),
        revision(qrels={**QRELS, "02": {"2": 1, "3": 0}}),
    ]
    assert len({plain, *changed}) == 7


@pytest.mark.parametrize("layout", ["beir", "hub-jsonl"])
def test_a_written_beir_folder_reads_as_the_same_set(tmp_path, layout):
    (tmp_path / "in").mkdir()
    whole = LAYOUTS[layout](tmp_path / "in")
    write_beir(tmp_path / "out", whole, "dev")
    again = read_beir(tmp_path / "out", "dev")
    assert facts(again) == facts(whole)
    assert again.qrels == whole.qrels
    assert (
        (tmp_path / "out" / "qrels" / "dev.tsv").read_text(encoding="utf-8").startswith("query-id\tcorpus-id\tscore\n")
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    with pytest.raises(UsageError, match="exists"):
        write_beir(tmp_path / "out", whole)


def test_a_beir_folder_that_cannot_be_written_whole_is_not_there(tmp_path):
    tabbed = RetrievalSet("x", WholeCorpus(ListCorpus(["a"])), (Query("q\t1", "?"),), {"q\t1": {"0": 1}})
    with pytest.raises(UsageError, match=r"q\\t1"):
        write_beir(tmp_path / "out", tabbed)
    broken = RetrievalSet("x", WholeCorpus(ListCorpus(["a", {"text": "no id"}])), (Query("q", "?"),), {"q": {"0": 1}})
    with pytest.raises(CorpusError, match="every document"):
        write_beir(tmp_path / "out", broken)
    assert list(tmp_path.iterdir()) == []


def test_a_set_can_be_indexed_as_it_is(tmp_path):
    whole = read_beir(beir(tmp_path))
    index = unabridged.build_index(whole.corpus, out=tmp_path / "ix", encoder="hashing")
    assert index.search_one("the second", k=1)[0].doc_id == "2"


def longembed(folder, lengths=(256, 512), as_text=False):
    values = [str(one) if as_text else one for one in lengths]
    corpus = [{"doc_id": f"{n}-{d}", "text": f"text {d} of {n}", "context_length": n} for n in values for d in range(3)]
    rows(folder / "passkey" / "corpus.jsonl", corpus)
    rows(folder / "passkey" / "queries.jsonl", [{"qid": f"q{n}", "text": "?", "context_length": n} for n in values])
    qrels = [{"qid": f"q{n}", "doc_id": f"{n}-1", "context_length": n} for n in values]
    rows(folder / "passkey" / "qrels.jsonl", qrels)
    return folder


@pytest.mark.parametrize("as_text", [False, True])
def test_each_length_of_longembed_is_a_set_of_its_own(tmp_path, as_text):
    found = read_longembed(longembed(tmp_path, as_text=as_text), "passkey", 512)
    assert found.name == "passkey_512"
    assert [one.id for one in found.corpus] == ["512-0", "512-1", "512-2"]
    assert found.queries == (Query("q512", "?"),)
    assert found.qrels == {"q512": {"512-1": 1}}
    with pytest.raises(UsageError, match="256, 512"):
        read_longembed(tmp_path, "passkey")
    with pytest.raises(CorpusError, match="context_length = '1024'; found '256', '512'"):
        read_longembed(tmp_path, "passkey", 1024)


def test_longembed_tasks_without_lengths_are_read_whole(tmp_path):
    rows(tmp_path / "qmsum" / "corpus.jsonl", [{"doc_id": "a", "text": "A"}, {"doc_id": "b", "text": "B"}])
    rows(tmp_path / "qmsum" / "queries.jsonl", [{"qid": "q", "text": "?", "doc_id": "", "context_length": ""}])
    rows(tmp_path / "qmsum" / "qrels.jsonl", [{"qid": "q", "doc_id": "b"}])
    found = read_longembed(tmp_path, "qmsum")
    assert (len(list(found.corpus)), found.qrels) == (2, {"q": {"b": 1}})
    (tmp_path / "qmsum" / "qrels.jsonl").unlink()
    with pytest.raises(CorpusError, match=r"expected corpus.jsonl, queries.jsonl and qrels.jsonl, found corpus.jsonl"):
        read_longembed(tmp_path, "qmsum")
    with pytest.raises(MissingFile, match="needle"):
        read_longembed(tmp_path, "needle")


@pytest.mark.parametrize("write", [rows, parquet])
def test_loco_is_filtered_by_its_data_set(tmp_path, write):
    suffix = "jsonl" if write is rows else "parquet"
    queries = [
        {"qid": "a_q1", "query": "one?", "answer_pids": ["a_p1", "a_p2"], "dataset": "a"},
        {"qid": "a_q2", "query": "none?", "answer_pids": [], "dataset": "a"},
        {"qid": "a_q3", "query": "lost?", "answer_pids": ["a_p4"], "dataset": "a"},
        {"qid": "b_q1", "query": "other?", "answer_pids": ["b_p1"], "dataset": "b"},
    ]
    documents = [{"pid": f"{d}_p{n}", "passage": f"text {n}", "dataset": d} for d in "ab" for n in (1, 2, 3)]
    documents += [{"pid": f"{d}_p4", "passage": None, "dataset": d} for d in "ab"]
    write(tmp_path / "Queries" / "data" / f"test-00000-of-00001.{suffix}", queries)
    write(tmp_path / "Queries" / "data" / f"validation-00000-of-00001.{suffix}", queries[:1])
    file = write(tmp_path / "Documents" / "data" / f"test-00000-of-00001.{suffix}", documents)
    for place in (tmp_path / "Documents", file):
        found = read_loco(tmp_path / "Queries", place, "a")
        assert [one.id for one in found.corpus] == ["a_p1", "a_p2", "a_p3"]
        assert (found.queries, found.unjudged) == ((Query("a_q1", "one?"),), 2)
        assert found.qrels == {"a_q1": {"a_p1": 1, "a_p2": 1}}
    with pytest.raises(CorpusError, match="dataset = 'c'; found 'a', 'b'"):
        read_loco(tmp_path / "Queries", tmp_path / "Documents", "c")


@pytest.mark.parametrize("lost", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_a_beir_folder_with_a_missing_file_names_what_is_there(tmp_path, lost):
    (beir(tmp_path) / lost).unlink()
    with pytest.raises(CorpusError, match=r"expected corpus.jsonl, queries.jsonl and qrels/test.tsv, found .*jsonl"):
        read_beir(tmp_path)
    with pytest.raises(CorpusError, match="expected"):
        read_set(tmp_path)


@pytest.mark.parametrize("names", [[], ["queries.jsonl"], ["queries.jsonl", "corpus.jsonl"]])
def test_a_folder_that_is_no_set_yet_is_told_the_files_of_beir_first(tmp_path, names):
    for name in names:
        rows(tmp_path / name, query_records())
    with pytest.raises(CorpusError) as caught:
        read_set(tmp_path)
    said = str(caught.value)
    assert 0 < said.index("corpus.jsonl, queries.jsonl and qrels/test.tsv") < said.index(".parquet")
    assert f"found {', '.join(sorted(names)) or 'no table'}" in said


def test_another_split_names_the_splits_there_are(tmp_path):
    with pytest.raises(CorpusError, match=r"qrels/dev.tsv, found .*qrels/test.tsv"):
        read_beir(beir(tmp_path), "dev")


@pytest.mark.parametrize("lost", ["corpus.jsonl.gz", "queries.jsonl", "qrels/test.jsonl"])
def test_a_hub_folder_with_a_missing_part_names_what_is_there(tmp_path, lost):
    (hub_jsonl(tmp_path) / lost).unlink()
    with pytest.raises(
        CorpusError, match=rf"expected one {lost.partition('.')[0].partition('/')[0]} of split 'test'.*found"
    ):
        read_hub(tmp_path)


def test_judgements_of_another_split_are_never_taken(tmp_path):
    hub_jsonl(tmp_path)
    (tmp_path / "qrels" / "test.jsonl").unlink()
    with pytest.raises(CorpusError, match=r"found .*qrels/train.jsonl"):
        read_hub(tmp_path)
    assert read_hub(tmp_path, "train").qrels == {"q1": {"d 1": 2}}


def test_several_sets_in_one_folder_ask_for_the_subset(tmp_path):
    with pytest.raises(CorpusError, match="name the subset"):
        read_hub(hub_subsets(tmp_path))
    with pytest.raises(CorpusError, match="subset 'fr'"):
        read_hub(tmp_path, subset="fr")
    assert len(list(read_hub(tmp_path, subset="de").corpus)) == 1


@pytest.mark.parametrize(
    ("file", "record", "message"),
    [
        (
            "queries.jsonl",
            {"corpus-id": "x", "text": "?"},
            r"queries.jsonl:4: expected a field '_id' .* found 'corpus-id'",
        ),
        ("queries.jsonl", {"_id": "x"}, r"queries.jsonl:4: expected a field 'text'"),
        ("queries.jsonl", {"_id": "x", "text": ""}, "not empty"),
        ("queries.jsonl", {"_id": 1.5, "text": "?"}, "string or an integer"),
        ("queries.jsonl", ["x"], "expected a JSON object, found list"),
        ("qrels/test.jsonl", {"query-id": "q1", "corpus-id": "2"}, r"test.jsonl:4: mixed columns"),
        ("qrels/test.jsonl", {"query-id": "q1", "score": 1}, r"expected a field 'corpus-id'"),
        ("qrels/test.jsonl", {"qid": "q1", "corpus-id": "2", "score": 1}, r"test.jsonl:4: expected a field 'query-id'"),
        ("qrels/test.jsonl", {"query-id": "q1", "corpus-id": "2", "rel": 1}, r"expected a field 'score' as in"),
        ("qrels/test.jsonl", {"query-id": "q1", "corpus-id": "2", "score": 0.5}, "integer, found 0.5"),
        ("qrels/test.jsonl", {"query-id": "q1", "corpus-id": "d 1", "score": 1}, "two different grades"),
        (
            "qrels/test.jsonl",
            {"query-id": "lost", "corpus-id": "2", "score": 1},
            r"judged queries without a text \('lost'\)",
        ),
    ],
)
def test_mixed_columns_and_wrong_values_are_named_with_their_line(tmp_path, file, record, message):
    with (hub_jsonl(tmp_path) / file).open("a") as out:
        out.write(json.dumps(record) + "\n")
    with pytest.raises(CorpusError, match=message):
        read_hub(tmp_path)


@pytest.mark.parametrize("make", [beir, hub_jsonl])
@pytest.mark.parametrize("other", [{"id": "x", "contents": "t"}, {"id": "x", "text": "t"}, {"_id": "x", "body": "t"}])
def test_documents_that_switch_their_names_stop_the_evaluation(tmp_path, make, other):
    make(tmp_path)
    rows(next(tmp_path.glob("corpus.jsonl*")), [*corpus_records(), other])
    wanted = "_id" if "_id" not in other else "text"
    found = ", ".join(map(repr, other))
    with pytest.raises(CorpusError, match=rf"corpus.jsonl(.gz)?:5: .*expected one of {wanted}, found {found}"):
        facts(read_set(tmp_path))


@pytest.mark.parametrize("make", [beir, hub_jsonl])
@pytest.mark.parametrize(("other", "lost"), [({"id": "x", "text": "t"}, "_id"), ({"_id": "x", "query": "t"}, "text")])
def test_queries_that_switch_their_names_are_refused(tmp_path, make, other, lost):
    rows(make(tmp_path) / "queries.jsonl", [*query_records(), other])
    found = ", ".join(map(repr, other))
    with pytest.raises(CorpusError, match=rf"queries.jsonl:4: expected a field '{lost}' as in .*, found {found}"):
        read_set(tmp_path)


@pytest.mark.parametrize("names", [("_id", "text"), ("id", "contents"), ("docid", "body")])
def test_any_names_will_do_where_all_lines_have_them(tmp_path, names):
    beir(tmp_path)
    rows(tmp_path / "corpus.jsonl", [dict(zip(names, (one, text), strict=True)) for one, _, text in DOCUMENTS])
    assert [one.text for one in read_set(tmp_path).corpus] == [text for _, _, text in DOCUMENTS]


@pytest.mark.parametrize("row", ["q1\td1\t1\t5", "q1\t0\td1\t1"])
def test_a_table_of_judgements_has_one_layout(tmp_path, row):
    with (beir(tmp_path) / "qrels" / "test.tsv").open("a", encoding="utf-8") as out:
        out.write(row + "\n")
    found = ", ".join(map(repr, row.split("\t")))
    with pytest.raises(CorpusError, match=rf"test.tsv:5: expected the 3 columns .*corpus-id, score.*found 4: {found}"):
        read_set(tmp_path)


def test_a_query_twice_is_refused(tmp_path):
    with (hub_jsonl(tmp_path) / "queries.jsonl").open("a") as out:
        out.write(json.dumps({"_id": "q1", "text": "again"}) + "\n")
    with pytest.raises(DuplicateId, match="'q1' is used twice"):
        read_hub(tmp_path)


def test_a_document_that_cannot_be_read_stops_the_evaluation(tmp_path):
    with (beir(tmp_path) / "corpus.jsonl").open("a") as out:
        out.write(json.dumps({"query-id": "x", "corpus-id": "y"}) + "\n")
    whole = read_beir(tmp_path)
    with pytest.raises(CorpusError, match=r"corpus.jsonl:5: no id: expected one of _id, .* every document"):
        facts(whole)


def test_damaged_files_are_corpus_errors(tmp_path):
    (hub_jsonl(tmp_path) / "queries.jsonl").write_text("{not json\n")
    with pytest.raises(CorpusError, match=r"queries.jsonl:1: not JSON"):
        read_hub(tmp_path)
    (tmp_path / "queries.jsonl").unlink()
    (tmp_path / "queries.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(CorpusError, match="not readable as Parquet"):
        read_hub(tmp_path)
    with pytest.raises(MissingFile):
        read_set(tmp_path / "none")


def test_trec_judgements_survive_the_round_trip_and_refuse_white_space(tmp_path):
    plain = {"q1": {"d1": 2, "d%p": 0}, "02": {"2": -1}}
    assert write_qrels(tmp_path / "qrels.trec", plain) == 3
    assert read_qrels(tmp_path / "qrels.trec") == plain
    before = (tmp_path / "qrels.trec").read_bytes()
    with pytest.raises(UsageError, match="'d 1'"):
        write_qrels(tmp_path / "qrels.trec", QRELS)
    assert (tmp_path / "qrels.trec").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["qrels.trec"]
    write_qrels(tmp_path / "escaped.trec", QRELS, escape=True)
    assert (tmp_path / "escaped.trec").read_text().splitlines()[0] == "q1 0 d%201 2"
