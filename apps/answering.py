"""A question to a cited answer: found, ranked, packed, asked."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

from unabridged.apps.answer_checks import check_calls, check_found, check_order
from unabridged.apps.rankers import OpenRanker
from unabridged.apps.rerank_hits import rerank as reranked
from unabridged.apps.rerank_options import FEW
from unabridged.apps.selector_names import load_selector
from unabridged.contracts import Level
from unabridged.errors import UsageError
from unabridged.rankers.context.contracts import ContextPack
from unabridged.rankers.contracts import Spent
from unabridged.rankers.generate.answerer import MAX_TOKENS, Answerer, AnswerSettings, Listener, Strategy
from unabridged.rankers.generate.checks import check_question, check_word
from unabridged.rankers.generate.contracts import Answer
from unabridged.rankers.generate.prompts import TEMPLATES, AnswerTemplate
from unabridged.rankers.lm.contracts import LanguageModel
from unabridged.rankers.lm.load import load_model
from unabridged.rankers.select.contracts import Passage, Scored, Selector
from unabridged.retrievers.opened import Index
from unabridged.retrievers.result import Mode

CANDIDATES = 100
"""Segments that an answer may be made of; the best that fit are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What finds the hits, and what orders them again."""

    k: int
    mode: Mode
    rerank: str | OpenRanker | None
    depth: int
    select: str | Selector | None


@dataclass(frozen=True, slots=True)
class _Found:
    hits: Any
    sources: Any
    spent: Spent
    timings: Mapping[str, float]


def answer(  # noqa: PLR0913 - the front door: each option is documented below
    question: str,
    found: Index | str | Path | ContextPack | Iterable[Any],
    *,
    model: str | Path | LanguageModel = "embedded",
    sources: Any = None,
    k: int = CANDIDATES,
    mode: Mode | str = Mode.HYBRID,
    rerank: str | OpenRanker | None = None,
    rerank_depth: int = FEW,
    select: str | Selector | None = None,
    budget: int | None = None,
    max_tokens: int = MAX_TOKENS,
    strategy: Strategy = "plain",
    template: str | AnswerTemplate | None = None,
    attribute: str = "words",
    temperature: float = 0.0,
    seed: int | None = None,
    packing: Mapping[str, Any] | None = None,
    listener: Listener | None = None,
    cancel: Event | None = None,
    network: bool = False,
) -> Answer:
    """The answer of ``model`` to ``question`` from the documents in ``found``, with citations that were checked.

    The best segments of an index are searched, ranked again where that is asked for, assembled to a pack that the model
    has room for, and shown to it with their numbers.  Each sentence of the answer has the sources that the model
    named; where it named none, the passage that its words stand in, marked as ours and not the model's.
    No mark says that a sentence is true: one by words says that its words stand there, and a passage that says the
    opposite may have them too.  That the
    documents do not hold the answer is an answer too: ``found`` is False then, and ``why`` says by which rule.

    Args:
        question: In any words.
        found: An index, its folder, hits in any shape that :func:`unabridged.assemble` takes, or a pack that it gave,
            which is shown as it is: nothing is ranked, packed or left out anew.
        model: A name as of :func:`unabridged.rankers.lm.load.load_model`, which is loaded at each call, or a loaded
            model, which is not.
        sources: Where the texts of hits are read, as for :func:`unabridged.assemble`.
        k: How many segments of an index may be in the pack.
        mode: ``hybrid``, ``dense`` or ``bm25``.
        rerank: A ranker of the best hits, as of :func:`unabridged.rerank`.
        rerank_depth: How many it ranks.
        select: A selector that scores the hits, such as ``bm25``; not together with ``rerank``.
        budget: Most tokens of the pack, of the model's own; None: 1,000 of a small local model, else 8,000.
        max_tokens: Of the answer.
        strategy: ``plain``: one call.  ``sure``: seven (Kim et al., ICLR 2024), for short answers.
        template: ``citing``, ``short`` or one of your own; None: by the size of the model.
        attribute: What gives a sentence without a number its source: ``words``; ``choice``: by its words, else the
            number that the model chooses when it must; ``none``.
        temperature: 0 takes the likeliest token each time: the same answer each time.
        seed: Makes a draw above temperature 0 repeatable.
        packing: Further options of :func:`unabridged.assemble`, such as ``headings``.
        listener: Gets each piece of the answer as it is written.
        cancel: Once it is set the call ends with an error.
        network: Whether models may be downloaded by their hub id.

    Raises:
        UsageError: an empty question, an option of another type or of a value that means nothing, a model that cannot
            write, no room for a passage or for the pack that is given.
        MissingFile, MissingExtra: there is no such model or index, or a package is not installed.
        ModelError: the model gave no answer; an :class:`~unabridged.errors.AnswerBroken` has what had come.
    """
    check_question(question)
    check_found(found, rerank=rerank, select=select, sources=sources, packing=packing)
    check_order(k=k, mode=mode, rerank=rerank, depth=rerank_depth, select=select)
    check_calls(model=model, listener=listener, cancel=cancel, network=network)
    clock = time.perf_counter()
    settings = AnswerSettings(
        strategy=strategy,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        template=template_named(template),
        attribute=attribute,
        budget=budget,
        packing={} if packing is None else packing,
    )
    # Opened first: a model that is not there is told before anything is searched.
    with _opened(found) as opened, language_model(model, network=network) as language:
        writer = Answerer(language, settings)
        loaded = _since(clock)
        order = _Order(k=k, mode=Mode(mode), rerank=rerank, depth=rerank_depth, select=select)
        given = _found(question, opened, sources, order, cancel)
        result = writer.answer(question, given.hits, sources=given.sources, listener=listener, cancel=cancel)
    timings = {"load_ms": loaded, **given.timings, **result.timings, "total_ms": _since(clock)}
    return replace(result, timings=timings, spent=given.spent + result.spent)


@contextmanager
def _opened(found: Any) -> Iterator[Any]:
    """An index in place of its folder; one that is opened here is closed."""
    if not isinstance(found, (str, Path)):
        yield found
        return
    with Index(Path(found)) as index:
        yield index


@contextmanager
def language_model(model: str | Path | LanguageModel, *, network: bool = False) -> Iterator[LanguageModel]:
    """The model that is meant; one that is loaded here has no connection left open behind it.

    :class:`UsageError` for one that ranks or encodes only.
    """
    if not isinstance(model, (str, Path)):
        yield model
        return
    check_writes(str(model))
    with closed_after(load_model(model, network=network)) as loaded:
        yield loaded


@contextmanager
def closed_after(model: LanguageModel) -> Iterator[LanguageModel]:
    """``model``, whose connections, if it has any, are closed at the end."""
    try:
        yield model
    finally:
        if callable(close := getattr(model, "close", None)):
            close()


def check_writes(name: str) -> None:
    """:class:`UsageError` for the name of a cross-encoder."""
    if name.startswith("cross:"):
        raise UsageError(f"{name} is a cross-encoder: it ranks and cannot write. Name a language model, as embedded.")


def template_named(template: str | AnswerTemplate | None) -> AnswerTemplate | None:
    """The template that is meant; :class:`UsageError` for an unknown name."""
    if template is None or isinstance(template, AnswerTemplate):
        return template
    check_word("template", template, TEMPLATES)
    return TEMPLATES[template]


def _found(question: str, opened: Any, sources: Any, order: _Order, cancel: Event | None) -> _Found:
    """The hits in the order that was asked for."""
    timings: dict[str, float] = {}
    spent = Spent()
    hits: Any = opened
    if isinstance(opened, ContextPack):
        return _Found(opened, None, spent, timings)
    if isinstance(opened, Index):
        clock = time.perf_counter()
        segments = order.mode is Mode.BM25 or opened.state.settings.level.has_segments
        hits = opened.search_one(question, k=order.k, mode=order.mode, level=Level.SEGMENT if segments else Level.DOC)
        timings["search_ms"] = _since(clock)
        sources = opened if sources is None else sources
    sources = getattr(hits, "sources", None) if sources is None else sources
    clock = time.perf_counter()
    if order.rerank is not None:
        ranked = reranked(question, list(hits), model=order.rerank, depth=order.depth, mode=order.mode)
        hits, spent = ranked, ranked.ranking.spent
        timings["rerank_ms"] = _since(clock)
    elif order.select is not None:
        selector = load_selector(order.select) if isinstance(order.select, str) else order.select
        passages = [_passage(hit) for hit in hits]
        scored = selector.score(question, passages, cancel=cancel) if passages else Scored(())
        # Those without a score come last in a pack, which sorts.
        hits, spent = list(zip(passages, scored.scores, strict=True)), scored.spent
        timings["select_ms"] = _since(clock)
    return _Found(hits, sources, spent, timings)


def _passage(hit: Any) -> Passage:
    """A hit as a selector takes it; :class:`UsageError` for one that does not bring its text."""
    if isinstance(hit, Passage):
        return hit
    try:
        if isinstance(hit, Mapping):
            start = hit.get("start", 0)
            return Passage(hit["doc_id"], start, hit.get("end", start + len(hit["text"])), hit["text"])
        span = getattr(hit, "span", hit)
        return Passage(hit.doc_id, span.start, span.end, span.text)
    except (AttributeError, KeyError, TypeError) as error:
        raise UsageError(
            f"select reads the text of each hit, and a {type(hit).__name__} has not all of doc_id, start, end and "
            "text. Give hits of a search, passages or such mappings, or leave select out."
        ) from error


def _since(moment: float) -> float:
    return round((time.perf_counter() - moment) * 1000, 3)
