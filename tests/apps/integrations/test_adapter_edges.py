"""What other programs do to adapters: wrong types, empty lists, saving and loading, many threads, an event loop."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from haystack import Document as HaystackDocument
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

import unabridged as ub
from unabridged.apps.integrations import haystack, langchain, llamaindex
from unabridged.errors import UsageError

QUESTION = "who keeps the glacier?"


@pytest.fixture(scope="module")
def index(folder):
    with ub.open_index(folder) as opened:
        yield opened


@pytest.mark.parametrize("number", [0, -1, True, "10", 1.5])
def test_numbers_of_hits_and_tokens_that_are_none_are_refused_before_anything_is_read(index, number):
    refused = (UsageError, ValueError)
    for build in (
        lambda: llamaindex.UnabridgedRetriever(index, k=number),
        lambda: haystack.UnabridgedRetriever(index, top_k=number),
        lambda: langchain.UnabridgedCompressor(budget=number),
        lambda: langchain.UnabridgedCompressor(top_n=number),
        lambda: llamaindex.UnabridgedPostprocessor(budget=number),
        lambda: haystack.UnabridgedPacker(budget=number),
        lambda: haystack.UnabridgedPacker(top_k=number),
    ):
        with pytest.raises(refused):
            build()


@pytest.mark.parametrize("wrong", [{"mode": "fast"}, {"level": "page"}])
def test_ways_to_search_that_there_are_not_name_those_that_there_are(index, wrong):
    for build in (llamaindex.UnabridgedRetriever, haystack.UnabridgedRetriever):
        with pytest.raises(UsageError, match="dense, bm25, hybrid, levels doc, segment, both"):
            build(index, **wrong)


def test_what_is_no_document_is_refused_by_its_type():
    with pytest.raises(UsageError, match="is str; expected a Document of langchain_core"):
        langchain.UnabridgedCompressor(top_n=1).compress_documents(["text"], QUESTION)
    with pytest.raises(UsageError, match="is TextNode; expected a NodeWithScore"):
        llamaindex.UnabridgedPostprocessor(top_n=1)._postprocess_nodes([TextNode(text="x")], _asked())
    with pytest.raises(UsageError, match="is dict; expected a Document of haystack"):
        haystack.UnabridgedPacker(top_k=1).run(QUESTION, [{"content": "x"}])


def _asked():
    from llama_index.core.schema import QueryBundle

    return QueryBundle(QUESTION)


def test_an_index_is_saved_as_its_folder_and_what_was_loaded_does_the_same(index, folder):
    retriever = langchain.UnabridgedRetriever(index=index, k=3, level="segment")
    saved = retriever.model_dump_json()
    assert json.loads(saved)["index"] == str(folder)
    again = langchain.UnabridgedRetriever.model_validate_json(saved)
    assert again.invoke(QUESTION) == retriever.invoke(QUESTION)
    again.index.close()
    compressor = langchain.UnabridgedCompressor(budget=150, sources=index, packing={"neighbours": 1})
    loaded = langchain.UnabridgedCompressor.model_validate_json(compressor.model_dump_json())
    documents = retriever.invoke(QUESTION)
    assert loaded.compress_documents(documents, QUESTION) == compressor.compress_documents(documents, QUESTION)
    nodes = llamaindex.UnabridgedRetriever(index, k=3).retrieve(QUESTION)
    processor = llamaindex.UnabridgedPostprocessor(budget=150, selector="bm25", sources=index)
    back = llamaindex.UnabridgedPostprocessor.from_json(processor.to_json())
    assert back.sources == str(folder)
    texts = [one.node.text for one in processor.postprocess_nodes(nodes, query_str=QUESTION)]
    assert [one.node.text for one in back.postprocess_nodes(nodes, query_str=QUESTION)] == texts
    assert llamaindex.UnabridgedPostprocessor.from_dict(processor.to_dict()).budget == 150


def test_documents_of_nowhere_twice_the_same_and_empty_ones_are_accounted_for():
    texts = ["The glacier is kept by Zed.", "The glacier is kept by Zed.", "", " \n"]
    odd = {"source": 5, "score": "high", "doc_id": 3, "start": "a", "end": None, "sha256": 7}
    documents = [Document(page_content=text, metadata=dict(odd)) for text in texts]
    found = langchain.UnabridgedCompressor(selector="bm25", budget=60).compress_documents(documents, QUESTION)
    assert [one.page_content for one in found] == texts[:1]
    dropped = found[0].metadata["packed"]["dropped"]
    assert sorted((one["hit"], one["reason"]) for one in dropped) == [(1, "duplicate"), (2, "empty"), (3, "empty")]
    nodes = [NodeWithScore(node=TextNode(text=text), score=None) for text in texts]
    processor = llamaindex.UnabridgedPostprocessor(selector="bm25", budget=60)
    assert [one.node.text for one in processor.postprocess_nodes(nodes, query_str=QUESTION)] == texts[:1]
    packed = haystack.UnabridgedPacker(selector="bm25", budget=60).run(
        QUESTION, [HaystackDocument(content=text, id=str(at)) for at, text in enumerate(texts)]
    )
    assert [one.content for one in packed["documents"]] == texts[:1]
    assert len(packed["dropped"]) == 3


def test_nothing_found_and_nothing_given_is_nothing_and_an_empty_question_is_refused(index):
    assert langchain.UnabridgedRetriever(index=index, filter={"row": 99}).invoke(QUESTION) == []
    assert llamaindex.UnabridgedRetriever(index, filter={"row": 99}).retrieve(QUESTION) == []
    assert haystack.UnabridgedRetriever(index).run(QUESTION, filters={"row": 99}) == {"documents": []}
    for ask in (
        lambda: langchain.UnabridgedRetriever(index=index).invoke(" "),
        lambda: llamaindex.UnabridgedRetriever(index).retrieve(" "),
        lambda: haystack.UnabridgedRetriever(index).run(" "),
        lambda: langchain.UnabridgedCompressor(budget=50).compress_documents([Document(page_content="x")], " "),
        lambda: haystack.UnabridgedPacker(budget=50).run(" ", [HaystackDocument(content="x")]),
    ):
        with pytest.raises(UsageError, match="expected at least one word"):
            ask()


def test_an_event_loop_and_many_threads_get_what_one_call_gets(index):
    retriever = langchain.UnabridgedRetriever(index=index, k=4, level="segment")
    compressor = langchain.UnabridgedCompressor(selector="bm25", budget=120)
    nodes = llamaindex.UnabridgedRetriever(index, k=4)
    processor = llamaindex.UnabridgedPostprocessor(selector="bm25", budget=120)
    finder, packer = haystack.UnabridgedRetriever(index, top_k=4), haystack.UnabridgedPacker(budget=120)
    documents = retriever.invoke(QUESTION)

    async def all_at_once():
        return await asyncio.gather(
            retriever.ainvoke(QUESTION),
            compressor.acompress_documents(documents, QUESTION),
            nodes.aretrieve(QUESTION),
            processor.apostprocess_nodes(nodes.retrieve(QUESTION), query_str=QUESTION),
            finder.run_async(QUESTION),
            packer.run_async(QUESTION, finder.run(QUESTION)["documents"]),
        )

    found = asyncio.run(all_at_once())
    assert found[0] == documents
    assert found[1] == compressor.compress_documents(documents, QUESTION)
    assert [one.node_id for one in found[2]] == [one.node_id for one in nodes.retrieve(QUESTION)]
    assert [one.node.text for one in found[3]] == [
        one.node.text for one in processor.postprocess_nodes(nodes.retrieve(QUESTION), query_str=QUESTION)
    ]
    assert found[4] == finder.run(QUESTION)
    assert found[5] == packer.run(QUESTION, found[4]["documents"])
    with ThreadPoolExecutor(8) as pool:
        many = pool.map(lambda _: compressor.compress_documents(retriever.invoke(QUESTION), QUESTION), range(16))
        assert all(one == found[1] for one in many)
