"""Haystack: a pipeline that finds and packs, and an answer with checked citations.

::

    python examples/rag_haystack.py INDEX "question" [MODEL]

Without a model the embedded one answers.  The adapter is imported before Haystack, whose telemetry then stays off.
"""

# ruff: noqa: I001
import sys

import unabridged as ub
from unabridged.apps.integrations.haystack import UnabridgedPacker, UnabridgedRetriever
from haystack import Pipeline

folder, question, model = [*sys.argv[1:], "embedded"][:3]
pipeline = Pipeline()
pipeline.add_component("find", UnabridgedRetriever(folder, top_k=20, level="segment"))
pipeline.add_component("pack", UnabridgedPacker(budget=800, sources=folder))
pipeline.connect("find.documents", "pack.documents")
documents = pipeline.run({"find": {"query": question}, "pack": {"query": question}})["pack"]["documents"]
hits = [{**one.meta, "text": one.content} for one in documents]
answer = ub.answer(question, hits, sources=ub.open_index(folder), model=model)
places = [f"[{one.number}] {one.doc_id}, characters {one.start}-{one.end}" for one in answer.pack.sources]
print(answer.cited, *places, sep="\n")
