"""Reads one PDF in a process of its own; run as a script, never imported by the package.

Usage: ``_pdf_worker.py PATH FIRST_PAGE MEMORY_MB``.  Prints JSON lines, flushed one by one: first
``{"pages": n, "title": str}`` or ``{"error": str}``, then for each page from FIRST_PAGE (counted from 0)
``{"page": i, "text": str}`` or ``{"page": i, "error": str}``.  A hostile file can hang this process, fill
its memory or crash it; whatever was printed before stays good.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any


def limit_memory(megabytes: int) -> None:
    """Caps the address space of this process where the system can, and writes no core dumps."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = megabytes << 20
    resource.setrlimit(resource.RLIMIT_AS, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def page_text(pdf: Any, number: int) -> str:
    """The text of one page; every resource of the page is closed again."""
    page = pdf[number]
    try:
        text_page = page.get_textpage()
        try:
            return str(text_page.get_text_range(errors="surrogatepass"))
        finally:
            text_page.close()
    finally:
        page.close()


def report(path: str, first: int) -> Iterator[dict[str, Any]]:
    """What is printed, line by line."""
    import pypdfium2

    try:
        pdf = pypdfium2.PdfDocument(path)
        yield {"pages": len(pdf), "title": pdf.get_metadata_value("Title")}
    except (pypdfium2.PdfiumError, OSError, MemoryError) as error:
        yield {"error": str(error) or type(error).__name__}
        return
    for number in range(first, len(pdf)):
        try:
            yield {"page": number, "text": page_text(pdf, number)}
        except Exception as error:  # noqa: BLE001 - whatever one page does, the others are read
            yield {"page": number, "error": f"{type(error).__name__}: {error}"}


def main(path: str, first: str, memory_mb: str) -> None:
    """Prints the report of ``path``."""
    limit_memory(int(memory_mb))
    for entry in report(path, int(first)):
        sys.stdout.write(json.dumps(entry) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
