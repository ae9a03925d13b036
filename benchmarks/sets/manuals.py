"""Sets from manual pages: manpages (groff) and perldoc (pod)."""

from __future__ import annotations

import gzip
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sets.fetch import debian
from sets.layout import RetrievalSet
from sets.markup import squeeze


def _rendered(page: Path) -> str:
    """A manual page as plain text without hyphenation; empty if groff cannot read it."""
    source = gzip.decompress(page.read_bytes())
    if source.lstrip().startswith(b".so "):
        return ""
    command = ["groff", "-mandoc", "-Tutf8", "-P-cbou", "-t", "-rHY=0", "-rLL=2000n"]
    done = subprocess.run(command, input=source, capture_output=True, check=False)
    return done.stdout.decode("utf-8", "replace").replace("\u2010\n", "")


def manpages(cache: Path) -> RetrievalSet:
    """Descriptions of manual pages; the document is the page without NAME (mean 1k words).

    Pages with one description share judgements.
    """
    found = RetrievalSet("manpages")
    pages: list[Path] = []
    for package in ("manpages", "manpages-dev", "git-man"):
        tree, version = debian(package, cache)
        found.origin += f"Debian {package} {version}; "
        pages += sorted(page for page in (tree / "usr/share/man").glob("man*/*.gz") if not page.is_symlink())
    by_line: dict[str, list[str]] = {}
    with ThreadPoolExecutor(2) as pool:
        for page, text in zip(pages, pool.map(_rendered, pages), strict=True):
            parts = re.search(r"^NAME\n(.*?)\n(?=[A-Z])(.*)", text, re.DOTALL | re.MULTILINE)
            if not parts or len(parts[2].split()) < 20:
                continue
            line = squeeze(parts[1]).replace("\n", " ")
            line = re.split(r" [-\u2010-\u2014\u2212] ", line, maxsplit=1)[-1]
            name = page.name.removesuffix(".gz")
            found.documents[name] = ("", squeeze(parts[2]))
            by_line.setdefault(line, []).append(name)
    for number, (line, names) in enumerate(sorted(by_line.items())):
        if len(line.split()) > 1:
            found.judge(f"m{number}", line, *names)
    return found


def _pod_text(pod: str) -> tuple[str, str, list[str]]:
    """The text of a pod without headings and NAME, its one-line name, and its second-level headings."""
    line, headings, kept = "", [], []
    in_name = False
    for block in re.split(r"\n\s*\n", pod):
        text = re.sub(r"[A-Z]<+ ?([^<>]*?) ?>+", r"\1", block)
        if block.startswith("=head1"):
            in_name = text[6:].strip() == "NAME"
        elif block.startswith("=head"):
            headings.append(squeeze(text[6:]).replace("\n", " "))
        elif in_name:
            line = line or squeeze(text).replace("\n", " ")
        elif not block.startswith("="):
            kept.append(text)
        elif block.startswith("=item"):
            kept.append(text[5:])
    return squeeze("\n".join(kept)), line, headings


def perldoc(cache: Path) -> RetrievalSet:
    """Names of Perl's manuals and questions of its FAQs; documents of 50 to 60,000 words in one corpus."""
    tree, version = debian("perl-doc", cache)
    found = RetrievalSet("perldoc", origin=f"Debian perl-doc {version}, Artistic or GPL-1+")
    for page in sorted((tree / "usr/share/perl").rglob("*.pod")):
        text, line, headings = _pod_text(page.read_text(encoding="utf-8", errors="replace"))
        name = str(page.relative_to(tree / "usr/share/perl")).partition("/")[2].removesuffix(".pod")
        if len(text.split()) < 50 or "delta" in name:
            continue
        found.documents[name] = ("", text)
        purpose = re.split(r" +-+ +", line, maxsplit=1)[-1]
        if "perlfaq" in name:
            for number, heading in enumerate(h for h in headings if h.endswith("?")):
                found.judge(f"{name}-{number}", heading, name)
        elif len(purpose.split()) > 2 and purpose != line:
            found.judge(f"{name}-name", purpose, name)
    return found
