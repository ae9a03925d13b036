"""gensimwiki: articles of an encyclopedia that gensim's wheel carries as test data."""

from __future__ import annotations

import bz2
import re
from pathlib import Path
from xml.etree import ElementTree

from unabridged.eval.local_sets.draft import Draft, LocalSet
from unabridged.eval.local_sets.markup import one_line, squeeze
from unabridged.eval.local_sets.packages import wheel

_FILE = "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"


def gensimwiki(packages: Path) -> LocalSet:
    """First sentences with title words masked; the document is the rest of the article.

    A negative control: the answer stands at the article's start by construction.
    """
    source = wheel("gensim==4.4.0", packages, _FILE.__eq__)[_FILE]
    draft = Draft("gensimwiki", "gensim 4.4.0 test data", "CC BY-SA")
    for page in ElementTree.fromstring(bz2.decompress(source)).iter():
        if not page.tag.endswith("}page"):
            continue
        fields = {child.tag.rpartition("}")[2]: child.text or "" for child in page.iter()}
        title, text = fields["title"], _plain(fields.get("text", ""))
        first = re.match(r"(.{60,}?[.!?])\s+(?=[A-Z])", text, re.DOTALL)
        if fields["ns"] != "0" or not first or len(text.split()) < 300:
            continue
        masked = re.sub("|".join(map(re.escape, title.split())), "it", first[1], flags=re.IGNORECASE)
        draft.documents[fields["id"]] = text[first.end() :]
        draft.judge(fields["id"], one_line(masked), fields["id"])
    return draft.done()


def _plain(wikitext: str) -> str:
    """Wiki markup as text: templates, tables, references and headings removed, links by their label."""
    text = re.sub(r"<!--.*?-->|<ref[^>]*/>|<ref.*?</ref>|<math.*?</math>", " ", wikitext, flags=re.DOTALL)
    for _ in range(6):  # templates and tables nest a few levels deep
        text = re.sub(r"\{\{[^{}]*\}\}|\{\|[^{}]*\|\}", " ", text)
    text = re.sub(r"\[\[(?:File|Image|Category):(?:[^\[\]]|\[\[[^\[\]]*\]\])*\]\]", " ", text)
    text = re.sub(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]", r"\1", text)
    text = re.sub(r"\[https?:\S+ ?([^\]]*)\]|<[^>]+>|'{2,}", r"\1", text)
    return squeeze(re.sub(r"^=+[^=\n]+=+\s*$", "", text, flags=re.MULTILINE))
