"""Evaluation: runs, judgements and measures.  Nothing here imports a model or an index."""
