"""Sets from manual pages: manpages (groff) and perldoc (pod)."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from unabridged.errors import MissingFile
from unabridged.eval.local_sets.draft import Draft, LocalSet
from unabridged.eval.local_sets.markup import Heading, Mark, headings, ink, one_line, squeeze
from unabridged.eval.local_sets.packages import debian

_PACKAGES = ("manpages", "manpages-dev", "git-man")
_NAME = re.compile(r"^NAME\n(.*?)\n(?=[A-Z])(.*)", re.DOTALL | re.MULTILINE)
_DASH = re.compile(r" [-\u2010-\u2014\u2212] ")


def manpages(packages: Path) -> LocalSet:
    """Descriptions of manual pages; the document is the page without NAME (mean 1k words).

    Pages with one description share judgements.  :class:`MissingFile` without groff.
    """
    if shutil.which("groff") is None:
        raise MissingFile("groff is not on this system, and manual pages need it. Install it: apt-get install groff")
    pages: dict[str, bytes] = {}
    versions = []
    for package in _PACKAGES:
        source = debian(package, packages, "usr/share/man")
        versions.append(f"{package} {source.version}")
        for path, data in source.files.items():
            if len(path.parts) == 2 and path.parts[0].startswith("man") and path.suffix == ".gz":
                pages[path.name.removesuffix(".gz")] = data
    draft = Draft("manpages", f"Debian {', '.join(versions)}", "free ones of each page")
    by_line: dict[str, list[str]] = {}
    with ThreadPoolExecutor(2) as pool:
        for name, text in zip(pages, pool.map(_rendered, pages.values()), strict=True):
            parts = _NAME.search(text)
            if not parts or len(parts[2].split()) < 20:
                continue
            draft.documents[name] = squeeze(parts[2])
            by_line.setdefault(_DASH.split(one_line(parts[1]), maxsplit=1)[-1], []).append(name)
    for number, (line, names) in enumerate(sorted(by_line.items())):
        if len(line.split()) > 1:
            draft.judge(f"m{number}", line, *names)
    return draft.done()


def perldoc(packages: Path) -> LocalSet:
    """Names of Perl's manuals and questions of its FAQs; documents of 50 to 60,000 words in one corpus."""
    source = debian("perl-doc", packages, "usr/share/perl")
    draft = Draft("perldoc", f"Debian perl-doc {source.version}", "Artistic or GPL-1+")
    for path, data in source.files.items():
        text, line, asked = _pod_text(data.decode(errors="replace"))
        name = "/".join(path.parts[1:]).removesuffix(".pod")
        if path.suffix != ".pod" or len(text.split()) < 50 or "delta" in name:
            continue
        draft.documents[name] = text
        purpose = re.split(r" +-+ +", line, maxsplit=1)[-1]
        if "perlfaq" in name:
            for number, one in enumerate(one for one in asked if one.level > 1 and one.text.endswith("?")):
                draft.judge(f"{name}-{number}", one.text, name)
                draft.show(f"{name}-{number}", name, one.start, one.end)
        elif len(purpose.split()) > 2 and purpose != line:
            draft.judge(f"{name}-name", purpose, name)
    return draft.done()


def _rendered(page: bytes) -> str:
    """A manual page as plain text without hyphenation; empty if groff cannot read it."""
    source = gzip.decompress(page)
    if source.lstrip().startswith(b".so "):
        return ""
    command = ["groff", "-mandoc", "-Tutf8", "-P-cbou", "-t", "-rHY=0", "-rLL=2000n"]
    done = subprocess.run(command, input=source, capture_output=True, check=False)
    return done.stdout.decode("utf-8", "replace").replace("\u2010\n", "")


def _pod_text(pod: str) -> tuple[str, str, tuple[Heading, ...]]:
    """The text of a pod without headings and NAME, its one-line name, and its headings."""
    line, kept, marks, size = "", [], [], 0
    in_name = False
    for block in re.split(r"\n\s*\n", pod):
        text = re.sub(r"[A-Z]<+ ?([^<>]*?) ?>+", r"\1", block)
        if block.startswith("=head"):
            marks.append(Mark(one_line(text[6:]), 1 if block.startswith("=head1") else 2, size))
            in_name = text[6:].strip() == "NAME" if block.startswith("=head1") else in_name
        elif in_name:
            line = line or one_line(text)
        elif not block.startswith("=") or block.startswith("=item"):
            kept.append(text.removeprefix("=item") if block.startswith("=item") else text)
            size += ink(kept[-1])
    whole = squeeze("\n".join(kept))
    return whole, line, headings(whole, marks)
