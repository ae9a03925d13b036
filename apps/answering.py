"""A question to a cited answer: found, ranked, packed, asked."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

from unabridged.apps.answer_checks import check_calls, check_found, check_order
from unabridged.apps.answer_hits import Ordering, hits_for
from unabridged.apps.rankers import OpenRanker
from unabridged.apps.rerank_options import FEW
from unabridged.errors import UsageError
from unabridged.rankers.context.contracts import ContextPack
from unabridged.rankers.generate.answerer import MAX_TOKENS, Answerer, AnswerSettings, Listener, Strategy
from unabridged.rankers.generate.checks import check_question, check_word
from unabridged.rankers.generate.contracts import Answer
from unabridged.rankers.generate.prompts import TEMPLATES, AnswerTemplate
from unabridged.rankers.lm.contracts import LanguageModel
from unabridged.rankers.lm.load import load_model
from unabridged.rankers.select.contracts import Selector
from unabridged.retrievers.opened import Index
from unabridged.retrievers.result import Mode

CANDIDATES = 100
"""Segments that an answer may be made of; the best that fit are shown."""


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
        order = Ordering(k=k, mode=Mode(mode), rerank=rerank, depth=rerank_depth, select=select)
        given = hits_for(question, opened, sources, order, cancel)
        result = writer.answer(question, given.hits, sources=given.sources, listener=listener, cancel=cancel)
    timings = {"load_ms": loaded, **given.timings, **result.timings, "total_ms": _since(clock)}
    notes = (*given.notes, *result.notes)
    return replace(result, timings=timings, spent=given.spent + result.spent, notes=notes)


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


def _since(moment: float) -> float:
    return round((time.perf_counter() - moment) * 1000, 3)
