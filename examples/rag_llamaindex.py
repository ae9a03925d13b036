"""LlamaIndex: a query engine that finds, packs, and answers with checked citations.

::

    python examples/rag_llamaindex.py INDEX "question" [MODEL]

Without a model the embedded one answers.
"""

import sys

from llama_index.core.query_engine import CustomQueryEngine

import unabridged as ub
from unabridged.apps.integrations.llamaindex import UnabridgedPostprocessor, UnabridgedRetriever

folder, question, model = [*sys.argv[1:], "embedded"][:3]
retriever = UnabridgedRetriever(folder, k=20, level="segment")
packer = UnabridgedPostprocessor(budget=800, sources=retriever.index)


class Cited(CustomQueryEngine):
    """Answers with numbers, and what they stand for."""

    def custom_query(self, query_str: str) -> str:
        """The answer and, a line each, its sources."""
        sources = packer.pack(retriever.retrieve(query_str), query_str).sources
        found = ub.answer(query_str, sources, sources=retriever.index, model=model)
        places = [f"[{one.number}] {one.doc_id}, characters {one.start}-{one.end}" for one in found.pack.sources]
        return "\n".join([found.cited, *places])


print(Cited().query(question))
