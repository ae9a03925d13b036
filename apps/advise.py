"""What the ``advise`` command does: sets are made, methods tried within a time limit, results put in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

from unabridged.apps.kept import Kept, key_of
from unabridged.apps.trials import Cell, Trial, dead_zone, measure
from unabridged.contracts import JSON, Corpus, Document
from unabridged.errors import UsageError, ValidationError
from unabridged.eval.reach import usable_length
from unabridged.eval.synth.haystack import haystack
from unabridged.eval.synth.needle import needle
from unabridged.eval.synth.passkey import passkey
from unabridged.eval.synth.records import SynthSet, nominal_words

TASKS = ("passkey", "needle")
CHARACTERS = 4_000_000
"""Of a user's documents at most this much is taken for haystacks."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one method showed."""

    name: str
    window: int
    cells: tuple[Cell, ...]
    dead: JSON = None
    skipped: tuple[str, ...] = ()

    def accuracy(self, task: str) -> dict[int, float]:
        """Length -> accuracy@1."""
        return {cell.length: cell.accuracy for cell in self.cells if cell.task == task}

    @property
    def usable(self) -> dict[str, int | None]:
        """Usable length by task, in nominal tokens."""
        return {task: usable_length(self.accuracy(task)) for task in dict.fromkeys(c.task for c in self.cells)}

    @property
    def worst_usable(self) -> int:
        """The smallest usable length of all tasks, 0 where one has none."""
        return min((length or 0 for length in self.usable.values()), default=0)

    @property
    def mean(self) -> float:
        """Mean accuracy over tasks and lengths."""
        return sum(cell.accuracy for cell in self.cells) / max(len(self.cells), 1)

    @property
    def tokens_per_second(self) -> float:
        """At the longest length that was tried."""
        return self.cells[-1].tokens_per_second if self.cells else 0.0

    def as_json(self) -> dict[str, JSON]:
        """For scripts."""
        return {
            "name": self.name,
            "window": self.window,
            "usable_length": self.usable,
            "mean_accuracy": self.mean,
            "tokens_per_second": self.tokens_per_second,
            "cells": [asdict(cell) for cell in self.cells],
            "dead_zone": self.dead,
            "skipped": list(self.skipped),
        }


@dataclass(slots=True)
class Clock:
    """Says before each step whether it fits the time that is left; without a limit everything does."""

    minutes: float | None
    started: float = field(default_factory=time.perf_counter)

    def fits(self, seconds: float) -> bool:
        """Whether a step of about ``seconds`` would end in time."""
        return self.minutes is None or time.perf_counter() - self.started + seconds <= 60 * self.minutes


def make_sets(
    tasks: Sequence[str], lengths: Sequence[int], documents: int, queries: int, texts: Sequence[str] | None, seed: int
) -> list[SynthSet]:
    """The data sets, shortest first within a task.

    With ``texts`` needles are placed into those, and lengths beyond what they have are left out, which
    :func:`left_out` puts in words; :class:`UsageError` if none is left.
    """
    sets: list[SynthSet] = []
    held = None if texts is None else _words(texts)
    for task in tasks:
        for length in sorted(set(lengths)):
            if task == "passkey":
                sets.append(passkey(length, seed, documents=documents, queries=queries))
            elif held is None or held >= nominal_words(length, 0):
                sets.append(needle(length, seed, documents=documents, queries=queries, texts=texts))
    if not sets:
        raise UsageError(f"The documents have {held or 0:,} words, too few for the lengths {list(lengths)}.")
    return sets


def left_out(tasks: Sequence[str], lengths: Sequence[int], texts: Sequence[str] | None) -> list[str]:
    """What :func:`make_sets` leaves out, and why: a haystack cannot be longer than the user's texts."""
    if texts is None or "needle" not in tasks:
        return []
    held = _words(texts)
    needed = {length: nominal_words(length, 0) for length in sorted(set(lengths))}
    return [
        f"needle at {length:,}: the texts have {held:,} words, {words:,} are needed"
        for length, words in needed.items()
        if words > held
    ]


def own_texts(corpus: Corpus) -> list[str]:
    """The first texts of a corpus, up to :data:`CHARACTERS`, longest first so that haystacks are of one piece."""
    texts: list[str] = []
    size = 0
    for item in corpus:
        if isinstance(item, Document) and item.source.strip():
            texts.append(item.source)
            size += len(item.source)
            if size > CHARACTERS:
                break
    return sorted(texts, key=len, reverse=True)


def plan_tokens(trials: Sequence[Trial], sets: Sequence[SynthSet], positions: int) -> dict[str, int]:
    """About how many tokens each method will encode; documents of one set are equally long but for a few tokens."""
    planned = {}
    for trial in trials:
        counts = trial.encoder.count_tokens([made.texts[0] for made in sets]).tolist()
        whole = trial.overflow.value != "truncate"
        each = [count if whole else min(count, trial.encoder.window) for count in counts]
        total = sum(size * len(made.documents) for size, made in zip(each, sets, strict=True))
        planned[trial.name] = total + (positions + 1 if positions else 0) * max(each)
    return planned


def try_out(
    trial: Trial,
    sets: Sequence[SynthSet],
    text: str,
    positions: int,
    clock: Clock,
    tell: Callable[[str], None],
    kept: Kept | None = None,
) -> Result:
    """One method on all sets, then its dead zone in ``text``; what does not fit the time limit is named.

    What ``kept`` has from an earlier run is not measured again, and takes no time.
    """
    cells: list[Cell] = []
    skipped: list[str] = []
    kept = kept or Kept(None)
    what = (trial.encoder.passport.fingerprint, trial.level.value, trial.overflow.value)
    loaded = False
    for made in sets:
        before = next((cell for cell in reversed(cells) if cell.length <= made.length), None)
        # From one length to the next attention grows with the square.
        expected = 0.0 if before is None else before.seconds * (made.length / before.length) ** 1.5
        key = key_of(*what, made.texts, made.queries)
        known = kept.has(key)
        if not known and not clock.fits(expected):
            skipped.append(f"{made.task} {made.length}")
            continue
        if not known and not loaded:
            trial.encode(["A first text loads the model."])
            loaded = True
        cells.append(_read(kept.get(key, partial(_cell, trial, made))))
        tell(f"{trial.name}: {made.task} {made.length} accuracy@1 {cells[-1].accuracy:.2f}, {cells[-1].seconds:.0f} s")
    key = key_of(*what, text, positions)
    wanted = positions and cells and (kept.has(key) or clock.fits(0.0))
    dead = kept.get(key, partial(dead_zone, trial, text, positions)) if wanted else None
    return Result(trial.name, trial.encoder.window, tuple(cells), dead, tuple(skipped))


def _cell(trial: Trial, made: SynthSet) -> JSON:
    return asdict(measure(trial, made))


def _read(value: JSON) -> Cell:
    try:
        return Cell(**{**value, "depth": tuple(value["depth"])})
    except (KeyError, TypeError) as error:
        raise ValidationError(
            f"A kept cell holds {value!r}, not what this version measures. Keep in a new file."
        ) from error


def dead_text(length: int, texts: Sequence[str] | None, seed: int) -> str:
    """The document whose positions are occluded: a haystack of ``length`` nominal tokens, or what the texts have."""
    words = nominal_words(length, 0)
    return haystack(words if texts is None else max(1, min(words, _words(texts))), texts, seed)


def recommend(results: Sequence[Result], longest: int) -> str:
    """One paragraph: what to use, how far it reads, and what a single vector per document costs."""
    tried = [result for result in results if result.cells]
    if not tried:
        return "Nothing was measured within the time limit; raise --minutes or take fewer lengths."
    best = max(tried, key=_merit)
    lines = [_praise("Recommended", best, longest)]
    singles = [result for result in tried if not result.name.startswith("split")]
    if best not in singles and singles:
        lines.append(_praise("With one vector per document", max(singles, key=_merit), longest))
    return "\n".join(lines)


def _merit(result: Result) -> tuple[int, float, float]:
    return result.worst_usable, result.mean, result.tokens_per_second


def _praise(what: str, result: Result, longest: int) -> str:
    usable = ", ".join(f"{task} {_length(length)}" for task, length in result.usable.items())
    ends = {cell.task: cell.accuracy for cell in result.cells if cell.length == longest}
    at_end = ", ".join(f"{task} {value:.2f}" for task, value in ends.items())
    text = f"{what}: {result.name}. Usable length: {usable} tokens; mean accuracy@1 {result.mean:.2f}"
    if at_end:
        text += f", at {longest:,} tokens {at_end}"
    if result.dead is not None:
        text += f"; {result.dead['dead_share']:.0%} of the positions cannot change its vector"
    return text + f"; {result.tokens_per_second:,.0f} tokens/s."


def _length(length: int | None) -> str:
    return "none" if length is None else f"{length:,}"


def _words(texts: Sequence[str]) -> int:
    return sum(len(text.split()) for text in texts)
