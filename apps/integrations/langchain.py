"""LangChain: an index as a retriever, rankers and context packs as a compressor of documents.

::

    retriever = UnabridgedRetriever(index="idx/", k=20, level="segment")
    compressor = UnabridgedCompressor(selector="hybrid", budget=2000)
    documents = compressor.compress_documents(retriever.invoke(question), question)

Needs langchain-core 1.0 or newer: ``pip install "unabridged[langchain]"``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unabridged._extras import require
from unabridged.apps.integrations.framework_hits import Native, natives, opened, span_id
from unabridged.apps.integrations.framework_stages import Outcome, Piece
from unabridged.apps.integrations.framework_texts import Given
from unabridged.contracts import Level
from unabridged.errors import UsageError
from unabridged.rankers.context.contracts import ContextPack
from unabridged.retrievers.opened import Index
from unabridged.retrievers.result import Mode

require("langchain_core", extra="langchain", purpose="retrievers for LangChain")

from langchain_core.callbacks import (  # noqa: E402 - the message above comes first
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
    Callbacks,
)
from langchain_core.documents import BaseDocumentCompressor, Document  # noqa: E402
from langchain_core.retrievers import BaseRetriever  # noqa: E402
from pydantic import Field, field_serializer, field_validator  # noqa: E402

from unabridged.apps.integrations.framework_fields import StageFields  # noqa: E402


class UnabridgedRetriever(BaseRetriever):
    """The ``k`` best spans of an index as documents, best first.

    ``page_content`` is the span as it stands in the source; ``metadata`` has the document's own fields and those of
    :data:`~unabridged.apps.integrations.framework_hits.RECORD`.  ``k`` and ``filter`` may be given at each call too.
    """

    index: Index
    """An index, or the folder of one."""
    k: int = Field(default=10, ge=1)
    mode: Mode = Mode.HYBRID
    level: Level = Level.DOC
    filter: Mapping[str, Any] | None = None

    @field_validator("index", mode="before")
    @classmethod
    def _open(cls, index: Any) -> Any:
        return opened(index) if isinstance(index, (str, Path)) else index

    @field_serializer("index", when_used="json")
    def _folder(self, index: Index) -> str:
        return str(index.folder)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        found = self.index.search_one(query, **self._options(options))
        return [_document(one) for one in natives(self.index, found)]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        found = await self.index.asearch_one(query, **self._options(options))
        return [_document(one) for one in natives(self.index, found)]

    def _options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        own = {"k": self.k, "mode": self.mode, "level": self.level, "filter": self.filter}
        if unknown := sorted(set(given) - set(own)):
            raise UsageError(f"A search has no option {unknown[0]!r}; it has {', '.join(own)}.")
        return {**own, **given}


class UnabridgedCompressor(StageFields, BaseDocumentCompressor):
    """Documents of any retriever, best first: reranked, cut to ``top_n``, and packed under a budget of tokens.

    The fields are those of :class:`~unabridged.apps.integrations.framework_stages.SecondStage`.  With a budget, spans
    that overlap come out as one document and ``metadata["packed"]`` says how; the first document has under
    ``dropped`` what was left out and why.  :meth:`pack` gives the same as one text with numbered sources.
    """

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """What goes on of the documents; raises as :meth:`SecondStage.run` does."""
        return [_changed(documents[one.place], one) for one in self._run(documents, query).pieces]

    def pack(self, documents: Sequence[Document], query: str) -> ContextPack:
        """The documents as one text, whose citations can be checked; :class:`UsageError` without a budget or any."""
        found = self._run(documents, query).pack
        if found is None:
            raise UsageError("There is no pack without a budget and at least one document.")
        return found

    def _run(self, documents: Sequence[Document], query: str) -> Outcome:
        return self._stage.run(query, [_given(one) for one in documents])


def _document(one: Native) -> Document:
    return Document(id=one.id, page_content=one.text, metadata=one.metadata)


def _given(document: Document) -> Given:
    if not isinstance(document, Document):
        raise UsageError(f"One of the documents is {type(document).__name__}; expected a Document of langchain_core.")
    known = document.metadata
    return Given.of(document.page_content, known, label=known.get("source") or document.id, score=known.get("score"))


def _changed(document: Document, one: Piece) -> Document:
    metadata = {**document.metadata, **one.record}
    if one.foreign:
        if one.joined:
            metadata["shown"] = [one.start, one.end]
        return Document(id=None if one.joined else document.id, page_content=one.text, metadata=metadata)
    metadata |= {"start": one.start, "end": one.end, "sha256": one.sha256}
    identity = span_id(metadata["doc_id"], one.start, one.end, one.sha256) if one.joined else document.id
    return Document(id=identity, page_content=one.text, metadata=metadata)
