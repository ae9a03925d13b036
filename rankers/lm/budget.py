"""What calls cost, and where they stop: calls, tokens and money, with the seconds that answers took.

Prices are the user's: there is no table in here that could be out of date.  What is unknown stays unknown: a call
without reported usage makes the sum of tokens a lower bound and the cost None, never smaller.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Event

from unabridged.errors import LimitReached, UsageError
from unabridged.rankers.lm.contracts import Completion, Constraint, LanguageModel, Outcome, Prompt, Sampling, Usage
from unabridged.rankers.lm.wrapped import Wrapped

MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Most that may be used; None: no limit."""

    max_calls: int | None = None
    max_tokens: int | None = None
    """Of prompts and answers together."""
    max_cost: float | None = None
    """In the currency of the prices."""

    def __post_init__(self) -> None:
        for name in ("max_calls", "max_tokens", "max_cost"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UsageError(f"{name}={value} should be 0 or a positive number.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Per million tokens, in any one currency."""

    prompt: float
    completion: float
    cached: float | None = None
    """For prompt tokens read from a prefix cache; None: as any other."""

    def cost(self, usage: Usage) -> float:
        """What the tokens cost."""
        cached = self.prompt if self.cached is None else self.cached
        fresh = usage.prompt - usage.cached
        return (fresh * self.prompt + usage.cached * cached + usage.completion * self.completion) / MILLION


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What was used so far.  Answers from the response cache are counted apart: they cost nothing."""

    calls: int = 0
    """Prompts that were sent and came to an end, in an answer or an error."""
    attempts: int = 0
    """Requests behind the answers, repeated ones included."""
    failures: int = 0
    from_cache: int = 0
    usage: Usage
    """Reported tokens; a lower bound if ``unknown_usage`` is not 0."""
    unknown_usage: int = 0
    """Answers whose tokens the server did not report."""
    cost: float | None = None
    """None: without prices, or with unknown usage."""
    p50: float | None = None
    """Seconds per answer, median; None without answers."""
    p95: float | None = None


class MeteredModel(Wrapped):
    """``model`` within ``limits``.  A prompt that could go over one is not sent: it gets :class:`LimitReached`.

    Before sending, a prompt reserves its tokens and ``max_tokens`` of answer; what it did not use is given back.  A
    response cache belongs around this, so that what it holds costs nothing.
    """

    def __init__(self, model: LanguageModel, *, limits: Limits | None = None, prices: Prices | None = None) -> None:
        super().__init__(model)
        self.limits = limits or Limits()
        self.prices = prices
        if self.limits.max_cost is not None and prices is None:
            raise UsageError("max_cost needs prices: without them what a call costs is unknown.")
        self._lock = threading.Lock()
        self._account = Account(usage=Usage.zero())
        self._charged = Usage.zero()
        """Reported tokens, and for calls that are on their way or did not report any, what they reserved."""
        self._pending = 0
        self._seconds: list[float] = []

    @property
    def account(self) -> Account:
        """What was used so far."""
        with self._lock:
            known = self._account.unknown_usage == 0
            return replace(
                self._account,
                cost=self.prices.cost(self._account.usage) if self.prices is not None and known else None,
                p50=percentile(self._seconds, 50),
                p95=percentile(self._seconds, 95),
            )

    def complete(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        constraint: Constraint | None = None,
        cancel: Event | None = None,
    ) -> list[Outcome]:
        """One outcome per prompt; those that the limits do not allow are :class:`LimitReached`, in order."""
        asked = [Usage(prompt=self.count_tokens(prompt), completion=sampling.max_tokens) for prompt in prompts]
        outcomes: list[Outcome | None] = [self._reserve(tokens) for tokens in asked]
        rows = [row for row, outcome in enumerate(outcomes) if outcome is None]
        settled = 0
        try:
            found = (
                self.model.complete([prompts[row] for row in rows], sampling, constraint=constraint, cancel=cancel)
                if rows
                else []
            )
            for row, outcome in zip(rows, found, strict=True):
                outcomes[row] = outcome
                self._settle(asked[row], outcome)
                settled += 1
        finally:
            for row in rows[settled:]:
                self._settle(asked[row], None)
        return [outcome for outcome in outcomes if outcome is not None]

    def _reserve(self, tokens: Usage) -> LimitReached | None:
        with self._lock:
            after = self._charged + tokens
            limits = self.limits
            cost = 0.0 if self.prices is None else self.prices.cost(after)
            for name, used, limit in (
                ("max_calls", self._account.calls + self._pending + 1, limits.max_calls),
                ("max_tokens", after.total, limits.max_tokens),
                ("max_cost", cost, limits.max_cost),
            ):
                if limit is not None and used > limit:
                    return LimitReached(
                        f"{name}={limit:g} would be passed: this call could bring it to {used:g}. Raise the limit to "
                        "go on; what was answered is kept."
                    )
            self._charged = after
            self._pending += 1
            return None

    def _settle(self, reserved: Usage, outcome: Outcome | None) -> None:
        """Counts an outcome; None is a call that raised."""
        with self._lock:
            self._pending -= 1
            seen = self._account
            if not isinstance(outcome, Completion):
                self._charged = _less(self._charged, reserved)
                self._account = replace(seen, calls=seen.calls + 1, failures=seen.failures + 1)
                return
            if outcome.cached:
                self._charged = _less(self._charged, reserved)
                self._account = replace(seen, from_cache=seen.from_cache + 1)
                return
            if outcome.usage is not None:
                self._charged = _less(self._charged, reserved) + outcome.usage
            self._seconds.append(outcome.seconds)
            self._account = replace(
                seen,
                calls=seen.calls + 1,
                attempts=seen.attempts + outcome.attempts,
                usage=seen.usage + (outcome.usage or Usage.zero()),
                unknown_usage=seen.unknown_usage + (outcome.usage is None),
            )


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest of ``values`` that ``percent`` of them do not exceed; None of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else None


def _less(one: Usage, other: Usage) -> Usage:
    return Usage(
        prompt=one.prompt - other.prompt,
        completion=one.completion - other.completion,
        cached=one.cached - other.cached,
        reasoning=one.reasoning - other.reasoning,
    )
