"""LlamaIndex: an index as a retriever, rankers and context packs as a postprocessor of nodes.

::

    retriever = UnabridgedRetriever("idx/", k=20, level="segment")
    postprocessor = UnabridgedPostprocessor(selector="hybrid", budget=2000)
    engine = RetrieverQueryEngine.from_args(retriever, llm=llm, node_postprocessors=[postprocessor])

Needs llama-index-core 0.14 or newer: ``pip install "unabridged[llamaindex]"``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unabridged._extras import require
from unabridged.apps.integrations.framework_hits import RECORD, Native, natives, opened, searched, span_id
from unabridged.apps.integrations.framework_stages import PACKED, RERANKED, Outcome, Piece
from unabridged.apps.integrations.framework_texts import Given
from unabridged.contracts import Level
from unabridged.errors import UsageError
from unabridged.rankers.context.contracts import ContextPack
from unabridged.retrievers.opened import Index
from unabridged.retrievers.result import Mode

require("llama_index", extra="llamaindex", purpose="retrievers for LlamaIndex")

from llama_index.core.base.base_retriever import BaseRetriever  # noqa: E402 - the message above comes first
from llama_index.core.postprocessor.types import BaseNodePostprocessor  # noqa: E402
from llama_index.core.schema import (  # noqa: E402
    BaseNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)

from unabridged.apps.integrations.framework_fields import StageFields  # noqa: E402

_HIDDEN = [*RECORD, RERANKED, PACKED, "shown"]
"""Metadata that no model reads: LlamaIndex writes all other fields in front of a node's text."""


class UnabridgedRetriever(BaseRetriever):
    """The ``k`` best spans of an index as nodes, best first.

    ``start_char_idx`` and ``end_char_idx`` are characters of the source, whose id is ``ref_doc_id``; ``metadata`` has
    the document's own fields and those of :data:`~unabridged.apps.integrations.framework_hits.RECORD`.
    """

    def __init__(
        self,
        index: Index | str | Path,
        *,
        k: int = 10,
        mode: Mode | str = Mode.HYBRID,
        level: Level | str = Level.DOC,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - as in search
        **options: Any,
    ) -> None:
        """``index`` is one that is open, or its folder; ``options`` are those of LlamaIndex's retrievers."""
        super().__init__(**options)
        self.index = opened(index)
        self._options = {**searched(k, mode, level), "filter": filter}

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = self.index.search_one(_question(query_bundle), **self._options)
        return [_node(one) for one in natives(self.index, found)]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = await self.index.asearch_one(_question(query_bundle), **self._options)
        return [_node(one) for one in natives(self.index, found)]


class UnabridgedPostprocessor(StageFields, BaseNodePostprocessor):
    """Nodes of any retriever, best first: reranked, cut to ``top_n``, and packed under a budget of tokens.

    The fields are those of :class:`~unabridged.apps.integrations.framework_stages.SecondStage`.  With a budget, spans
    that overlap come out as one node and ``metadata["packed"]`` says how; the first node has under ``dropped`` what was
    left out and why.  :meth:`pack` gives the same as one text with numbered sources.
    """

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex saves."""
        return "UnabridgedPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return [_changed(nodes[one.place], one) for one in self._run(nodes, query_bundle).pieces]

    def pack(self, nodes: Sequence[NodeWithScore], query: str | QueryBundle) -> ContextPack:
        """The nodes as one text, whose citations can be checked; :class:`UsageError` without a budget or any node."""
        found = self._run(nodes, QueryBundle(query) if isinstance(query, str) else query).pack
        if found is None:
            raise UsageError("There is no pack without a budget and at least one node.")
        return found

    def _run(self, nodes: Sequence[NodeWithScore], query: QueryBundle | None) -> Outcome:
        if query is None:
            raise UsageError("Nodes are ranked and packed for a question: pass query_str or query_bundle.")
        return self._stage.run(query.query_str, [_given(one) for one in nodes])


def _question(bundle: QueryBundle) -> str:
    if bundle.custom_embedding_strs or bundle.embedding:
        raise UsageError(
            "The query brings texts or a vector to be searched in its place, and an index reads the query alone. "
            "Search with that text as the query."
        )
    return bundle.query_str


def _node(one: Native) -> NodeWithScore:
    record = one.record
    node = TextNode(
        id_=one.id,
        text=one.text,
        start_char_idx=record["start"],
        end_char_idx=record["end"],
        metadata=one.metadata,
        excluded_llm_metadata_keys=_HIDDEN,
        excluded_embed_metadata_keys=_HIDDEN,
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=record["doc_id"], hash=record["sha256"])},
    )
    return NodeWithScore(node=node, score=record["score"])


def _given(scored: NodeWithScore) -> Given:
    """A node by its own offsets; any that splitters of LlamaIndex made has them, in the document it was split from."""
    if not isinstance(scored, NodeWithScore):
        raise UsageError(f"One of the nodes is {type(scored).__name__}; expected a NodeWithScore of llama_index.")
    node = scored.node
    start, end = getattr(node, "start_char_idx", None), getattr(node, "end_char_idx", None)
    known = {"doc_id": node.ref_doc_id, "start": start, "end": end, "sha256": node.metadata.get("sha256")}
    label = node.metadata.get("file_name") or node.ref_doc_id or node.node_id
    return Given.of(node.get_content(MetadataMode.NONE), known, label=label, score=scored.score)


def _changed(scored: NodeWithScore, one: Piece) -> NodeWithScore:
    node = scored.node
    metadata = {**node.metadata, **one.record}
    update: dict[str, Any] = {
        "metadata": metadata,
        "excluded_llm_metadata_keys": _also(node.excluded_llm_metadata_keys),
        "excluded_embed_metadata_keys": _also(node.excluded_embed_metadata_keys),
    }
    if one.foreign and one.joined:
        metadata["shown"] = [one.start, one.end]
    elif not one.foreign and set(RECORD) <= set(metadata):
        metadata |= {"start": one.start, "end": one.end, "sha256": one.sha256}
    if one.joined:
        return NodeWithScore(node=_part(node, one, update), score=_score(scored, one))
    return NodeWithScore(node=node.model_copy(update=update), score=_score(scored, one))


def _part(node: BaseNode, one: Piece, update: Mapping[str, Any]) -> TextNode:
    """A node of another text than the one it came with; it stands nowhere that is known if its source is not."""
    start, end = (None, None) if one.foreign else (one.start, one.end)
    source = {kind: other for kind, other in node.relationships.items() if kind is NodeRelationship.SOURCE}
    origin = node.node_id if one.foreign else node.ref_doc_id or ""
    return TextNode(
        id_=span_id(origin, one.start, one.end, one.sha256),
        text=one.text,
        start_char_idx=start,
        end_char_idx=end,
        relationships=source,
        **update,
    )


def _also(hidden: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*hidden, RERANKED, PACKED, "shown"]))


def _score(scored: NodeWithScore, one: Piece) -> float | None:
    """The new score; that of the first stage only where nothing was ranked again."""
    return one.score if RERANKED in one.record else scored.score
