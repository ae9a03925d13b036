"""The ``context`` command: what was asked, to a pack of an index or of files, and the pack as it is shown."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unabridged.apps.asked import Asked
from unabridged.apps.context_files import cut, read_texts, selected, selector_for
from unabridged.apps.context_pruned import pruned
from unabridged.apps.output import Output, complain, counted, emit, hand_on, one_line
from unabridged.apps.rerank_hits import RerankedHits
from unabridged.apps.search_reranking import end, told
from unabridged.apps.searching import open_for, parse_filters
from unabridged.contracts import JSON, Failure, Level
from unabridged.errors import EXIT_PARTIAL, UsageError
from unabridged.rankers.context.assemble import assemble
from unabridged.rankers.context.contracts import ContextPack
from unabridged.rankers.context.counting import token_counter
from unabridged.rankers.context.stretches import Passed, accounted
from unabridged.rankers.contracts import Characters
from unabridged.rankers.listwise.fitting import merged as union
from unabridged.rankers.select.contracts import Passage
from unabridged.retrievers.opened import Index
from unabridged.retrievers.result import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """What a pack is made of, and how it was come by."""

    hits: Any
    """As :func:`assemble` takes them, best first."""
    sources: Any = None
    """Where their texts are read; None: the hits know."""
    found: RerankedHits | None = None
    select: dict[str, JSON] | None = None
    failures: tuple[Failure, ...] = ()
    read: Mapping[str, Sequence[Characters]] = field(default_factory=dict)
    """What was read besides the hits, by its documents: of a file all of it."""
    passed: tuple[Passed, ...] = ()
    """Passages and sentences of that which are no hits."""

    def accounted(self, pack: ContextPack) -> ContextPack:
        """``pack`` with a reason for everything that was read and is not in it."""
        return accounted(pack, self.read, self.passed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A pack, and how its candidates were come by."""

    pack: ContextPack
    found: RerankedHits | None = None
    select: dict[str, JSON] | None = None
    failures: tuple[Failure, ...] = ()

    def as_json(self) -> dict[str, JSON]:
        """Plain values, as ``--output json`` prints them."""
        body = self.pack.as_json()
        if self.select is not None:
            body["select"] = self.select
        if self.failures:
            body["failed"] = [
                {"where": one.where, "reason": one.reason, "message": one.message} for one in self.failures
            ]
        return body if self.found is None else {**body, "rerank": self.found.as_json()}


def run_context(asked: Asked, packing: Mapping[str, Any], output: Output) -> None:
    """Prints the pack; exit code 7 where files could not be read, or hits not be ranked again.

    As text the pack alone is on stdout, so that it can be piped, and what was left out of it is told on stderr.
    """
    packed = packed_for(asked, packing)
    if output is Output.JSON:
        emit(packed.as_json())
    else:
        hand_on(packed.pack.text)
        complain(described(packed))
    end({} if packed.found is None else {asked.question: packed.found})
    if packed.failures:
        raise SystemExit(EXIT_PARTIAL)


def packed_for(asked: Asked, packing: Mapping[str, Any]) -> Packed:
    """The pack that was asked for."""
    began = time.perf_counter()
    if packing["budget"] < 1:
        raise UsageError(f"budget={packing['budget']!r}; expected a positive whole number of tokens.")
    # A tokenizer that is not there is told before minutes of scoring.
    packing = {**packing, "tokenizer": token_counter(packing["tokenizer"], network=bool(packing.get("network")))}
    given = candidates_for(asked)
    packed = Packed(
        pack=given.accounted(assemble(asked.question, given.hits, sources=given.sources, **packing)),
        found=given.found,
        select=given.select,
        failures=given.failures,
    )
    whole = round((time.perf_counter() - began) * 1000, 3)
    found_ms = round(whole - packed.pack.timings["total_ms"], 3)
    timings = {"find_ms": found_ms, **packed.pack.timings, "total_ms": whole}
    return replace(packed, pack=replace(packed.pack, timings=timings))


def candidates_for(asked: Asked) -> Candidates:
    """The hits that were asked for, or the passages of files, in their order."""
    if not asked.question.strip():
        raise UsageError("The question is empty; expected at least one word.")
    if asked.k < 1:
        raise UsageError(f"k is a positive whole number of candidates, got {asked.k}.")
    return _of_files(asked) if asked.folder is None else _of_index(asked.folder, asked)


def described(packed: Packed) -> str:
    """What is in the pack and what is not, for people."""
    pack = packed.pack
    documents = len({one.doc_id for one in pack.sources})
    lines = [
        f"{len(pack.sources):,} spans of {documents:,} documents, {pack.tokens:,} of {pack.budget:,} tokens by "
        f"{pack.tokenizer}, order {pack.order.value}; left out: " + (counted(_reasons(pack)) or "nothing")
    ]
    lines += [f"could not be read: {one_line(one.where)}: {one.message}" for one in packed.failures]
    return "\n".join(lines if packed.found is None else [*lines, told(packed.found).strip()])


def _reasons(pack: ContextPack) -> Counter[str]:
    found: Counter[str] = Counter()
    for one in pack.dropped:
        found[one.reason] += one.passages
    return +found


def _of_index(folder: Path, asked: Asked) -> Candidates:
    if asked.reading:
        raise UsageError(f"--{next(iter(asked.reading)).replace('_', '-')} is for files: name one with --file.")
    selecting = {} if asked.select is None else asked.loading
    if asked.prune is not None and asked.select is None:
        raise UsageError("--prune goes by the scores of a selector: name one with --select, as in --select vectors.")
    index = open_for(folder, asked.mode, asked.encoder, asked.loading if asked.select is None else {})
    level = asked.level or _level(index, asked.mode)
    wanted = {"k": asked.k, "mode": asked.mode, "level": level}
    search = wanted if asked.again is None else asked.again.widened(wanted)
    [result] = index.search([asked.question], filter=parse_filters(asked.filters) or None, **search)
    if asked.again is not None:
        result, found = asked.again.applied(result, index, level)
        return Candidates(hits=result, found=found)
    if asked.select is None:
        return Candidates(hits=result)
    selector = selector_for(asked.select, asked.mode, None, selecting)
    passages = [Passage(hit.doc_id, hit.span.start, hit.span.end, hit.span.text) for hit in result]
    chosen = selected(asked.question, passages, selector)
    if asked.prune is None:
        return Candidates(hits=chosen.pairs, sources=index, select=chosen.as_json())
    left = pruned(asked.question, chosen, selector, asked.prune)
    read: dict[str, list[Characters]] = {}
    for one in passages:
        read.setdefault(one.doc_id, []).append((one.start, one.end))
    return Candidates(
        hits=left.pairs,
        sources=index,
        select=left.as_json(),
        read={name: union(spans) for name, spans in read.items()},
        passed=left.passed,
    )


def _of_files(asked: Asked) -> Candidates:
    for name, given in (("--rerank", asked.again), ("--filter", asked.filters), ("--level", asked.level)):
        if given:
            raise UsageError(f"{name} is for an index, and --file has none: leave it out, or index the file first.")
    read = read_texts(asked.files, asked.reading)
    selector = selector_for(asked.select, asked.mode, asked.encoder, asked.loading)
    chosen = selected(asked.question, cut(read.texts, asked.passage_tokens), selector, asked.k)
    if asked.prune is not None:
        chosen = pruned(asked.question, chosen, selector, asked.prune)
    # A document without text has no passage; the pack records it as left out.
    blank = [(Passage(name, 0, len(text), text), None) for name, text in read.texts.items() if not text.strip()]
    hits = (*chosen.pairs, *blank)
    return Candidates(
        hits=hits,
        sources=read.texts,
        select=chosen.as_json(),
        failures=read.failures,
        read={name: [(0, len(text))] for name, text in read.texts.items()},
        passed=chosen.passed,
    )


def _level(index: Index, mode: Mode) -> Level:
    """Segments where the index can rank them."""
    return Level.SEGMENT if mode is Mode.BM25 or index.state.settings.level.has_segments else Level.DOC
