"""The listwise ranker: requests to rankings through a language model and a strategy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock

from unabridged.errors import UsageError
from unabridged.rankers.contracts import Ranking, Request, Spent
from unabridged.rankers.listwise.asking import Call, Settings
from unabridged.rankers.listwise.dry import counting
from unabridged.rankers.listwise.plans import Strategy
from unabridged.rankers.listwise.running import Running
from unabridged.rankers.listwise.sliding import Full
from unabridged.rankers.lm.contracts import LanguageModel, Outcome, Prompt

Finished = Callable[[int, Ranking], None]
"""Is told the number of a request and its ranking as soon as it is there; one call at a time."""


class ListwiseRanker:
    """Orders candidates by showing a model many of them at once.

    Queries run side by side, the rounds of one query one after the other, the groups of a round together.  The result
    is always a permutation; its status, its steps and what was shown of each candidate say how it was come by.  By
    default the whole list is one prompt (Full: see :class:`~unabridged.rankers.listwise.sliding.Full`).
    """

    def __init__(
        self, model: LanguageModel, strategy: Strategy | None = None, settings: Settings | None = None
    ) -> None:
        """:class:`UsageError` where the model cannot do what ``settings`` ask for."""
        self.model = model
        self.strategy: Strategy = strategy or Full()
        self.settings = settings or Settings()
        if self.settings.first_token and model.capabilities.logprobs < 1:
            raise UsageError(
                f"{model.name} gives no log-probabilities, which first_token needs. Leave first_token out, or use a "
                "local model."
            )

    @property
    def label(self) -> str:
        """The model and the strategy, as in ``smollm2:sliding:20:10``."""
        return f"{self.model.name}:{self.strategy.label}"

    def rank(
        self, requests: Sequence[Request], *, cancel: Event | None = None, finished: Finished | None = None
    ) -> list[Ranking]:
        """One ranking per request, in the order of the requests, whichever is done first.

        What goes wrong in a call is in the ranking.  Only what concerns every call is raised, after the queries that
        are under way have stopped: :class:`~unabridged.errors.AuthFailed` and :class:`~unabridged.errors.BadRequest`
        of the model, :class:`UsageError` where the template has fewer ids than a group has candidates.
        """
        self._check(requests)
        halt, turn = Event(), Lock()

        def halted() -> bool:
            return halt.is_set() or (cancel is not None and cancel.is_set())

        def send(prompts: Sequence[Prompt], call: Call) -> list[Outcome]:
            return self.model.complete(
                prompts, call.sampling, constraint=call.constraint, cancel=halt if cancel is None else cancel
            )

        def one(number: int) -> Ranking:
            ranking = Running(self.model, self.settings, requests[number], send=send, halted=halted).rank(self.strategy)
            if finished is not None:
                with turn:
                    finished(number, ranking)
            return ranking

        with ThreadPoolExecutor(max(1, min(self.settings.workers, len(requests)))) as pool:
            waiting = [pool.submit(one, number) for number in range(len(requests))]
            try:
                return [future.result() for future in waiting]
            except BaseException:
                halt.set()
                for future in waiting:
                    future.cancel()
                raise

    def estimate(self, requests: Sequence[Request]) -> Spent:
        """What ranking ``requests`` takes: every prompt is built and counted as it would be, and none is sent.

        Exact where the plan does not depend on the answers and each answer is as long as it is asked to be; for the
        others it is what they cost if the first-stage order is right.  Thoughts are not counted.
        """
        self._check(requests)
        total = Spent()
        send = counting(self.model)
        for request in requests:
            total += Running(self.model, self.settings, request, send=send, halted=_never).rank(self.strategy).spent
        return total

    def _check(self, requests: Sequence[Request]) -> None:
        able = self.model.capabilities
        for size in {len(request.candidates) for request in requests}:
            width = self.strategy.width(size)
            self.settings.template.labels.check(width)
            if self.settings.first_token and not able.constrained and width > able.logprobs:
                raise UsageError(
                    f"{self.model.name} gives {able.logprobs} log-probabilities a position; groups have {width} "
                    f"candidates. Use windows of at most {able.logprobs}."
                )


def _never() -> bool:
    return False
