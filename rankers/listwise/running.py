"""One query through one plan: groups are asked for, answers read, and what goes wrong is mended and recorded.

A group without an id in its answer is asked for once more, held to its ids where the model can; then it keeps the order
that it had.  A prompt that is too long is shown shorter, down to a floor, then in windows.  A server that is gone ends
the asking: the plan runs to its end with the order so far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from unabridged.errors import BadRequest, ContentFiltered, ContextOverflow, MalformedResponse
from unabridged.rankers.contracts import KEPT, SHRUNK, Ranking, Request, Spent, Status
from unabridged.rankers.listwise.asking import Call, Settings, call_for
from unabridged.rankers.listwise.fitting import Fitter, Piece, level, lowered
from unabridged.rankers.listwise.parsing import Parsed
from unabridged.rankers.listwise.plans import Ask, Order, Plan, Round, Strategy
from unabridged.rankers.listwise.reading import read
from unabridged.rankers.listwise.record import Record
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
    shown: Sequence[Piece] = ()
    """What stands in the prompt that was built last."""


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
        self._record = Record(self._totals)
        self._stopped = False

    def rank(self, strategy: Strategy) -> Ranking:
        """The ranking that ``strategy`` comes to; always a permutation, whatever the model does."""
        count = len(self._request.candidates)
        width = strategy.width(count)
        if width:
            self._limit = self._planned(width)
        order = self._driven(strategy.plan(count))
        status = self._record.status()
        return Ranking(
            # Plans may move items without an answer: a heap does, and the groups of a tournament.
            tuple(range(count)) if status in (Status.UNRANKED, Status.FAILED) else order,
            status,
            exposures=self._record.exposures(),
            steps=tuple(self._record.steps),
            spent=self._record.spent,
        )

    def _driven(self, plan: Plan) -> Order:
        answers: list[Order] | None = None
        while True:
            try:
                asks = next(plan) if answers is None else plan.send(answers)
            except StopIteration as done:
                order: Order = done.value
                return order
            self._record.round += 1
            answers = self._answers(asks)

    def _answers(self, asks: Round) -> list[Order]:
        """The order of each group of a round."""
        found: dict[int, Order] = {}
        waiting = {number: _Open(ask) for number, ask in enumerate(asks)}
        while waiting:
            if self._halted():
                self._stop([one for state in waiting.values() for one in state.ask.items], "cancelled")
            if self._stopped:
                found |= {number: self._record.kept(state.ask, Status.FAILED) for number, state in waiting.items()}
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
        return limit if fitting >= totals[0] else max(self._settings.floor, fitting)

    def _piece(self, place: int) -> Piece:
        key = (place, self._limit)
        if key not in self._pieces:
            candidate = self._request.candidates[place]
            self._pieces[key] = self._fitter.piece(self._request.query, candidate, self._totals[place], self._limit)
        return self._pieces[key]

    def _prepared(self, state: _Open) -> Call | None:
        """The call for a group, shown short enough for the model's context; None: it is to be split."""
        context = self._model.capabilities.context
        while state.shrinks <= SHRINKS:
            call = self._call(state)
            over = 0 if context is None else self._model.count_tokens(call.prompt) + call.sampling.max_tokens - context
            if over <= 0:
                return call
            if not self._shrink(state, over):
                return None
        return None

    def _call(self, state: _Open) -> Call:
        state.shown = [self._piece(place) for place in state.ask.items]
        shown = [
            Shown(piece.text, self._request.candidates[place].score)
            for place, piece in zip(state.ask.items, state.shown, strict=True)
        ]
        again = state.tries > 0
        return call_for(self._model, self._settings, self._request.query, shown, most=state.ask.most, again=again)

    def _shrink(self, state: _Open, over: int) -> bool:
        """Lowers the limit so that the group loses ``over`` tokens; False where that would be below the floor."""
        limit = lowered([piece.tokens for piece in state.shown], over)
        if limit < self._settings.floor:
            return False
        # Another group of the round may have lowered it further already.
        self._limit = limit if self._limit is None else min(self._limit, limit)
        return True

    def _split(self, ask: Ask) -> Order:
        """The group in windows of half its size, or as it was where a pair does not fit."""
        size = len(ask.items)
        if size < 3:
            reason = "two candidates do not fit the context, however short they are shown"
            self._record.step(ask.items, "first-stage", reason)
            if not self._record.anything_read:
                # Nothing fitted yet: every other pair would be refused as often.
                self._stop(ask.items, reason)
            return self._record.kept(ask, Status.FAILED)
        window = max(2, (size + 1) // 2)
        self._record.step(ask.items, "split", f"{size} candidates do not fit the context: windows of {window}")
        self._record.group(Status.REPAIRED)
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
        self._record.spent += Spent.of(outcome)
        ask = state.ask
        if not isinstance(outcome, Completion):
            return self._failed(state, outcome)
        self._record.read(ask.items, state.shown)
        parsed = read(call, outcome)
        if parsed.report.n_valid == 0:
            if outcome.finish == "filtered":
                return self._first_stage(ask, "filtered", "the server withheld the answer", Status.UNRANKED)
            return self._again(state, "the answer has no id of the group", Status.UNRANKED)
        self._judged(state, parsed, filtered=outcome.finish == "filtered")
        return tuple(ask.items[place] for place in parsed.order)

    def _judged(self, state: _Open, parsed: Parsed, *, filtered: bool) -> None:
        """Records how whole an answer was; ``filtered``: the server withheld the rest of it."""
        ask, report = state.ask, parsed.report
        said = f"{report.kind}: {report.n_valid} of {ask.expected} ids"
        if filtered:
            # What was withheld may have taken back what was said.
            self._record.step(ask.items, "filtered", f"the server withheld the rest of the answer; {said}")
        if report.n_valid < self._settings.enough * ask.expected:
            self._record.group(Status.PARTIAL)
            self._record.step(ask.items, "partial", said)
            self._record.flag([ask.items[place] for place in parsed.order[report.n_valid :]], KEPT)
        elif report.repaired or state.tries or filtered:
            self._record.group(Status.REPAIRED)
            if report.repaired or state.tries:
                self._record.step(ask.items, "repaired", said)
        else:
            self._record.group(Status.OK)

    def _failed(self, state: _Open, error: Exception) -> Order | None:
        ask, said = state.ask, f"{type(error).__name__}: {str(error)[:STEP_TEXT]}"
        if isinstance(error, ContextOverflow):
            known = error.limit is not None and error.got is not None and error.got > error.limit
            tokens = sum(piece.tokens for piece in state.shown)
            over = (error.got or 0) - (error.limit or 0) if known else max(1, tokens // 8)
            state.shrinks = state.shrinks + 1 if self._shrink(state, over) else SHRINKS + 1
            self._record.flag(ask.items, SHRUNK)
            self._record.step(ask.items, "shrink", f"{said}; at most {self._limit} tokens of a candidate are shown")
            return None
        if isinstance(error, ContentFiltered):
            return self._first_stage(ask, "filtered", said, Status.FAILED)
        if isinstance(error, BadRequest):
            return self._first_stage(ask, "first-stage", said, Status.FAILED)
        if isinstance(error, MalformedResponse):
            return self._again(state, said, Status.FAILED)
        self._stop(ask.items, said)
        return self._record.kept(ask, Status.FAILED)

    def _again(self, state: _Open, reason: str, otherwise: Status) -> Order | None:
        if state.tries < self._settings.retries:
            state.tries += 1
            self._record.step(state.ask.items, "retry", reason)
            return None
        return self._first_stage(state.ask, "first-stage", reason, otherwise)

    def _first_stage(self, ask: Ask, action: str, reason: str, status: Status) -> Order:
        self._record.step(ask.items, action, reason)
        return self._record.kept(ask, status)

    def _stop(self, items: Sequence[int], reason: str) -> None:
        """No further call is made."""
        if not self._stopped:
            self._record.step(items, "stopped", reason)
        self._stopped = True
