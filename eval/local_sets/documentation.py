"""Sets from Debian documentation in HTML: aafaq, pydoc, pgdoc."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from unabridged.eval.local_sets.draft import Draft, LocalSet
from unabridged.eval.local_sets.markup import one_line, read_html
from unabridged.eval.local_sets.packages import debian

_NUMBERED = re.compile(r"^[A-Z]\.\d+(\.\d+)*\.?\s+")
_SYNOPSIS = re.compile(r"^\s+:synopsis: (.+)$", re.MULTILINE)
_PURPOSE = re.compile(r'class="refnamediv">.*?<p>(.*?)</p>', re.DOTALL)
_NOT_PAGES = ("genindex", "_", "search", "contents", "py-modindex", "download", "index")


def aafaq(packages: Path) -> LocalSet:
    """Question headings of a FAQ in long essays; the document is the page they stand on (mean 15k words)."""
    source = debian("anarchism", packages, "usr/share/doc/anarchism/html")
    draft = Draft("aafaq", f"Debian anarchism {source.version}", "GPL-2")
    for path, data in source.files.items():
        if path.suffix != ".html" or len(path.parts) > 1:
            continue
        text, headings = read_html(data.decode(errors="replace"))
        asked = [one for one in headings if _NUMBERED.match(one.text) and one.text.endswith("?")]
        if not asked or len(text.split()) < 300:
            continue
        draft.documents[path.stem] = text
        for number, one in enumerate(asked):
            draft.judge(f"{path.stem}-{number}", _NUMBERED.sub("", one.text), path.stem)
            draft.show(f"{path.stem}-{number}", path.stem, one.start, one.end)
    return draft.done()


def pydoc(packages: Path) -> LocalSet:
    """Questions of the Python FAQs and one-line summaries of library modules; the document is the page.

    All other pages are distractors.
    """
    source = debian("python3.11-doc", packages, "usr/share/doc/python3.11/html")
    draft = Draft("pydoc", f"Debian python3.11-doc {source.version}", "PSF")
    skip = frozenset({"headerlink", "sphinxsidebar", "related", "contents", "footer"})
    for path, data in source.files.items():
        name = str(path.with_suffix(""))
        if path.suffix != ".html" or name.startswith(_NOT_PAGES):
            continue
        text, headings = read_html(data.decode(), skip=skip, root="body")
        if len(text.split()) < 30:
            continue
        draft.documents[name] = text
        if name.startswith("faq/"):
            for number, one in enumerate(one for one in headings if one.text.endswith("?")):
                draft.judge(f"{name}-{number}", one.text, name)
                draft.show(f"{name}-{number}", name, one.start, one.end)
        markup = source.files.get(PurePosixPath("_sources", f"{name}.rst.txt"), b"")
        if name.startswith("library/") and (line := _SYNOPSIS.search(markup.decode())):
            draft.judge(f"{name}-synopsis", re.sub(r"[*`]", "", line[1]), name)
    return draft.done()


def pgdoc(packages: Path) -> LocalSet:
    """One-line purposes of PostgreSQL's reference pages; the document is the page without its name line.

    All other pages of the manual are distractors.
    """
    source = debian("postgresql-doc-15", packages, "usr/share/doc/postgresql-doc-15/html")
    draft = Draft("pgdoc", f"Debian postgresql-doc-15 {source.version}", "PostgreSQL")
    skip = frozenset({"navheader", "navfooter", "toc", "refnamediv"})
    by_purpose: dict[str, list[str]] = {}
    for path, data in source.files.items():
        if path.suffix != ".html" or len(path.parts) > 1:
            continue
        html = data.decode()
        text, _ = read_html(html, skip=skip, root="docContent")
        if len(text.split()) < 60 or path.stem in ("bookindex", "index") or path.stem.startswith("release"):
            continue
        draft.documents[path.stem] = text
        if purpose := _PURPOSE.search(html):
            line = one_line(re.sub(r"<[^>]+>", "", purpose[1])).partition(" \u2014 ")[2]
            by_purpose.setdefault(line, []).append(path.stem)
    for number, (line, pages) in enumerate(sorted(by_purpose.items())):
        if line:
            draft.judge(f"p{number}", line, *pages)
    return draft.done()
