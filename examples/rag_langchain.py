"""LangChain: find, pack, answer with checked citations, in one chain.

::

    python examples/rag_langchain.py INDEX "question" [MODEL]

Without a model the embedded one answers.
"""

import sys

from langchain_core.runnables import RunnableLambda

import unabridged as ub
from unabridged.apps.integrations.langchain import UnabridgedCompressor, UnabridgedRetriever

folder, question, model = [*sys.argv[1:], "embedded"][:3]
retriever = UnabridgedRetriever(index=folder, k=20, level="segment")
packer = UnabridgedCompressor(budget=800, sources=retriever.index)
pack = RunnableLambda(lambda documents: packer.pack(documents, question))
write = RunnableLambda(lambda packed: ub.answer(question, packed.sources, sources=retriever.index, model=model))
answer = (retriever | pack | write).invoke(question)
print(answer.cited)
for one in answer.pack.sources:
    print(f"[{one.number}] {one.doc_id}, characters {one.start}-{one.end}")
