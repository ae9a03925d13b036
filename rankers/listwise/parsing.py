"""A model's words to a permutation, whatever the words are.

The result is always a permutation of the group, and the report says how much of it the model said.  Differences from
parsers that read every run of digits: only ids count.  An id stands in brackets, in a chain ``a > b``, in a list of
two ids or more, or alone; the 20 of "here are the 20 passages" is none of these.  What a thinking block says is no
answer, and neither is an error message, which never comes here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from unabridged.rankers.listwise.labels import Labels

Kind = Literal["ok", "wrong_format", "repetition", "missing", "out_of_range"]
Form = Literal["bracketed", "chain", "list", "alone", "pattern", "none"]

_THOUGHT = r"think|thinking|thought|reasoning"
_CLOSED = re.compile(rf"</\s*(?:{_THOUGHT})\s*>", re.IGNORECASE)
_OPENED = re.compile(rf"<\s*(?:{_THOUGHT})\s*>", re.IGNORECASE)
_ANSWERED = re.compile(r"<\s*answer\s*>(.*?)(?:<\s*/\s*answer\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_CUT_BRACKET = re.compile(r"\[[^\]\[]{0,12}\Z")
_NAME = r"(?:(?:passage|document|doc|item|text|candidate|option)\s{0,4}[#:_]?\s{0,4})"
_MORE = r"\s{0,20}(?:>{1,3}|&gt;|\u227b|\u2192|\u00bb)\s{0,20}"
_LOOSE = rf"(?:{_MORE}|\s{{0,20}}[,;|]\s{{0,20}}(?:(?:and|then)\s{{1,20}})?|\s{{1,20}})"
_LOOSE_LETTERS = rf"(?:{_MORE}|\s{{0,20}}[,;|]\s{{0,20}}|\s{{0,20}}\n\s{{0,20}})"
_NUMBERED = re.compile(r"^[ \t]*(\d{1,9})[.)][ \t]+", re.MULTILINE)
_TO_TWENTY = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_WORDS = {word: str(number) for number, word in enumerate(_TO_TWENTY.split(), start=1)}
_WORD = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseReport:
    """What was found in an answer."""

    n_valid: int
    """Different ids of the group."""
    n_missing: int
    """Expected ids that were not named."""
    n_dup: int
    n_out_of_range: int
    kind: Kind
    """The first that holds of: ``wrong_format`` (no id, or not in the form that was asked for), ``repetition``,
    ``missing``, ``out_of_range``; else ``ok``."""
    form: Form
    """How the ids were recognised."""

    @property
    def repaired(self) -> bool:
        """Whether the permutation is not literally what the model wrote."""
        return self.kind != "ok"


@dataclass(frozen=True, slots=True)
class Parsed:
    """The places of the group, best first: a permutation of ``range(n)``, and how it was come by."""

    order: tuple[int, ...]
    report: ParseReport


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerForm:
    """What an answer was asked to look like."""

    labels: Labels = field(default_factory=Labels)
    extraction: re.Pattern[str] | None = None
    """Finds the ids in the answer (its first group, if it has one), in place of the forms that are known here."""
    validation: re.Pattern[str] | None = None
    """An answer that does not match it as a whole is reported as ``wrong_format``; its ids are still used."""
    markers: tuple[str, str] | None = None
    """Strings around the answer."""


def parse(
    text: str, n: int, *, form: AnswerForm | None = None, expected: int | None = None, cut: bool = False
) -> Parsed:
    """The permutation of ``range(n)`` that ``text`` says.

    First mention wins; ids that do not exist are dropped; what was not named follows in the order in which it was
    shown.  ``expected``: so many ids were asked for (None: all).  ``cut``: the text ends where the token limit was, so
    that a last id that may be the beginning of a longer one is not read.
    """
    form = form or AnswerForm()
    wanted = n if expected is None else min(expected, n)
    answer = answer_of(text, form.markers)
    tokens, found = _extract(answer, form, wanted)
    places = [form.labels.place(token) for token in tokens]
    if cut and places and answer.rstrip().endswith(tokens[-1]) and _may_go_on(tokens[-1], places, n, form.labels):
        places.pop()
    valid = [place for place in places if 0 <= place < n]
    order = list(dict.fromkeys(valid))
    missing = max(0, wanted - len(order))
    outside = len(places) - len(valid)
    repeated = len(valid) - len(order)
    wrong = not order or found != _asked_form(form, wanted)
    wrong |= form.validation is not None and form.validation.fullmatch(answer.strip()) is None
    report = ParseReport(
        n_valid=len(order),
        n_missing=missing,
        n_dup=repeated,
        n_out_of_range=outside,
        kind=_kind(wrong=wrong and n > 0, repeated=repeated, missing=missing, outside=outside),
        form=found,
    )
    named = set(order)
    return Parsed((*order, *(place for place in range(n) if place not in named)), report)


def answer_of(text: str, markers: tuple[str, str] | None = None) -> str:
    """The part of ``text`` that answers, in plain characters; empty where a thought has no end.

    Behind the last thinking block; inside the last answer tags or markers where there are some; full-width,
    superscript, circled and other scripts' digits become those of ASCII.
    """
    *_, rest = _CLOSED.split(text)
    if _OPENED.search(rest):
        return ""
    tagged = _ANSWERED.findall(rest)
    if tagged:
        rest = tagged[-1]
    if markers is not None and markers[0] in rest:
        rest = rest.rpartition(markers[0])[2].partition(markers[1])[0]
    plain = unicodedata.normalize("NFKC", rest)
    if not plain.isascii():
        plain = "".join(_plain(character) for character in plain)
    return plain


def _plain(character: str) -> str:
    digit = unicodedata.digit(character, None)
    return character if digit is None else str(digit)


def _extract(answer: str, form: AnswerForm, wanted: int) -> tuple[list[str], Form]:
    """The ids of ``answer`` in order, and how they were recognised."""
    core = r"[A-Za-z]" if form.labels.letters else r"-?\d+"
    if form.extraction is not None:
        inside = re.compile(core if form.labels.letters else r"\d+")
        groups = 1 if form.extraction.groups else 0
        matches = (match.group(groups) or "" for match in form.extraction.finditer(answer))
        return [token for match in matches for token in inside.findall(match)], "pattern"
    answer = _CUT_BRACKET.sub("", answer)
    bracketed = rf"\[\s{{0,4}}{_NAME}?({core})\s{{0,4}}\]"
    every = re.findall(bracketed, answer, re.IGNORECASE)
    if every:
        chained = _longest(rf"{bracketed}(?:{_MORE}{bracketed})+", bracketed, answer)
        # A chain is the answer and ids elsewhere are talk, unless the chain is a small part of what was named.
        links = set(chained)
        if 2 * len(links) >= len(set(every)):
            return [*chained, *(one for one in every if one not in links)], "bracketed"
        return every, "bracketed"
    return _bare(answer, form, wanted)


def _bare(answer: str, form: AnswerForm, wanted: int) -> tuple[list[str], Form]:
    if not form.labels.letters and not re.search(r"\d", answer):
        answer = _WORD.sub(lambda match: _WORDS[match.group().lower()], answer)
        forms: Sequence[tuple[str, Form]] = ((_MORE, "chain"),)
    else:
        answer = _unnumbered(answer) if not form.labels.letters else answer
        forms = ((_MORE, "chain"), (_LOOSE_LETTERS if form.labels.letters else _LOOSE, "list"))
    core = r"(?<![A-Za-z])([A-Z])(?![A-Za-z])" if form.labels.letters else r"(?<![\d.])(-?\d+)(?!\w|\.\d)"
    item = rf"[*\"'(]{{0,2}}(?i:{_NAME})?{core}[*\"')]{{0,2}}" if form.labels.letters else rf"(?<!\w){_NAME}?{core}"
    flags = re.RegexFlag(0) if form.labels.letters else re.IGNORECASE
    for more, name in forms:
        found = _longest(rf"{item}(?:{more}{item})+", core, answer, flags)
        inside = [one for one in found if form.labels.place(one) >= 0]
        if len(inside) > 1:
            return found, name
    alone = re.fullmatch(rf"\W*(?i:{_NAME})?{core}\W*", answer)
    if alone:
        return [alone.group(1)], "alone"
    if wanted == 1:
        named = list(dict.fromkeys(re.findall(rf"(?i:\b{_NAME}|\banswer\W{{1,4}})\W?{core}", answer)))
        if len(named) == 1:
            return named, "list"
    return [], "none"


def _longest(chain: str, item: str, text: str, flags: re.RegexFlag = re.IGNORECASE) -> list[str]:
    """The ids of the match of ``chain`` that has the most different ones; the earliest of equals."""
    best: list[str] = []
    for match in re.finditer(chain, text, flags):
        found = re.findall(item, match.group(), flags)
        if len(set(found)) > len(set(best)):
            best = found
    return best


def _unnumbered(text: str) -> str:
    """``text`` without the numbers of a numbered list, where every line has one and they count from 1."""
    lines = [line for line in text.splitlines() if line.strip()]
    markers = [match.group(1) for match in _heads(lines)]
    if len(lines) < 2 or markers != [str(number) for number in range(1, len(lines) + 1)]:
        return text
    stripped = _NUMBERED.sub("", text)
    return stripped if re.search(r"\d", stripped) else text


def _heads(lines: Sequence[str]) -> Iterator[re.Match[str]]:
    return (match for line in lines if (match := _NUMBERED.match(line)))


def _may_go_on(token: str, places: Sequence[int], n: int, labels: Labels) -> bool:
    """Whether the last id may be the beginning of another one that was not named yet."""
    if labels.letters or not token.isascii() or not token.isdigit():
        return False
    left = set(range(n)) - set(places[:-1])
    return any(str(place + 1) != token and str(place + 1).startswith(token) for place in left)


def _asked_form(form: AnswerForm, wanted: int) -> Form:
    if form.extraction is not None:
        return "pattern"
    if form.labels.brackets:
        return "bracketed"
    return "alone" if wanted == 1 else "chain"


def _kind(*, wrong: bool, repeated: int, missing: int, outside: int) -> Kind:
    if wrong:
        return "wrong_format"
    if repeated:
        return "repetition"
    if missing:
        return "missing"
    return "out_of_range" if outside else "ok"
