"""Packs of files that no index holds: read, cut into passages, scored, assembled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unabridged.apps.output import complain
from unabridged.apps.selector_names import SelectorOptions, load_selector, options_of
from unabridged.contracts import JSON, Document, Failure
from unabridged.corpora import read_corpus
from unabridged.errors import CorpusError, DuplicateId
from unabridged.rankers.context.cutting import passages_of
from unabridged.rankers.context.stretches import Passed
from unabridged.rankers.select.contracts import Passage, Scored, Selector
from unabridged.rankers.select.records import BEHIND
from unabridged.retrievers.result import Mode

BY_MODE: Mapping[Mode, str] = {Mode.BM25: "bm25", Mode.DENSE: "vectors", Mode.HYBRID: "hybrid"}
"""What a search of this kind is among selectors."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What files hold."""

    texts: dict[str, str]
    """Sources by id."""
    failures: tuple[Failure, ...]
    """What could not be read."""


@dataclass(frozen=True, slots=True)
class Selected:
    """Passages with scores, best first, and how they were come by."""

    pairs: tuple[tuple[Passage, float | None], ...]
    label: str
    scored: Scored
    passed: tuple[Passed, ...] = ()
    """What is not among them: passages behind, and sentences that were pruned."""
    sentences: tuple[int, int] | None = None
    """Those that were left and those that there were, where passages were pruned."""

    def as_json(self) -> dict[str, JSON]:
        """Plain values."""
        from unabridged.apps.ranking_json import spent_json

        unscored: dict[str, int] = {}
        for reason in self.scored.reasons:
            if reason:
                unscored[reason] = unscored.get(reason, 0) + 1
        body: dict[str, JSON] = {
            "selector": self.label,
            "passages": len(self.scored.scores),
            "unscored": unscored,
            "spent": spent_json(self.scored.spent),
        }
        return body if self.sentences is None else {**body, "sentences": list(self.sentences)}


def read_texts(sources: Sequence[str], reading: Mapping[str, Any]) -> Texts:
    """The documents of files, as an index would read them.

    Raises:
        CorpusError: not one document could be read.
        DuplicateId: two of them share an id.
        MissingFile, UsageError: see :func:`unabridged.corpora.read_corpus`.
    """
    corpus = read_corpus(*sources, **reading)
    texts: dict[str, str] = {}
    failures = []
    for item in corpus:
        if not isinstance(item, Document):
            failures.append(item)
        elif item.id in texts:
            raise DuplicateId(f"{item.where}: document {item.id!r} stands twice in the files; ids must be unique.")
        else:
            texts[item.id] = item.source
    if not texts:
        # Another format does not mend an encoding, and its own message says what does.
        advice = "" if any(one.reason == "undecodable" for one in failures) else _advice(sources, reading)
        why = f" ({failures[0].where}: {failures[0].message})" if failures else ""
        raise CorpusError(f"{', '.join(sources)} holds no document that could be read{why}.{advice}")
    return Texts(texts, tuple(failures))


def _advice(sources: Sequence[str], reading: Mapping[str, Any]) -> str:
    if "format" in reading:
        return ""
    if "-" in sources:
        return " Standard input is read as JSON lines: a text is named by --format text."
    return " A format that no name of a file tells is given by --format, as in --format text."


def selector_for(name: str | None, mode: Mode, encoder: str | None, options: Mapping[str, Any]) -> Selector:
    """The selector called ``name``, else the one that ``mode`` is, with the encoder that was named.

    ``options`` that the selector does not have are refused where it was named, else left out.
    """
    if name is None:
        if mode is Mode.BM25:
            return load_selector(BY_MODE[mode])
        return load_selector(f"{BY_MODE[mode]}:{encoder}" if encoder else BY_MODE[mode], SelectorOptions(**options))
    if encoder is None or "encoder" not in options_of(name):
        return load_selector(name, SelectorOptions(**options))
    from unabridged.encoders.load import load_encoder

    return load_selector(name, SelectorOptions(encoder=load_encoder(encoder, **options)))


def cut(texts: Mapping[str, str], tokens: int) -> list[Passage]:
    """The passages of all texts, in their order."""
    return [passage for doc_id, text in texts.items() for passage in passages_of(doc_id, text, tokens=tokens)]


def selected(question: str, passages: Sequence[Passage], selector: Selector, most: int | None = None) -> Selected:
    """The ``most`` best passages by the selector, and why each of the others is not one of them.

    Those without a score come last, in the order given.
    """
    if not passages:
        return Selected((), selector.label, Scored(()))
    tell_cost(question, passages, selector, "passages")
    scored = selector.score(question, passages)
    places = sorted(range(len(passages)), key=lambda place: _key(scored.scores[place]))
    pairs = tuple((passages[place], scored.scores[place]) for place in places[:most])
    behind = [] if most is None else places[most:]
    return Selected(pairs, selector.label, scored, tuple(_passed(passages[place], scored, place) for place in behind))


def tell_cost(question: str, passages: Sequence[Passage], selector: Selector, what: str) -> None:
    """Says on stderr what scoring will take, where a model is called."""
    cost = selector.cost(question, passages)
    if cost.calls:
        complain(f"{selector.label} scores {len(passages):,} {what}: {cost.calls:,} calls, {cost.tokens:,} tokens")


def _passed(passage: Passage, scored: Scored, place: int) -> Passed:
    reason = scored.reasons[place] if scored.reasons else ""
    return Passed(passage.doc_id, passage.start, passage.end, reason or BEHIND)


def _key(score: float | None) -> tuple[bool, float]:
    return score is None, 0.0 if score is None else -score
