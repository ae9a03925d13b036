"""The Haystack components in pipelines of Haystack: documents, filters, packs, and pipelines that are saved."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from haystack import Document, Pipeline
from haystack.components.builders import PromptBuilder
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils.filters import document_matches_filter

import unabridged as ub
from unabridged.apps.integrations.haystack import UnabridgedPacker, UnabridgedRetriever
from unabridged.errors import UsageError
from unabridged.rankers.context.counting import token_counter

QUESTION = "Who is the keeper of the violin?"


@pytest.fixture(scope="module")
def index(folder):
    with ub.open_index(folder) as found:
        yield found


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
@pytest.mark.parametrize("level", ["doc", "segment"])
def test_documents_are_the_hits_of_the_index_and_their_content_is_the_source(index, corpus, mode, level):
    found = UnabridgedRetriever(index, top_k=5, mode=mode, level=level).run(QUESTION)["documents"]
    hits = index.search_one(QUESTION, 5, mode=mode, level=level)
    assert [(one.meta["doc_id"], one.score) for one in found] == [(hit.doc_id, hit.score) for hit in hits]
    for one in found:
        source = corpus[one.meta["doc_id"]]
        assert one.content == source[one.meta["start"] : one.meta["end"]] != ""
        assert one.meta["sha256"] == hashlib.sha256(source.encode()).hexdigest()
    again = UnabridgedRetriever(str(index.folder), top_k=5, mode=mode, level=level)
    assert asyncio.run(again.run_async(QUESTION))["documents"] == found


CONDITIONS = [
    {"field": "meta.row", "operator": ">=", "value": 2},
    {"field": "row", "operator": "in", "value": [0, 4]},
    {"field": "meta.absent", "operator": "==", "value": None},
    {"field": "meta.absent", "operator": ">", "value": 1},
    {"operator": "AND", "conditions": [
        {"field": "meta.row", "operator": ">", "value": 0},
        {"field": "meta.row", "operator": "<", "value": 4},
        {"field": "meta.document_score", "operator": "!=", "value": "own 2"},
    ]},
    {"operator": "OR", "conditions": [
        {"field": "meta.row", "operator": "==", "value": 0},
        {"field": "meta.row", "operator": "==", "value": 3},
    ]},
    {"operator": "NOT", "conditions": [{"field": "meta.row", "operator": "==", "value": 1}]},
]  # fmt: skip


@pytest.mark.parametrize("filters", CONDITIONS, ids=[str(n) for n in range(len(CONDITIONS))])
def test_filters_of_haystack_find_what_haystack_itself_would_keep(index, filters):
    retriever = UnabridgedRetriever(index, top_k=5, mode="dense")
    everything = retriever.run(QUESTION)["documents"]
    found = retriever.run(QUESTION, filters=filters)["documents"]
    assert {one.id for one in found} == {one.id for one in everything if document_matches_filter(filters, one)}


def test_filters_of_ours_work_too_and_those_over_several_fields_are_refused(index):
    retriever = UnabridgedRetriever(index, filters={"tags": "odd"})
    assert {one.meta["row"] for one in retriever.run(QUESTION)["documents"]} == {1, 3}
    assert [one.meta["row"] for one in retriever.run(QUESTION, filters={"row": 2})["documents"]] == [2]
    either = [{"field": "meta.row", "operator": "==", "value": 0}, {"field": "meta.tags", "operator": "==", "value": 1}]
    with pytest.raises(UsageError, match=r"meta\.row, meta\.tags"):
        retriever.run(QUESTION, filters={"operator": "OR", "conditions": either})


def pipeline_over(folder) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("retriever", UnabridgedRetriever(str(folder), top_k=12, level="segment"))
    pipeline.add_component("packer", UnabridgedPacker(selector="bm25", budget=200, packing={"order": "score"}))
    pipeline.add_component("prompt", PromptBuilder("{{context}}\n\nQ: {{question}}", required_variables="*"))
    pipeline.connect("retriever.documents", "packer.documents")
    pipeline.connect("packer.text", "prompt.context")
    return pipeline


def test_a_pipeline_that_was_saved_and_loaded_gives_the_same_and_its_prompt_holds_the_budget(folder, corpus):
    inputs = {name: {"query": QUESTION} for name in ("retriever", "packer")} | {"prompt": {"question": QUESTION}}
    pipeline = pipeline_over(folder)
    saved = pipeline.dumps()
    found = pipeline.run(inputs, include_outputs_from={"packer"})
    loaded = Pipeline.loads(saved, allowed_modules=["unabridged.*"])
    assert loaded.to_dict()["components"] == pipeline.to_dict()["components"]
    assert loaded.run(inputs, include_outputs_from={"packer"}) == found
    packed = found["packer"]
    text = found["prompt"]["prompt"].removesuffix(f"\n\nQ: {QUESTION}")
    assert token_counter()(text) == packed["tokens"] <= 200
    assert packed["dropped"]
    kept = {place for one in packed["documents"] for place in one.meta["packed"]["documents"]}
    assert len(kept) + sum(one["reason"] == "budget" for one in packed["dropped"]) == 12
    for one in packed["documents"]:
        assert one.content == corpus[one.meta["doc_id"]][one.meta["start"] : one.meta["end"]]
        assert one.content in text


def test_documents_of_haystacks_own_retriever_are_ranked_and_packed(corpus):
    store = InMemoryDocumentStore()
    store.write_documents([Document(content=text[:600], meta={"name": name}) for name, text in corpus.items()])
    documents = InMemoryBM25Retriever(store, top_k=5).run("Sentence")["documents"]
    found = UnabridgedPacker(selector="bm25", top_k=1).run("violin", documents)
    assert [one.meta["name"] for one in found["documents"]] == ["naïve-é"]
    assert found["documents"][0].score == found["documents"][0].meta["reranked"]["score"]
    packed = UnabridgedPacker(budget=5000).run("violin", documents)
    assert sorted(one.content for one in packed["documents"]) == sorted(one.content for one in documents)
    assert {one.id for one in packed["documents"]} == {one.id for one in documents}
    assert packed["dropped"] == []


def test_what_cannot_be_saved_or_read_says_so():
    class Chosen:
        label = "chosen"

        def rank(self, requests, *, cancel=None):
            raise NotImplementedError

    with pytest.raises(UsageError, match="give it by name"):
        UnabridgedPacker(ranker=Chosen()).to_dict()
    with pytest.raises(UsageError, match="has no text"):
        UnabridgedPacker(top_k=1).run("a", [Document(id="x")])
    with pytest.raises(ValueError, match="psychic"):
        UnabridgedRetriever("nowhere", mode="psychic")


def test_nothing_in_gives_nothing_out():
    found = UnabridgedPacker(budget=10).run("a question", [])
    assert found == {"documents": [], "text": "", "tokens": 0, "dropped": []}
