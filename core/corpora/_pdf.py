"""PDF to documents: a process per file, limits on time and memory, one retry per page, no page lost in silence."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from unabridged._extras import require
from unabridged.contracts import Document, Failure
from unabridged.corpora._fields import Item, Options, checked, encodable, failed

WORKER = Path(__file__).with_name("_pdf_worker.py")
PAGE_BREAK = "\n\n"
MAX_DEATHS = 8
"""Workers that one file may kill before its remaining pages are given up: bounds the time of a hostile file."""


def need_pdf() -> None:
    """Raises :class:`MissingExtra` when PDF cannot be read here."""
    require("pypdfium2", extra="pdf", purpose="reading PDF")


@dataclass
class _Pages:
    """What is known of one file so far."""

    total: int | None = None
    title: str = ""
    texts: dict[int, str] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    error: str = ""
    tried: set[int] = field(default_factory=set)

    def strike(self, number: int, why: str) -> bool:
        """Books a failed attempt at a page; True when it was the second one, and the page (or file) is lost."""
        if number not in self.tried:
            self.tried.add(number)
            return False
        if self.total is None:
            self.error = why
        else:
            self.lost[number] = why
        return True

    @property
    def next(self) -> int:
        """The first page that is neither read nor lost."""
        return len(self.texts) + len(self.lost)

    @property
    def done(self) -> bool:
        return bool(self.error) or (self.total is not None and self.next >= self.total)


def read_pdf(item: Item, options: Options) -> Iterator[Document | Failure]:
    """The pages of one PDF as one document, after a record for each page that could not be read.

    Line ends are single line feeds, pages are joined by an empty line; ``metadata`` has ``pages`` and, where there are
    any, ``pages_without_text`` (scans, which need character recognition) and the PDF's own ``title``.
    """
    need_pdf()
    found = _read(item.path, options)
    if found.total is None:
        yield failed(item.id, item.shown, "malformed-pdf", f"not readable as PDF: {found.error}")
        return
    for number, why in sorted(found.lost.items()):
        where = f"{item.shown} page {number + 1}"
        yield failed(item.id, where, "page-lost", f"page {number + 1} of {found.total} is lost: {why}")
    silent = sum(not text.strip() for text in found.texts.values())
    metadata: dict[str, Any] = {"pages": found.total}
    if silent:
        metadata["pages_without_text"] = silent
    if found.title and encodable(found.title):
        metadata["title"] = found.title
    text = PAGE_BREAK.join(found.texts[number] for number in sorted(found.texts))
    if silent == found.total:
        yield failed(item.id, item.shown, "empty", f"none of {found.total} pages has a text layer; run OCR first")
    elif found.texts:
        kept = metadata if options.fields.metadata else {}
        yield checked(Document(item.id, text, metadata=kept, where=item.shown))


def _read(path: Path, options: Options) -> _Pages:
    """Workers over ``path`` until each page is read, or was tried twice, or too many workers died."""
    pages = _Pages()
    deaths = 0
    while deaths < MAX_DEATHS:
        why = _run_worker(path, pages, options)
        if pages.done:
            return pages
        if why:
            deaths += 1
            pages.strike(pages.next, why)
    for number in range(pages.next, pages.total or 0):
        pages.lost[number] = f"given up after {MAX_DEATHS} attempts on this file that ended in a crash or a time-out"
    return pages


def _run_worker(path: Path, pages: _Pages, options: Options) -> str:
    """Runs one worker from the next open page on; returns why it died, or nothing if it did not."""
    command = [sys.executable, "-P", str(WORKER), str(path), str(pages.next), str(options.pdf_memory_mb)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as worker:
        lines: SimpleQueue[bytes] = SimpleQueue()
        reader = threading.Thread(target=_pump, args=(worker, lines), name="pdf-pages", daemon=True)
        reader.start()
        try:
            for entry in _entries(lines, options.pdf_timeout):
                if entry is None:
                    return f"no page for {options.pdf_timeout:g} s"
                if not _take(entry, pages):
                    return ""
            worker.wait(options.pdf_timeout)
        finally:
            worker.kill()
            reader.join()  # before the pipe is closed under it
    return "" if pages.done else f"the reader ended with code {worker.returncode} (limit {options.pdf_memory_mb} MB)"


def _take(entry: dict[str, Any], pages: _Pages) -> bool:
    """Books one line of a worker; False when the page has to be tried again in a fresh worker."""
    if "pages" in entry:
        pages.total, pages.title = int(entry["pages"]), str(entry["title"])
    elif "page" not in entry:
        pages.error = str(entry["error"])
    elif "error" in entry:
        return pages.strike(int(entry["page"]), str(entry["error"]))
    elif encodable(text := str(entry["text"])):
        pages.texts[int(entry["page"])] = text.replace("\r\n", "\n")
    else:
        pages.lost[int(entry["page"])] = "its text holds a lone surrogate, which UTF-8 cannot hold"
    return True


def _pump(worker: subprocess.Popen[bytes], lines: SimpleQueue[bytes]) -> None:
    """Moves the output of a worker into a queue, with an empty line at its end."""
    if worker.stdout is not None:
        for line in worker.stdout:
            lines.put(line)
    lines.put(b"")


def _entries(lines: SimpleQueue[bytes], timeout: float) -> Iterator[dict[str, Any] | None]:
    """The entries of a worker; None, as the last one, when it is silent for ``timeout`` seconds."""
    while True:
        try:
            line = lines.get(timeout=timeout)
        except Empty:
            yield None
            return
        if not line.endswith(b"\n"):  # the end, or a line that a killed worker left unfinished
            return
        yield json.loads(line)
