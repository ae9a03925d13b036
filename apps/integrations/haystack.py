"""Haystack: an index as a retriever component, rankers and context packs as a packer component.

::

    pipeline = Pipeline()
    pipeline.add_component("retriever", UnabridgedRetriever("idx/", top_k=20, level="segment"))
    pipeline.add_component("packer", UnabridgedPacker(selector="hybrid", budget=2000))
    pipeline.connect("retriever.documents", "packer.documents")

A saved pipeline is loaded with ``Pipeline.loads(text, allowed_modules=["unabridged.*"])``: Haystack imports no other
modules than its own unless told.  Importing this module first imports Haystack with its telemetry off; a program that
wants it on sets ``HAYSTACK_TELEMETRY_ENABLED``, or imports Haystack itself before.

Needs haystack-ai 3 or newer: ``pip install "unabridged[haystack]"``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unabridged._extras import require
from unabridged.apps.integrations.framework_hits import RECORD, Native, natives, opened, searched, span_id
from unabridged.apps.integrations.framework_stages import Piece, SecondStage
from unabridged.apps.integrations.framework_texts import Given
from unabridged.contracts import Level
from unabridged.errors import UsageError
from unabridged.rankers.context.counting import DEFAULT_TOKENIZER
from unabridged.retrievers.opened import Index
from unabridged.retrievers.result import Mode

_TELEMETRY = "HAYSTACK_TELEMETRY_ENABLED"
_unset = _TELEMETRY not in os.environ
os.environ.setdefault(_TELEMETRY, "false")  # read once, while it is imported
try:
    require("haystack", extra="haystack", purpose="components for Haystack")
finally:
    if _unset:
        del os.environ[_TELEMETRY]

from haystack import Document, component, default_from_dict, default_to_dict  # noqa: E402 - see above
from haystack.utils.filters import document_matches_filter  # noqa: E402


@component
class UnabridgedRetriever:
    """The ``top_k`` best spans of an index as documents, best first.

    ``content`` is the span as it stands in the source; ``meta`` has the document's own fields and those of
    :data:`~unabridged.apps.integrations.framework_hits.RECORD`.
    """

    def __init__(
        self,
        index: Index | str | Path,
        *,
        top_k: int = 10,
        mode: str = Mode.HYBRID.value,
        level: str = Level.DOC.value,
        filters: dict[str, Any] | None = None,
    ) -> None:
        """``index`` is one that is open, or its folder, which is opened at first use.

        ``filters`` are Haystack's, or a mapping of fields to wanted values.
        """
        options = searched(top_k, mode, level)
        self._index = index
        self.top_k, self.filters = top_k, filters
        self.mode, self.level = options["mode"].value, options["level"].value

    def warm_up(self) -> None:
        """Opens the index."""
        self._index = opened(self._index)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the index by its folder."""
        folder = self._index.folder if isinstance(self._index, Index) else self._index
        return default_to_dict(
            self, index=str(folder), top_k=self.top_k, mode=self.mode, level=self.level, filters=self.filters
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> UnabridgedRetriever:
        """The component that :meth:`to_dict` described."""
        return default_from_dict(cls, data)

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, top_k: int | None = None, filters: dict[str, Any] | None = None
    ) -> dict[str, list[Document]]:
        """The documents; ``top_k`` and ``filters`` stand in for those of the component."""
        self.warm_up()
        index = opened(self._index)
        wanted = self.filters if filters is None else filters
        found = index.search_one(
            query,
            self.top_k if top_k is None else top_k,
            mode=self.mode,
            level=self.level,
            filter=read_filters(wanted) if wanted else None,
        )
        return {"documents": [_document(one) for one in natives(index, found)]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, top_k: int | None = None, filters: dict[str, Any] | None = None
    ) -> dict[str, list[Document]]:
        """:meth:`run` in a worker thread, so that an event loop goes on meanwhile."""
        return await asyncio.to_thread(self.run, query, top_k, filters)


@component
class UnabridgedPacker:
    """Documents of any retriever, best first: reranked, cut to ``top_k``, and packed under a budget of tokens.

    The options are those of :class:`~unabridged.apps.integrations.framework_stages.SecondStage`.  With a budget,
    spans that overlap come out as one document, ``meta["packed"]`` says how, ``text`` is all of them with numbers for
    citations, and ``dropped`` what was left out and why.
    """

    def __init__(
        self,
        *,
        ranker: Any = None,
        selector: Any = None,
        top_k: int | None = None,
        budget: int | None = None,
        tokenizer: Any = DEFAULT_TOKENIZER,
        sources: Any = None,
        packing: dict[str, Any] | None = None,
    ) -> None:
        self._stage = SecondStage(
            ranker=ranker,
            selector=selector,
            top_n=top_k,
            budget=budget,
            tokenizer=tokenizer,
            sources=sources,
            packing=packing,
        )

    def warm_up(self) -> None:
        """Loads the ranker or selector and opens the index of the sources."""
        self._stage.load()

    def to_dict(self) -> dict[str, Any]:
        """Plain values; :class:`UsageError` for parts that were given as objects, not by name."""
        stage = self._stage
        named = {"ranker": stage.ranker, "selector": stage.selector, "tokenizer": stage.tokenizer}
        for name, value in named.items():
            if value is not None and not isinstance(value, str):
                raise UsageError(f"{name} is {type(value).__name__}: to save the pipeline, give it by name.")
        sources = stage.sources.folder if isinstance(stage.sources, Index) else stage.sources
        if isinstance(sources, Path):
            sources = str(sources)
        packing = stage.packing or None
        return default_to_dict(self, **named, top_k=stage.top_n, budget=stage.budget, sources=sources, packing=packing)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> UnabridgedPacker:
        """The component that :meth:`to_dict` described."""
        return default_from_dict(cls, data)

    @component.output_types(documents=list[Document], text=str, tokens=int, dropped=list[dict[str, Any]])
    def run(self, query: str, documents: list[Document]) -> dict[str, Any]:
        """What goes on; without a budget ``text`` is empty and ``tokens`` 0.  Raises as :meth:`SecondStage.run`."""
        found = self._stage.run(query, [_given(one) for one in documents])
        pack = found.pack
        return {
            "documents": [_changed(documents[one.place], one) for one in found.pieces],
            "text": "" if pack is None else pack.text,
            "tokens": 0 if pack is None else pack.tokens,
            "dropped": [] if pack is None else [one.as_json() for one in pack.dropped],
        }

    @component.output_types(documents=list[Document], text=str, tokens=int, dropped=list[dict[str, Any]])
    async def run_async(self, query: str, documents: list[Document]) -> dict[str, Any]:
        """:meth:`run` in a worker thread."""
        return await asyncio.to_thread(self.run, query, documents)


def read_filters(filters: Mapping[str, Any]) -> dict[str, Any]:
    """Haystack's filters as one function for each field; a mapping of fields to values stays as it is.

    :class:`UsageError` for ``OR`` and ``NOT`` over several fields, which an index cannot answer field by field.
    """
    if "operator" not in filters:
        return dict(filters)
    parts = filters["conditions"] if filters["operator"] == "AND" and "conditions" in filters else [filters]
    found: dict[str, list[Mapping[str, Any]]] = {}
    for part in parts:
        names = _fields(part)
        if len(names) != 1:
            raise UsageError(
                f"The filter joins the fields {', '.join(sorted(names))} by {part.get('operator')!r}. Fields may be "
                "joined by one AND; OR and NOT stand within one field."
            )
        found.setdefault(names.pop(), []).append(part)
    return {_stored(name): _matcher(name, conditions) for name, conditions in found.items()}


def _stored(name: str) -> str:
    """What a field of ``meta`` is called in the index."""
    field = name.removeprefix("meta.")
    own = field.removeprefix("document_")
    return own if own in RECORD else field


def _fields(condition: Mapping[str, Any]) -> set[str]:
    if "field" in condition:
        return {str(condition["field"])}
    return {name for one in condition.get("conditions", ()) for name in _fields(one)}


def _matcher(name: str, conditions: list[Mapping[str, Any]]) -> Callable[[Any], bool]:
    """Haystack's own judgement of a value; equal texts and numbers are judged once."""
    known: dict[Any, bool] = {}
    field = name.removeprefix("meta.")

    def matches(value: Any) -> bool:
        plain = isinstance(value, (str, int, float, bool)) or value is None
        key = (type(value), value) if plain else None
        if key in known:
            return known[key]
        document = Document(id="x", meta=_nested(field, value))
        found = document_matches_filter({"operator": "AND", "conditions": [_in_meta(c) for c in conditions]}, document)
        if key is not None:
            known[key] = found
        return found

    return matches


def _in_meta(condition: Mapping[str, Any]) -> dict[str, Any]:
    """The condition with its fields named as those of ``meta``; ``id`` would mean the document's otherwise."""
    if "field" in condition:
        return {**condition, "field": f"meta.{str(condition['field']).removeprefix('meta.')}"}
    return {**condition, "conditions": [_in_meta(one) for one in condition.get("conditions", ())]}


def _nested(field: str, value: Any) -> dict[str, Any]:
    first, _, rest = field.partition(".")
    return {first: _nested(rest, value) if rest else value}


def _document(one: Native) -> Document:
    return Document(id=one.id, content=one.text, meta=one.metadata, score=one.record["score"])


def _given(document: Document) -> Given:
    if not isinstance(document, Document):
        raise UsageError(f"One of the documents is {type(document).__name__}; expected a Document of haystack.")
    if document.content is None:
        raise UsageError(f"Document {document.id!r} has no text. Only documents with content can be ranked and packed.")
    label = document.meta.get("file_path") or document.id
    return Given.of(document.content, document.meta, label=label, score=document.score)


def _changed(document: Document, one: Piece) -> Document:
    meta = {**document.meta, **one.record}
    identity = document.id
    if one.foreign and one.joined:
        meta["shown"] = [one.start, one.end]
        identity = span_id(document.id, one.start, one.end, one.sha256)
    elif not one.foreign and set(RECORD) <= set(meta):
        meta |= {"start": one.start, "end": one.end, "sha256": one.sha256}
        identity = span_id(meta["doc_id"], one.start, one.end, one.sha256) if one.joined else identity
    score = one.score if "reranked" in one.record else document.score
    return Document(id=identity, content=one.text, meta=meta, score=score)
