"""The LlamaIndex adapter against LlamaIndex itself: nodes with exact offsets, metadata no model reads, budgets."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.schema import Document, MetadataMode, NodeWithScore, QueryBundle, TextNode

import unabridged as ub
from unabridged.apps.integrations.llamaindex import UnabridgedPostprocessor, UnabridgedRetriever
from unabridged.errors import UsageError
from unabridged.rankers.context.counting import token_counter

QUESTION = "Who is the keeper of the violin?"


@pytest.fixture(scope="module")
def index(folder):
    with ub.open_index(folder) as found:
        yield found


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
@pytest.mark.parametrize("level", ["doc", "segment"])
def test_nodes_are_the_hits_of_the_index_and_stand_in_their_source_where_they_say(index, corpus, mode, level):
    retriever = UnabridgedRetriever(index, k=5, mode=mode, level=level)
    found = retriever.retrieve(QUESTION)
    hits = index.search_one(QUESTION, 5, mode=mode, level=level)
    assert isinstance(retriever, BaseRetriever)
    assert [one.node.ref_doc_id for one in found] == [hit.doc_id for hit in hits]
    assert [one.score for one in found] == [hit.score for hit in hits]
    for one in found:
        source, node = corpus[one.node.ref_doc_id], one.node
        assert node.text == source[node.start_char_idx : node.end_char_idx] != ""
        digest = hashlib.sha256(source.encode()).hexdigest()
        assert node.metadata["sha256"] == node.source_node.hash == digest


def test_a_folder_gives_the_same_in_both_ways_of_calling_and_ids_do_not_change(index, folder):
    expected = UnabridgedRetriever(index, k=4, level="segment").retrieve(QUESTION)
    retriever = UnabridgedRetriever(folder, k=4, level="segment")
    assert retriever.retrieve(QueryBundle(QUESTION)) == expected
    assert asyncio.run(retriever.aretrieve(QUESTION)) == expected
    assert len({one.node_id for one in expected}) == 4


def test_a_model_reads_the_documents_own_metadata_and_none_of_ours(index):
    [found] = UnabridgedRetriever(index, k=1, filter={"row": 3}).retrieve(QUESTION)
    read = found.node.get_content(MetadataMode.LLM)
    assert "row: 3" in read
    assert "document_score: own 3" in read
    assert not any(name in read for name in ("sha256", "stages", "rank:", "\nscore:"))


def test_a_query_that_brings_other_texts_or_vectors_is_refused(index):
    for bundle in (QueryBundle("a", custom_embedding_strs=["b"]), QueryBundle("a", embedding=[0.5])):
        with pytest.raises(UsageError, match="reads the query alone"):
            UnabridgedRetriever(index).retrieve(bundle)


@pytest.mark.parametrize("budget", [60, 200, 5000])
def test_packs_hold_their_budget_and_join_what_overlaps(index, folder, corpus, budget):
    nodes = UnabridgedRetriever(index, k=14, level="segment").retrieve(QUESTION)
    postprocessor = UnabridgedPostprocessor(selector="bm25", budget=budget, sources=folder)
    found = postprocessor.postprocess_nodes(nodes, query_str=QUESTION)
    pack = postprocessor.pack(nodes, QUESTION)
    assert isinstance(postprocessor, BaseNodePostprocessor)
    assert token_counter()(pack.text) == pack.tokens <= budget
    assert [one.node.text for one in found] == [one.text for one in pack.sources]
    for one in found:
        node = one.node
        assert node.text == corpus[node.ref_doc_id][node.start_char_idx : node.end_char_idx]
        assert (node.metadata["start"], node.metadata["end"]) == (node.start_char_idx, node.end_char_idx)
        assert "packed" not in node.get_content(MetadataMode.LLM)
        assert one.score == node.metadata["reranked"]["score"]
    dropped = found[0].node.metadata["packed"].get("dropped", [])
    kept = {place for one in found for place in one.node.metadata["packed"]["documents"]}
    assert kept | {one["hit"] for one in dropped} == set(range(14))
    assert asyncio.run(postprocessor.apostprocess_nodes(nodes, query_str=QUESTION)) == found


def test_nodes_of_llamaindexes_own_splitter_are_joined_where_they_overlap():
    text = " ".join(f"Sentence {n} speaks of thing{n} and of other{n * 3}." for n in range(40))
    nodes = SentenceSplitter(chunk_size=60, chunk_overlap=25, tokenizer=str.split).get_nodes_from_documents(
        [Document(text=text, id_="d")]
    )
    assert nodes[1].start_char_idx < nodes[0].end_char_idx
    scored = [NodeWithScore(node=one, score=1.0 - at / 100) for at, one in enumerate(nodes[:3])]
    found = UnabridgedPostprocessor(budget=1000).postprocess_nodes(scored, query_str="thing1")
    assert [one.node.text for one in found] == [text[: nodes[2].end_char_idx]]
    assert (found[0].node.start_char_idx, found[0].node.end_char_idx) == (0, nodes[2].end_char_idx)
    assert found[0].node.ref_doc_id == "d"


def test_nodes_without_offsets_stay_as_they_are_in_a_new_order():
    nodes = [
        NodeWithScore(node=TextNode(text=f"about subject{n}", id_=f"n{n}", metadata={"page": n})) for n in range(5)
    ]
    found = UnabridgedPostprocessor(selector="bm25", top_n=2).postprocess_nodes(nodes, query_str="subject3")
    assert [one.node_id for one in found] == ["n3", "n0"]
    assert found[0].node.metadata["page"] == 3
    assert found[0].node.metadata["reranked"]["first_rank"] == 4
    assert "reranked" not in nodes[3].node.metadata


def test_a_postprocessor_needs_a_question_and_something_to_do():
    with pytest.raises(UsageError, match="pass query_str"):
        UnabridgedPostprocessor(top_n=1).postprocess_nodes([NodeWithScore(node=TextNode(text="a"))])
    with pytest.raises(ValueError, match="Nothing would be done"):
        UnabridgedPostprocessor()


def test_both_run_in_a_query_engine_of_llamaindex(index):
    engine = RetrieverQueryEngine(
        UnabridgedRetriever(index, k=10, level="segment"),
        response_synthesizer=get_response_synthesizer(llm=MockLLM(), response_mode=ResponseMode.COMPACT),
        node_postprocessors=[UnabridgedPostprocessor(selector="bm25", budget=150)],
    )
    response = engine.query("keeper of the violin Zedviolin")
    assert "Zedviolin" in response.source_nodes[0].node.text
    assert "Zedviolin" in str(response)  # the model of LlamaIndex's tests says its prompt again
