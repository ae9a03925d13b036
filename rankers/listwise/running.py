"""One query through one plan: groups are asked for, answers read, and what goes wrong is mended and recorded.

A group without an id in its answer is asked for once more, held to its ids where the model can; then it keeps the order
that it had.  A prompt that is too long is shown shorter, down to a floor, then in windows.  A server that is gone ends
the asking: the plan runs to its end with the order so far.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from unabridged.errors import BadRequest, ContentFiltered, ContextOverflow, MalformedResponse
from unabridged.rankers.contracts import KEPT, SHRUNK, UNREAD, Exposure, Ranking, Request, Spent, Status, Step
from unabridged.rankers.listwise.asking import Call, Settings, call_for
from unabridged.rankers.listwise.fitting import Fitter, Piece, level, lowered
from unabridged.rankers.listwise.parsing import Parsed, ParseReport, parse
from unabridged.rankers.listwise.plans import Ask, Order, Round, Strategy
from unabridged.rankers.listwise.sliding import slide
from unabridged.rankers.listwise.templates import Shown
from unabridged.rankers.lm.contracts import Completion, LanguageModel, Outcome, Prompt

SHRINKS = 6
"""Times that a prompt is shown shorter because the model refuses it, before its group is split."""
STEP_TEXT = 300
"""Characters of an error's message in a report."""


@dataclass(slots=True)
class _Open:
    """A group that has no order yet."""

    ask: Ask
    tries: int = 0
    shrinks: int = 0


class Running:
    """The state of one query.  ``halted`` says whether to stop asking; ``send`` is the model's ``complete``."""

    def __init__(
        self,
        model: LanguageModel,
        settings: Settings,
        request: Request,
        *,
        send: Callable[[Sequence[Prompt], Call], list[Outcome]],
        halted: Callable[[], bool],
    ) -> None:
        self._model = model
        self._settings = settings
        self._request = request
        self._send = send
        self._halted = halted
        self._fitter = Fitter(
            model=model, labels=settings.template.labels, selector=settings.selector, controls=settings.controls
        )
        self._totals = self._fitter.totals(request.candidates)
        self._limit = settings.passage_tokens
        self._pieces: dict[tuple[int, int | None], Piece] = {}
        self._exposed: dict[int, Exposure] = {}
        self._flags: dict[int, set[str]] = {place: set() for place in range(len(request.candidates))}
        self._steps: list[Step] = []
        self._groups: list[Status] = []
        self._spent = Spent()
        self._round = 0
        self._stopped = False
        self._was_split = False

    def rank(self, strategy: Strategy) -> Ranking:
        """The ranking that ``strategy`` comes to; always a permutation, whatever the model does."""
        count = len(self._request.candidates)
        width = strategy.width(count)
        if width:
            self._limit = self._planned(width)
        plan = strategy.plan(count)
        order, status = self._driven(plan), self._status()
        return Ranking(
            # Plans may move items without an answer: a heap does, and the groups of a tournament.
            tuple(range(count)) if status in (Status.UNRANKED, Status.FAILED) else order,
            status,
            exposures=tuple(self._exposure(place) for place in range(count)),
            steps=tuple(self._steps),
            spent=self._spent,
        )

    def _driven(self, plan: Generator[Round, Sequence[Order], Order]) -> Order:
        answers: list[Order] | None = None
        while True:
            try:
                asks = next(plan) if answers is None else plan.send(answers)
            except StopIteration as done:
                order: Order = done.value
                return order
            self._round += 1
            answers = self._answers(asks)

    def _answers(self, asks: Round) -> list[Order]:
        """The order of each group of a round."""
        found: dict[int, Order] = {}
        waiting = {number: _Open(ask) for number, ask in enumerate(asks)}
        while waiting:
            if not self._stopped and self._halted():
                self._stop(tuple(one for state in waiting.values() for one in state.ask.items), "cancelled")
            if self._stopped:
                found |= {number: self._kept(state.ask) for number, state in waiting.items()}
                break
            calls = {number: self._prepared(state) for number, state in waiting.items()}
            for number in [number for number, call in calls.items() if call is None]:
                found[number] = self._split(waiting.pop(number).ask)
            ready = [(number, call) for number, call in calls.items() if call is not None]
            for number, outcome, call in self._sent(ready):
                order = self._settled(waiting[number], call, outcome)
                if order is not None:
                    found[number] = order
                    del waiting[number]
        return [found[number] for number in range(len(asks))]

    # What is shown.

    def _planned(self, width: int) -> int | None:
        """The most tokens of a candidate with which any group of ``width`` fits; None: all fit whole."""
        context = self._model.capabilities.context
        limit = self._settings.passage_tokens
        if context is None:
            return limit
        empty = [Shown("", one.score) for one in self._request.candidates[:width]]
        frame = call_for(self._model, self._settings, self._request.query, empty, most=None)
        room = context - frame.sampling.max_tokens - self._model.count_tokens(frame.prompt)
        totals = sorted((total if limit is None else min(total, limit) for total in self._totals), reverse=True)
        fitting = level(totals[:width], room)
        if fitting >= totals[0]:
            return limit
        return max(self._settings.floor, fitting)

    def _piece(self, place: int) -> Piece:
        key = (place, self._limit)
        if key not in self._pieces:
            candidate = self._request.candidates[place]
            self._pieces[key] = self._fitter.piece(self._request.query, candidate, self._totals[place], self._limit)
        return self._pieces[key]

    def _prepared(self, state: _Open) -> Call | None:
        """The call for a group, shown short enough for the model's context; None: it is to be split."""
        while True:
            call = self._call(state)
            context = self._model.capabilities.context
            if state.shrinks > SHRINKS:
                return None
            if context is None:
                return call
            over = self._model.count_tokens(call.prompt) + call.sampling.max_tokens - context
            if over <= 0:
                return call
            if not self._shrink(state.ask, over):
                return None

    def _call(self, state: _Open) -> Call:
        shown = [Shown(self._piece(place).text, self._request.candidates[place].score) for place in state.ask.items]
        return call_for(
            self._model, self._settings, self._request.query, shown, most=state.ask.most, again=state.tries > 0
        )

    def _shrink(self, ask: Ask, over: int) -> bool:
        """Lowers the limit so that the group loses ``over`` tokens; False where that would be below the floor."""
        limit = lowered([self._piece(place).tokens for place in ask.items], over)
        if limit < self._settings.floor:
            return False
        self._limit = limit
        return True

    def _split(self, ask: Ask) -> Order:
        """The group in windows of half its size, or as it was where a pair does not fit."""
        size = len(ask.items)
        if size < 3:
            reason = "two candidates do not fit the context, however short they are shown"
            self._note(ask, "first-stage", reason)
            if not self._exposed:
                # Nothing fitted yet: every other pair would be refused as often.
                self._stop(ask.items, reason)
            self._groups.append(Status.FAILED)
            self._flag(ask.items, KEPT)
            return ask.kept
        window = max(2, (size + 1) // 2)
        self._note(ask, "split", f"{size} candidates do not fit the context: windows of {window}")
        self._was_split = True
        return self._driven(slide(ask.items, window, max(1, window // 2)))

    # What is answered.

    def _sent(self, ready: Sequence[tuple[int, Call]]) -> list[tuple[int, Outcome, Call]]:
        """The outcome of each call; calls that differ only in their prompts are one batch, batches run side by side."""
        batches: dict[object, list[tuple[int, Call]]] = {}
        for number, call in ready:
            batches.setdefault((call.sampling, call.constraint), []).append((number, call))
        groups = list(batches.values())

        def send(group: list[tuple[int, Call]]) -> list[Outcome]:
            return self._send([call.prompt for _, call in group], group[0][1])

        if len(groups) < 2:
            answered = [send(group) for group in groups]
        else:
            with ThreadPoolExecutor(len(groups)) as pool:
                answered = list(pool.map(send, groups))
        return [
            (number, outcome, call)
            for group, outcomes in zip(groups, answered, strict=True)
            for (number, call), outcome in zip(group, outcomes, strict=True)
        ]

    def _settled(self, state: _Open, call: Call, outcome: Outcome) -> Order | None:
        """The group's order; None where it is to be asked for again."""
        self._spent += Spent.of(outcome)
        ask = state.ask
        if not isinstance(outcome, Completion):
            return self._failed(state, outcome)
        self._seen(ask.items)
        read = _read(call, outcome)
        if read.report.n_valid == 0:
            if outcome.finish == "filtered":
                return self._first_stage(ask, "filtered", "the server withheld the answer", Status.UNRANKED)
            return self._again(state, "the answer has no id of the group", Status.UNRANKED)
        self._judged(state, read.report, read.order)
        return tuple(ask.items[place] for place in read.order)

    def _judged(self, state: _Open, report: ParseReport, order: Sequence[int]) -> None:
        """Records how whole an answer was."""
        ask = state.ask
        said = f"{report.kind}: {report.n_valid} of {ask.expected} ids"
        if report.n_valid < self._settings.enough * ask.expected:
            self._groups.append(Status.PARTIAL)
            self._note(ask, "partial", said)
            self._flag([ask.items[place] for place in order[report.n_valid :]], KEPT)
        elif report.repaired or state.tries:
            self._groups.append(Status.REPAIRED)
            self._note(ask, "repaired", said)
        else:
            self._groups.append(Status.OK)

    def _failed(self, state: _Open, error: Exception) -> Order | None:
        ask = state.ask
        if isinstance(error, ContextOverflow):
            sizes = sum(self._piece(place).tokens for place in ask.items)
            known = error.limit is not None and error.got is not None and error.got > error.limit
            over = (error.got or 0) - (error.limit or 0) if known else max(1, sizes // 8)
            state.shrinks = state.shrinks + 1 if self._shrink(ask, over) else SHRINKS + 1
            self._flag(ask.items, SHRUNK)
            self._note(ask, "shrink", f"{_brief(error)}; at most {self._limit} tokens of a candidate are shown")
            return None
        if isinstance(error, (ContentFiltered, BadRequest)):
            action = "filtered" if isinstance(error, ContentFiltered) else "first-stage"
            return self._first_stage(ask, action, _brief(error), Status.FAILED)
        if isinstance(error, MalformedResponse):
            return self._again(state, _brief(error), Status.FAILED)
        self._stop(ask.items, _brief(error))
        return self._kept(ask)

    def _again(self, state: _Open, reason: str, otherwise: Status) -> Order | None:
        if state.tries < self._settings.retries:
            state.tries += 1
            self._note(state.ask, "retry", reason)
            return None
        return self._first_stage(state.ask, "first-stage", reason, otherwise)

    def _first_stage(self, ask: Ask, action: str, reason: str, status: Status) -> Order:
        self._note(ask, action, reason)
        self._groups.append(status)
        self._flag(ask.items, KEPT)
        return ask.kept

    def _stop(self, items: Sequence[int], reason: str) -> None:
        """No further call is made."""
        if not self._stopped:
            self._steps.append(Step(self._round, tuple(items), "stopped", reason))
        self._stopped = True

    def _kept(self, ask: Ask) -> Order:
        self._groups.append(Status.FAILED)
        self._flag(ask.items, KEPT)
        return ask.kept

    # What is recorded.

    def _note(self, ask: Ask, action: str, reason: str) -> None:
        self._steps.append(Step(self._round, ask.items, action, reason))

    def _flag(self, items: Sequence[int], flag: str) -> None:
        for place in items:
            self._flags[place].add(flag)

    def _seen(self, items: Sequence[int]) -> None:
        for place in items:
            piece, before = self._piece(place), self._exposed.get(place)
            if before is None or piece.tokens > before.shown:
                prompts = 0 if before is None else before.prompts
                before = Exposure(self._totals[place], piece.tokens, piece.spans, prompts, piece.flags)
            self._exposed[place] = replace(before, prompts=before.prompts + 1)

    def _exposure(self, place: int) -> Exposure:
        seen = self._exposed.get(place) or Exposure(self._totals[place], 0, (), 0, (UNREAD,))
        return replace(seen, flags=(*seen.flags, *sorted(self._flags[place] - set(seen.flags))))

    def _status(self) -> Status:
        groups = set(self._groups)
        if groups <= {Status.OK} and not self._was_split:
            return Status.OK
        if groups <= {Status.OK, Status.REPAIRED}:
            return Status.REPAIRED
        if groups & {Status.OK, Status.REPAIRED, Status.PARTIAL}:
            return Status.PARTIAL
        return Status.UNRANKED if Status.UNRANKED in groups else Status.FAILED


def _read(call: Call, outcome: Completion) -> Parsed:
    """The places that an answer names, best first."""
    if call.names is not None:
        return _by_logprobs(call.names, outcome)
    form = call.template.form
    return parse(outcome.text, call.count, form=form, expected=call.expected, cut=outcome.finish == "length")


def _by_logprobs(names: Sequence[str], outcome: Completion) -> Parsed:
    """The order of the ids' log-probabilities; ids without one follow as they were shown, and are missing."""
    first = {name: value for name, value in (outcome.first or {}).items() if not math.isnan(value)}
    known = [place for place, name in enumerate(names) if name in first]
    missing = [place for place, name in enumerate(names) if name not in first]
    report = ParseReport(
        n_valid=len(known),
        n_missing=len(missing),
        n_dup=0,
        n_out_of_range=0,
        kind="wrong_format" if not known else "missing" if missing else "ok",
        form="alone" if known else "none",
    )
    return Parsed((*sorted(known, key=lambda place: -first[names[place]]), *missing), report)


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:STEP_TEXT]}"
