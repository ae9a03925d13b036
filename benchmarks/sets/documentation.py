"""Sets from Debian documentation in HTML: aafaq, pydoc, pgdoc."""

from __future__ import annotations

import re
from pathlib import Path

from sets.fetch import debian
from sets.layout import RetrievalSet
from sets.markup import read_html, squeeze

_NUMBERED = re.compile(r"^[A-Z]\.\d+(\.\d+)*\.?\s+")


def aafaq(cache: Path) -> RetrievalSet:
    """Question headings of a FAQ in long essays; the document is the page they stand on (mean 15k words)."""
    tree, version = debian("anarchism", cache)
    found = RetrievalSet("aafaq", origin=f"Debian anarchism {version}, GPL-2")
    for page in sorted((tree / "usr/share/doc/anarchism/html").glob("*.html")):
        text, headings = read_html(page.read_text(encoding="utf-8", errors="replace"))
        asked = [_NUMBERED.sub("", h) for h in headings if _NUMBERED.match(h) and h.endswith("?")]
        if not asked or len(text.split()) < 300:
            continue
        found.documents[page.stem] = ("", text)
        for number, question in enumerate(asked):
            found.judge(f"{page.stem}-{number}", question, page.stem)
    return found


def pydoc(cache: Path) -> RetrievalSet:
    """Questions of the Python FAQs and one-line summaries of library modules; the document is the page."""
    tree, version = debian("python3.11-doc", cache)
    root = tree / "usr/share/doc/python3.11/html"
    found = RetrievalSet("pydoc", origin=f"Debian python3.11-doc {version}, PSF")
    skip = frozenset({"headerlink", "sphinxsidebar", "related", "contents", "footer"})
    for page in sorted(root.rglob("*.html")):
        name = str(page.relative_to(root).with_suffix(""))
        if name.startswith(("genindex", "_", "search", "contents", "py-modindex", "download", "index")):
            continue
        text, headings = read_html(page.read_text(encoding="utf-8"), skip=skip, root="body")
        if len(text.split()) < 30:
            continue
        found.documents[name] = ("", text)
        if name.startswith("faq/"):
            for number, heading in enumerate(h for h in headings if h.endswith("?")):
                found.judge(f"{name}-{number}", heading, name)
        source = root / "_sources" / f"{name}.rst.txt"
        if name.startswith("library/") and source.exists():
            lines = re.findall(r"^\s+:synopsis: (.+)$", source.read_text(encoding="utf-8"), re.MULTILINE)
            if lines:
                found.judge(f"{name}-synopsis", re.sub(r"[*`]", "", lines[0]), name)
    return found


def pgdoc(cache: Path) -> RetrievalSet:
    """One-line purposes of PostgreSQL's reference pages; the document is the page without its name line.

    All other pages of the manual are distractors.
    """
    tree, version = debian("postgresql-doc-15", cache)
    found = RetrievalSet("pgdoc", origin=f"Debian postgresql-doc-15 {version}, PostgreSQL licence")
    skip = frozenset({"navheader", "navfooter", "toc", "refnamediv"})
    by_purpose: dict[str, list[str]] = {}
    for page in sorted((tree / "usr/share/doc/postgresql-doc-15/html").glob("*.html")):
        html = page.read_text(encoding="utf-8")
        text, _ = read_html(html, skip=skip, root="docContent")
        if len(text.split()) < 60 or page.stem in ("bookindex", "index") or page.stem.startswith("release"):
            continue
        found.documents[page.stem] = ("", text)
        purpose = re.search(r'class="refnamediv">.*?<p>(.*?)</p>', html, re.DOTALL)
        if purpose:
            line = squeeze(re.sub(r"<[^>]+>", "", purpose[1])).replace("\n", " ").partition(" \u2014 ")[2]
            by_purpose.setdefault(line, []).append(page.stem)
    for number, (line, pages) in enumerate(sorted(by_purpose.items())):
        if line:
            found.judge(f"p{number}", line, *pages)
    return found
