"""What an answer cites, and which of its quotations stand in the sources that it names."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unabridged.contracts import JSON
from unabridged.errors import UsageError
from unabridged.rankers.context.code_spans import without_code
from unabridged.rankers.context.contracts import SourceSpan
from unabridged.rankers.contracts import Characters

TRUE = "true"
"""The quotation stands in the source, byte for byte."""
WHITE_SPACE = "white space"
"""It stands there once runs of white space are drawn together."""
PUNCTUATION = "punctuation"
"""It stands there but for the comma or full stop that the answer put before the closing mark."""
ABSENT = "absent"
"""It stands in no source that is cited beside it."""
UNCITED = "uncited"
"""No citation stands next to it."""

_CITATION = re.compile(r"\[\s*(?P<list>[0-9]{1,18}(?:\s*[,;\u2013-]\s*[0-9]{1,18})*)\s*\]")
_PART = re.compile(r"(?P<first>[0-9]+)(?:\s*[\u2013-]\s*(?P<last>[0-9]+))?")
_QUOTE = re.compile(
    r"\u201c(?P<curly>[^\u201c\u201d]+)\u201d|\u201e(?P<low>[^\u201c\u201d\u201e]+)[\u201c\u201d]|\u00ab(?P<angle>[^\u00ab\u00bb]+)\u00bb"
    r"|(?:(?<=\s)|(?<=[(\[{:\u2014-])|\A)\"(?P<straight>[^\"]+)\"(?=[\s.,;:!?)\]}\[\u2014-]|\Z)"
)
_SENTENCE_END = re.compile(r"[.!?\u2026](?=\s+[^\sa-z])|\n\s*\n|\n[-*] |[\u3002\uff01\uff1f]")
_TRAILING = ".,;:!?\u2026"


@dataclass(frozen=True, slots=True)
class Quotation:
    """A quoted string of an answer."""

    text: str
    start: int
    """In the answer, of the text between the marks."""
    end: int
    numbers: tuple[int, ...]
    """The citations next to it, those out of range included."""
    verdict: str
    """One of the words of this module."""
    found_in: tuple[int, ...]
    """Every span of the pack that has it, cited or not, as exactly as the verdict says; for absent ones: exactly."""

    def as_json(self) -> dict[str, JSON]:
        """Plain values."""
        return {
            "text": self.text,
            "start": self.start,
            "end": self.end,
            "numbers": list(self.numbers),
            "verdict": self.verdict,
            "found_in": list(self.found_in),
        }


@dataclass(frozen=True, slots=True)
class CitationReport:
    """What an answer says about its sources, checked."""

    cited: tuple[int, ...]
    """Numbers of spans of the pack, in the order in which the answer first cites them."""
    out_of_range: tuple[int, ...]
    """Numbers that are cited and are no span of the pack."""
    unused: tuple[int, ...]
    """Spans of the pack that are not cited."""
    quotations: tuple[Quotation, ...]

    @property
    def ok(self) -> bool:
        """Something is cited, every citation is a span of the pack, and every quotation is true where it is cited."""
        return bool(self.cited) and not self.out_of_range and all(one.verdict == TRUE for one in self.quotations)

    def as_json(self) -> dict[str, JSON]:
        """Plain values."""
        return {
            "ok": self.ok,
            "cited": list(self.cited),
            "out_of_range": list(self.out_of_range),
            "unused": list(self.unused),
            "quotations": [one.as_json() for one in self.quotations],
        }


@dataclass(frozen=True, slots=True)
class _Citation:
    numbers: tuple[int, ...]
    start: int
    end: int


def check(answer: str, sources: Sequence[SourceSpan]) -> CitationReport:
    """The citations ``[n]``, ``[n, m]`` and ``[n-m]`` of ``answer`` and its quotations, against ``sources``.

    A quotation is a text between double quotation marks (``"``, or the typographic ones).  It belongs to the citations
    that follow it in its sentence before the next quotation, else to those that stand right before it there.  In code
    between backticks nothing is cited and nothing quoted: ``x[1]`` is a place of a list.  Time grows with the answer,
    and with its quotations times the sources.  :class:`UsageError` for an answer that is no text.
    """
    if not isinstance(answer, str):
        raise UsageError(f"The answer is {type(answer).__name__}; expected its text.")
    shown = without_code(answer)
    texts = _Texts({source.number: source.text for source in sources})
    citations = list(_citations(shown, len(sources)))
    numbers = list(dict.fromkeys(number for one in citations for number in one.numbers))
    cited = tuple(number for number in numbers if number in texts.known)
    return CitationReport(
        cited=cited,
        out_of_range=tuple(number for number in numbers if number not in texts.known),
        unused=tuple(number for number in texts.known if number not in cited),
        quotations=tuple(_judged(answer, span, beside, texts) for span, beside in _quotations(shown, citations)),
    )


class _Texts:
    """The texts of a pack by their numbers, and which of them hold a quotation."""

    def __init__(self, known: dict[int, str]) -> None:
        self.known = known
        self._plain: dict[int, str] | None = None
        self._found: dict[tuple[str, str], tuple[int, ...]] = {}

    def holding(self, quoted: str, verdict: str) -> tuple[int, ...]:
        """The numbers of the texts that have the quotation as exactly as the verdict says."""
        key = (quoted, verdict)
        if key not in self._found:
            self._found[key] = self._holding(quoted, verdict)
        return self._found[key]

    def _holding(self, quoted: str, verdict: str) -> tuple[int, ...]:
        if verdict == TRUE:
            return tuple(number for number, text in self.known.items() if quoted in text)
        if self._plain is None:
            self._plain = {number: _plain(text) for number, text in self.known.items()}
        bare = _plain(quoted) if verdict == WHITE_SPACE else _plain(quoted).rstrip(_TRAILING)
        return tuple(number for number, text in self._plain.items() if bare and bare in text)


def _citations(answer: str, most: int) -> Iterator[_Citation]:
    for match in _CITATION.finditer(answer):
        numbers: list[int] = []
        for part in _PART.finditer(match["list"]):
            first, last = int(part["first"]), int(part["last"] or part["first"])
            # Of a range that leaves the pack its last number alone is named: it may be a thousand million.
            numbers += range(first, min(last, most) + 1)
            numbers += [last] if last > most or last < first else []
            numbers += [first] if last < first or first > most else []
        yield _Citation(tuple(dict.fromkeys(numbers)), match.start(), match.end())


def _quotations(answer: str, citations: Sequence[_Citation]) -> Iterator[tuple[Characters, tuple[int, ...]]]:
    """The text of each quotation and the numbers beside it."""
    found = []
    for match in _QUOTE.finditer(answer):
        name = match.lastgroup or ""
        if match[name].strip():
            found.append((match.span(name), match.span()))
    starts = [one.start for one in citations]
    for place, (inner, outer) in enumerate(found):
        stop = found[place + 1][1][0] if place + 1 < len(found) else len(answer)
        begin = found[place - 1][1][1] if place else 0
        before = citations[bisect_left(starts, begin) : bisect_left(starts, outer[0])]
        behind = citations[bisect_left(starts, outer[1]) : bisect_left(starts, stop)]
        yield inner, _beside(answer, before, behind, outer, begin, stop)


def _beside(
    answer: str,
    before: Sequence[_Citation],
    behind: Sequence[_Citation],
    outer: Characters,
    begin: int,
    stop: int,
) -> tuple[int, ...]:
    """The numbers next to a quotation at ``outer``, between the quotations before and behind it."""
    end = _SENTENCE_END.search(answer, outer[1], stop)
    # "... as was said." [1] - a citation right behind the full stop still belongs to the sentence.
    limit = stop if end is None else end.end()
    after = [one for place, one in enumerate(behind) if one.start < limit or _adjacent(answer, limit, behind, place)]
    if after:
        return tuple(dict.fromkeys(number for one in after for number in one.numbers))
    ends = [match.end() for match in _SENTENCE_END.finditer(answer, begin, outer[0])]
    first = ends[-1] if ends else begin
    left = [one for one in before if first <= one.start and one.end <= outer[0]]
    return left[-1].numbers if left else ()


def _adjacent(answer: str, limit: int, behind: Sequence[_Citation], place: int) -> bool:
    """Whether nothing but white space of one line is between ``limit`` and a citation behind it."""
    if place and behind[place - 1].end > limit:
        return False  # another one is
    gap = answer[limit : behind[place].start]
    return not gap.strip() and "\n" not in gap


def _judged(answer: str, span: Characters, numbers: tuple[int, ...], texts: _Texts) -> Quotation:
    quoted = answer[span[0] : span[1]]
    for verdict in (TRUE, WHITE_SPACE, PUNCTUATION):
        found = texts.holding(quoted, verdict)
        if set(found) & set(numbers):
            return Quotation(quoted, *span, numbers, verdict, found)
    return Quotation(quoted, *span, numbers, ABSENT if numbers else UNCITED, texts.holding(quoted, TRUE))


def _plain(text: str) -> str:
    """``text`` with each run of white space as one space."""
    return " ".join(text.split())
