"""What an answer is: a text, where each sentence of it stands in the sources, and how it was come by.

Only the standard library is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from unabridged.contracts import JSON
from unabridged.rankers.context.citations import CitationReport
from unabridged.rankers.context.contracts import ContextPack
from unabridged.rankers.contracts import Characters, Spent

if TYPE_CHECKING:
    from unabridged.rankers.generate.sure_run import SureRecord

NOT_FOUND = "Not found in these documents."
"""What a model is asked to write where the passages do not hold the answer."""
BY_MODEL = "model"
"""The model wrote the number of the source."""
BY_WORDS = "words"
"""The model wrote none: the sentence's words stand in the source (:mod:`unabridged.rankers.generate.support`)."""
BY_CHOICE = "choice"
"""The model wrote none, and chose this number where it could write nothing but one of the numbers."""

SAID_SO, EMPTY, NO_HITS, UNSUPPORTED = "said so", "empty answer", "no passages", "unsupported"
"""Why there is no answer: the model's own words, nothing written, nothing to read; and of a model that is too small to
be asked whether there is one: no sentence that it wrote stands in a passage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A sentence of the answer and a source of the pack that it cites."""

    sentence: Characters
    """In the text of the answer."""
    number: int
    """Of the source in the pack."""
    doc_id: str
    start: int
    """In the document: the sentences of the source that say it, or the whole span where none has a word of it."""
    end: int
    text: str
    """The document's characters ``[start, end)``."""
    by: str
    """:data:`BY_MODEL`, :data:`BY_WORDS` or :data:`BY_CHOICE`."""
    share: float
    """Of the sentence's words, by weight, that stand in ``text``: 1 is all of them."""

    def as_json(self) -> dict[str, JSON]:
        """Plain values."""
        return {
            "sentence": list(self.sentence),
            "number": self.number,
            "doc_id": self.doc_id,
            "start": self.start,
            "end": self.end,
            "text": self.text,
            "by": self.by,
            "share": round(self.share, 4),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer over a context pack."""

    question: str
    text: str
    """As the model wrote it."""
    found: bool
    """False: the documents shown do not hold the answer, as ``why`` says.  It is an outcome, not an error."""
    why: str = ""
    """:data:`SAID_SO`, :data:`EMPTY`, :data:`NO_HITS` or :data:`UNSUPPORTED`; "" where an answer was found."""
    citations: tuple[Citation, ...] = ()
    """In the order of the text."""
    unsupported: tuple[Characters, ...] = ()
    """Sentences of the answer that cite nothing and whose words stand in no source."""
    pack: ContextPack
    """What the model was shown, and what was left out of it."""
    report: CitationReport
    """The numbers and quotations that the model wrote, checked against the pack."""
    model: str
    strategy: str
    finish: str
    """``stop``; ``length``: cut at the number of tokens allowed; ``filtered``; ``none``: no call was made."""
    notes: tuple[str, ...] = ()
    """What did not go as planned: strings made inert, prompts made shorter, replies that could not be read."""
    sure: SureRecord | None = None
    spent: Spent = field(default_factory=Spent)
    timings: Mapping[str, float] = field(default_factory=dict)
    """Milliseconds."""

    @property
    def cited(self) -> str:
        """The text with the numbers of the sources; those that the model did not write have a ``~``: ``[~2]``.

        A mark shows the source that the words of a sentence stand in, or that the model named.  It does not prove that
        the sentence is true: a passage that says the opposite has nearly the same words.
        """
        parts, at = [], 0
        own = {one.sentence: [] for one in self.citations}  # type: dict[Characters, list[int]]
        for one in self.citations:
            if one.by != BY_MODEL:
                own[one.sentence].append(one.number)
        for (_, end), numbers in sorted(own.items()):
            marks = "".join(f" [~{number}]" for number in numbers)
            parts += [self.text[at:end], marks]
            at = end
        return "".join([*parts, self.text[at:]])

    def as_json(self) -> dict[str, JSON]:
        """Plain values, as ``unabridged ask --output json`` prints them."""
        usage = self.spent.usage
        return {
            "question": self.question,
            "answer": self.text,
            "cited": self.cited,
            "found": self.found,
            "why": self.why,
            "citations": [one.as_json() for one in self.citations],
            "unsupported": [list(one) for one in self.unsupported],
            "check": self.report.as_json(),
            "model": self.model,
            "strategy": self.strategy,
            "finish": self.finish,
            "notes": list(self.notes),
            "sure": None if self.sure is None else self.sure.as_json(),
            "spent": {
                "calls": self.spent.calls,
                "failed": self.spent.failed,
                "unknown_usage": self.spent.unknown,
                "prompt_tokens": usage.prompt,
                "completion_tokens": usage.completion,
                "cached_tokens": usage.cached,
                "seconds": round(self.spent.seconds, 3),
            },
            "timings": dict(self.timings),
            "pack": self.pack.as_json(),
        }
