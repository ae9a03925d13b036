"""Context packs: what a language model is given to read, every span verified against its source.

A pack is made in four steps: hits become offers (``offered``), texts are read again from where they come
(``sources``), offers are taken best first while the real text fits the budget (``choosing``), and what was taken is
laid out with numbers (``layout``).  Whatever is not in the pack is in its ``dropped``, with the reason.
"""
