"""Judges for plans: perfect, noisy and hostile; and a language model whose answers a test writes."""

import random
import re
import threading
from collections.abc import Callable

from unabridged.errors import ModelCancelled
from unabridged.rankers.contracts import Candidate, Request
from unabridged.rankers.listwise.plans import Ask
from unabridged.rankers.lm.contracts import Capabilities, Completion, Message, Sampling, Usage


def oracle(worth: list[float]) -> Callable[[Ask], tuple[int, ...]]:
    """Orders each group by worth, highest first."""
    return lambda ask: tuple(sorted(ask.items, key=lambda one: -worth[one]))


def noisy(worth: list[float], sigma: float, seed: int) -> Callable[[Ask], tuple[int, ...]]:
    """Orders by worth with Gaussian noise that is drawn anew for each group."""
    rng = random.Random(seed)
    return lambda ask: tuple(sorted(ask.items, key=lambda one: -(worth[one] + rng.gauss(0, sigma))))


def hostile(seed: int) -> Callable[[Ask], tuple[int, ...]]:
    """Any permutation."""
    rng = random.Random(seed)
    return lambda ask: tuple(rng.sample(ask.items, len(ask.items)))


def reversing(ask: Ask) -> tuple[int, ...]:
    """Always the last first."""
    return ask.items[::-1]


class ScriptedModel:
    """A language model whose answers a test writes: ``answer(prompt, sampling, constraint)`` gives text or an error.

    Tokens are words.  With ``constrained`` every answer is counted as held to its constraint by construction.
    """

    def __init__(self, answer, *, context=None, constrained=False, structured=False, logprobs=0, prefix=False):
        self.answer = answer
        self.able = Capabilities(
            constrained=constrained, structured=structured, logprobs=logprobs, context=context, prefix=prefix
        )
        self.calls: list[tuple[tuple[Message, ...], Sampling, object]] = []
        self.lock = threading.Lock()

    name = "scripted"
    fingerprint = "scripted"

    @property
    def capabilities(self):
        return self.able

    def count_texts(self, texts):
        return [len(text.split()) for text in texts]

    def count_tokens(self, prompt):
        return sum(3 + len(message.content.split()) for message in prompt)

    def cut(self, text, tokens):
        ends = [match.end() for match in re.finditer(r"\S+", text)]
        return text if len(ends) <= tokens else text[: ends[tokens - 1]] if tokens else ""

    def complete(self, prompts, sampling, *, constraint=None, cancel=None):
        return [self.one(tuple(prompt), sampling, constraint, cancel) for prompt in prompts]

    def one(self, prompt, sampling, constraint, cancel):
        with self.lock:
            self.calls.append((prompt, sampling, constraint))
        if cancel is not None and cancel.is_set():
            return ModelCancelled("cancelled")
        told = self.answer(prompt, sampling, constraint)
        if isinstance(told, Exception | Completion):
            return told
        usage = Usage(prompt=self.count_tokens(prompt), completion=len(told.split()))
        return Completion(text=told, usage=usage, finish="stop", seconds=0.01, constrained=constraint is not None)


def body(prompt) -> str:
    return "\n".join(message.content for message in prompt)


def worths(prompt) -> dict[str, int]:
    """Id to worth of the candidates in a prompt, whose texts hold ``worth <number>``."""
    found = re.findall(r"(?:\[(\w+)\]|Passage (\w+):)[^\[]*?worth (\d+)", body(prompt))
    return {one or other: int(number) for one, other, number in found}


def sorting(prompt, sampling, constraint) -> str:
    """The perfect judge: reads the prompt and orders it."""
    values = worths(prompt)
    order = sorted(values, key=lambda one: -values[one])
    best = re.search(r"ids of the best (\d+)", body(prompt))
    order = order[: int(best.group(1)) if best else 1]
    return order[0] if "Passage A:" in body(prompt) else " > ".join(f"[{one}]" for one in order)


def request_of(values, *, query="the best", words=0, name="q") -> Request:
    filler = " ".join(["filler"] * words)
    texts = [f"worth {value} {filler}".strip() for value in values]
    return Request(query, tuple(Candidate(f"d{place}", text) for place, text in enumerate(texts)), name)
