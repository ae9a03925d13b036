"""Builders of real retrieval sets from packages that anybody can fetch, in BEIR layout.

No set is part of this package: each builder reads a package (Debian, PyPI) without running its code, or the running
Python's own library.  Two sets with one revision are the same set.

Queries are what the author of a text wrote *about* it (a heading, a one-line description, a docstring); that line is
removed from the document, so that it must be found by what it says.
"""
