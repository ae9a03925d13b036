"""The LangChain adapter against LangChain itself: native documents, exact spans, budgets that hold."""

from __future__ import annotations

import asyncio
import hashlib
import json

import pytest
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

import unabridged as ub
from unabridged.apps.integrations.langchain import UnabridgedCompressor, UnabridgedRetriever
from unabridged.errors import BudgetTooSmall, SourceChanged, UsageError
from unabridged.rankers.context.counting import token_counter
from unabridged.rankers.contracts import Ranking, Status

QUESTION = "Who is the keeper of the violin?"


@pytest.fixture(scope="module")
def index(folder):
    with ub.open_index(folder) as found:
        yield found


class Backwards:
    """A ranker that turns the list around, and says so."""

    label = "backwards"

    def rank(self, requests, *, cancel=None):
        sizes = [len(one.candidates) for one in requests]
        return [Ranking(tuple(reversed(range(n))), Status.OK, tuple(map(float, range(n, 0, -1)))) for n in sizes]


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
@pytest.mark.parametrize("level", ["doc", "segment", "both"])
def test_documents_are_the_hits_of_the_index_and_their_text_is_the_source_at_their_offsets(index, corpus, mode, level):
    retriever = UnabridgedRetriever(index=index, k=4, mode=mode, level=level)
    found = retriever.invoke(QUESTION)
    hits = index.search_one(QUESTION, 4, mode=mode, level=level)
    assert isinstance(retriever, BaseRetriever)
    assert [one.metadata["doc_id"] for one in found] == [hit.doc_id for hit in hits]
    for one, hit in zip(found, hits, strict=True):
        known = one.metadata
        assert one.page_content == corpus[known["doc_id"]][known["start"] : known["end"]] != ""
        assert (known["score"], known["rank"], known["stages"]) == (hit.score, hit.rank, dict(hit.stages))
        assert known["sha256"] == hashlib.sha256(corpus[known["doc_id"]].encode()).hexdigest()
        assert known["document_score"].startswith("own ")
        json.dumps(known)


def test_a_folder_is_opened_and_gives_what_the_open_index_gives_sync_async_and_in_a_batch(index, folder):
    retriever = UnabridgedRetriever(index=folder, k=3, level="segment")
    expected = UnabridgedRetriever(index=index, k=3, level="segment").invoke(QUESTION)
    assert retriever.invoke(QUESTION) == expected
    assert asyncio.run(retriever.ainvoke(QUESTION)) == expected
    assert retriever.batch([QUESTION, "orchard"])[0] == expected
    assert UnabridgedRetriever(index=str(folder), k=3, level="segment").invoke(QUESTION) == expected


def test_ids_are_those_of_spans_whatever_the_search(index):
    one = UnabridgedRetriever(index=index, k=8, level="segment", mode="bm25").invoke("keeper violin")
    other = UnabridgedRetriever(index=index, k=8, level="segment", mode="hybrid").invoke(QUESTION)
    names = {(d.metadata["doc_id"], d.metadata["start"], d.metadata["end"]): d.id for d in one}
    again = {(d.metadata["doc_id"], d.metadata["start"], d.metadata["end"]): d.id for d in other}
    assert len(set(names.values())) == len(names) == 8
    assert names.keys() & again.keys()
    assert all(names[key] == again[key] for key in names.keys() & again.keys())


def test_a_filter_and_a_number_may_be_set_once_or_at_each_call(index):
    retriever = UnabridgedRetriever(index=index, k=5, filter={"tags": "odd"})
    assert {one.metadata["row"] for one in retriever.invoke(QUESTION)} == {1, 3}
    assert [one.metadata["row"] for one in retriever.invoke(QUESTION, filter={"row": 2})] == [2]
    assert len(retriever.invoke(QUESTION, k=1)) == 1
    with pytest.raises(UsageError, match="no option 'kk'"):
        retriever.invoke(QUESTION, kk=1)


@pytest.mark.parametrize("wrong", [{"k": 0}, {"mode": "psychic"}, {"level": "word"}])
def test_wrong_settings_are_refused_before_any_search(index, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        UnabridgedRetriever(index=index, **wrong)


def test_no_index_and_an_empty_query_are_errors_of_ours(index, tmp_path):
    with pytest.raises(ub.UnabridgedError, match="missing"):
        UnabridgedRetriever(index=tmp_path / "missing")
    with pytest.raises(UsageError, match="empty"):
        UnabridgedRetriever(index=index).invoke("  ")


def test_reranking_gives_the_rankers_order_and_the_documents_as_they_were(index):
    documents = UnabridgedRetriever(index=index, k=5, level="segment").invoke(QUESTION)
    compressor = UnabridgedCompressor(ranker=Backwards(), top_n=3)
    found = compressor.compress_documents(documents, QUESTION)
    assert isinstance(compressor, BaseDocumentCompressor)
    assert [one.id for one in found] == [one.id for one in documents[:1:-1]]
    assert [one.page_content for one in found] == [one.page_content for one in documents[:1:-1]]
    assert found[0].metadata["reranked"] == {
        "model": "backwards", "rank": 1, "first_rank": 5, "score": 5.0, "offered": 5, "status": "ok",
    }  # fmt: skip
    assert "reranked" not in documents[0].metadata
    assert asyncio.run(compressor.acompress_documents(documents, QUESTION)) == found


def test_a_selector_by_name_puts_the_answer_first(corpus):
    documents = [
        Document(page_content=text[at : at + 300]) for text in corpus.values() for at in range(0, len(text), 300)
    ]
    found = UnabridgedCompressor(selector="bm25", top_n=1).compress_documents(documents, "keeper Zedviolin")
    assert "Zedviolin" in found[0].page_content
    assert found[0].metadata["reranked"]["offered"] == len(documents)


@pytest.mark.parametrize("known", [False, True], ids=["sources from the documents", "sources from the index"])
@pytest.mark.parametrize("budget", [60, 150, 400, 5000])
def test_packs_hold_their_budget_join_overlaps_and_account_for_every_document(index, folder, corpus, budget, known):
    documents = UnabridgedRetriever(index=index, k=14, level="segment").invoke(QUESTION)
    compressor = UnabridgedCompressor(budget=budget, sources=folder if known else None)
    found = compressor.compress_documents(documents, QUESTION)
    pack = compressor.pack(documents, QUESTION)
    assert token_counter()(pack.text) == pack.tokens <= budget
    assert found[0].metadata["packed"]["tokens"] == pack.tokens
    kept = [place for one in found for place in one.metadata["packed"]["documents"]]
    dropped = [one["hit"] for one in found[0].metadata["packed"].get("dropped", ()) if one["reason"] == "budget"]
    assert sorted({*kept, *(one["hit"] for one in found[0].metadata["packed"].get("dropped", ()))}) == list(range(14))
    assert not set(kept) & set(dropped)
    taken = set()
    for one, span in zip(found, pack.sources, strict=True):
        known_of = one.metadata
        assert one.page_content == corpus[known_of["doc_id"]][known_of["start"] : known_of["end"]] == span.text
        assert known_of["sha256"] == span.sha256 == hashlib.sha256(corpus[known_of["doc_id"]].encode()).hexdigest()
        characters = {(known_of["doc_id"], at) for at in range(known_of["start"], known_of["end"])}
        assert not taken & characters
        taken |= characters
    if budget == 5000:
        assert not dropped
        whole = {(d.metadata["doc_id"], at) for d in documents for at in range(d.metadata["start"], d.metadata["end"])}
        assert taken == whole
        assert len(found) < len(documents)


def test_documents_of_foreign_retrievers_are_packed_by_their_own_text():
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=16))
    texts = [f"Passage {n} about subject{n}, with its own words{n}." for n in range(6)]
    store.add_texts(texts, metadatas=[{"source": "one.pdf", "page": n, "score": "none"} for n in range(6)])
    documents = store.as_retriever(search_kwargs={"k": 6}).invoke("subject3")
    found = UnabridgedCompressor(selector="bm25", budget=50, packing={"order": "score"}).compress_documents(
        documents, "subject3 words3"
    )
    assert found[0].page_content == texts[3]
    assert found[0].metadata["page"] == 3
    assert {one.page_content for one in found} < set(texts)
    assert len(found) + sum(one["reason"] == "budget" for one in found[0].metadata["packed"]["dropped"]) == 6
    assert all(one.id in {d.id for d in documents} for one in found)


def test_a_foreign_document_that_is_cut_says_which_characters_are_shown():
    text = " ".join(f"Sentence number {n} has some words." for n in range(60))
    compressor = UnabridgedCompressor(budget=80, packing={"trim": True})
    [found] = compressor.compress_documents([Document(page_content=text, id="a")], "words")
    start, end = found.metadata["shown"]
    assert found.page_content == text[start:end] != text
    assert found.metadata["packed"]["cut"] == [[end, len(text)]]
    assert found.id is None


def test_offsets_that_do_not_fit_the_text_make_a_document_foreign_and_contradictions_are_kept_apart():
    documents = [
        Document(page_content="abc def", metadata={"doc_id": "d", "start": 0, "end": 3}),
        Document(page_content="one two three", metadata={"doc_id": "d", "start": 10, "end": 23}),
        Document(page_content="XXX two three", metadata={"doc_id": "d", "start": 10, "end": 23}),
        Document(page_content="three four", metadata={"doc_id": "d", "start": 18, "end": 28}),
    ]
    pack = UnabridgedCompressor(budget=200, packing={"order": "score"}).pack(documents, "three")
    assert [one.text for one in pack.sources] == ["abc def", "one two three four", "XXX two three"]
    assert [(one.start, one.end) for one in pack.sources] == [(0, 7), (10, 28), (0, 13)]


def test_a_document_that_is_not_in_its_source_is_refused_with_sources(index, folder):
    [document] = UnabridgedRetriever(index=index, k=1, level="segment").invoke(QUESTION)
    changed = document.model_copy(update={"page_content": "?" + document.page_content[1:]})
    with pytest.raises(SourceChanged, match="not what was indexed"):
        UnabridgedCompressor(budget=500, sources=folder).compress_documents([changed], QUESTION)


def test_a_budget_in_which_nothing_fits_names_the_one_that_would_do(index):
    documents = UnabridgedRetriever(index=index, k=3, level="segment").invoke(QUESTION)
    with pytest.raises(BudgetTooSmall) as caught:
        UnabridgedCompressor(budget=3).compress_documents(documents, QUESTION)
    assert UnabridgedCompressor(budget=caught.value.smallest).compress_documents(documents, QUESTION)


def test_nothing_in_gives_nothing_out_and_loads_no_model():
    assert UnabridgedCompressor(ranker="no/such/model:full", budget=9).compress_documents([], QUESTION) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "Nothing would be done"),
        ({"ranker": Backwards(), "selector": "bm25"}, "expected one of them"),
        ({"top_n": 0}, "positive whole number"),
        ({"ranker": Backwards(), "packing": {"trim": True}}, "no budget"),
        ({"budget": 100, "packing": {"tirm": True}}, "no 'tirm'"),
        ({"budget": 100, "packing": {"neighbours": 1}}, "give sources"),
    ],
)
def test_options_that_do_nothing_or_contradict_each_other_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        UnabridgedCompressor(**options)


def test_retriever_and_pack_run_in_a_chain_of_langchain(index):
    compressor = UnabridgedCompressor(selector="bm25", budget=200)
    chain = (
        {"documents": UnabridgedRetriever(index=index, k=10, level="segment"), "question": RunnablePassthrough()}
        | RunnableLambda(lambda found: compressor.pack(found["documents"], found["question"]))
        | RunnableLambda(lambda pack: pack.text)
    )
    assert "Zedviolin" in chain.invoke("keeper of the violin Zedviolin")
