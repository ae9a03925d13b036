"""What a language model is asked and what it answers.  Only the standard library is imported here.

A model answers each prompt with a :class:`Completion` or with a :class:`~unabridged.errors.ModelError`, in the order
of the prompts.  An error is an object of its own and never a text, so that no digit of a message can be read as an
answer.  Counts are tokens of the model's own tokenizer, times are seconds, log-probabilities are natural.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from unabridged.errors import ModelError, UsageError

Role: TypeAlias = Literal["system", "user", "assistant"]
Finish: TypeAlias = Literal["stop", "length", "filtered"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn.  A prompt whose last turn is the assistant's is continued by models that can (``prefix``)."""

    role: Role
    content: str


Prompt: TypeAlias = Sequence[Message]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How an answer is drawn.  ``temperature`` 0 takes the likeliest token each time and needs no seed."""

    max_tokens: int
    min_tokens: int = 0
    """The answer does not end before it has so many tokens."""
    temperature: float = 0.0
    seed: int | None = None
    """Makes a draw at temperature above 0 repeatable; without one such an answer is never cached."""
    stop: tuple[str, ...] = ()
    """Strings that end the answer; they are not part of it."""
    top_logprobs: int = 0
    """How many log-probabilities of the first position :attr:`Completion.first` should have; 0: none."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or not 0 <= self.min_tokens <= self.max_tokens:
            raise UsageError(
                f"max_tokens={self.max_tokens}, min_tokens={self.min_tokens}: an answer needs at least one token, and "
                "min_tokens lies between 0 and max_tokens."
            )
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature={self.temperature} should be 0 or a positive number.")
        if self.top_logprobs < 0:
            raise UsageError(f"top_logprobs={self.top_logprobs} should be 0 or more.")
        if "" in self.stop:
            raise UsageError("A stop string is empty; every answer would end before it begins.")

    @property
    def repeatable(self) -> bool:
        """Whether the same call may be expected to give the same answer."""
        return self.temperature == 0 or self.seed is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Permutation:
    """The answer is ``most`` of the labels (None: all), each at most once, joined by ``separator``."""

    labels: tuple[str, ...]
    separator: str = " > "
    most: int | None = None

    def __post_init__(self) -> None:
        _check_labels(self.labels)
        if not self.separator:
            raise UsageError('The separator of a permutation is empty. Use a string such as " > ".')
        if self.most is not None and not 1 <= self.most <= len(self.labels):
            raise UsageError(f"most={self.most} of {len(self.labels)} labels; it lies between 1 and their number.")

    @property
    def expected(self) -> int:
        """Labels in an answer."""
        return len(self.labels) if self.most is None else self.most


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The answer is one of the labels and nothing else."""

    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_labels(self.labels)


Constraint: TypeAlias = Permutation | Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call or of several.  A call whose usage is unknown has None in place of this, never zeros."""

    prompt: int
    completion: int
    cached: int = 0
    """Of ``prompt``: read from a prefix cache."""
    reasoning: int = 0
    """Of ``completion``: thought before the answer."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt=self.prompt + other.prompt,
            completion=self.completion + other.completion,
            cached=self.cached + other.cached,
            reasoning=self.reasoning + other.reasoning,
        )

    @property
    def total(self) -> int:
        """Prompt and completion together."""
        return self.prompt + self.completion

    @classmethod
    def zero(cls) -> Usage:
        """The sum of no calls."""
        return cls(prompt=0, completion=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer."""

    text: str
    usage: Usage | None
    """None where the server did not say."""
    finish: Finish
    """``length``: it was cut at ``max_tokens``; ``filtered``: the server withheld the rest."""
    seconds: float
    """From sending to having the answer, waits between attempts included."""
    constrained: bool
    """Whether ``text`` satisfies the constraint by construction; else it is to be parsed."""
    first: Mapping[str, float] | None = None
    """Log-probabilities at the first position, where asked and possible.  With a constraint: of its labels (a local
    model: of every label as a whole; a server: of those labels that it named).  Without: of the likeliest tokens."""
    cached: bool = False
    """Whether it comes from the response cache: no call was made."""
    attempts: int = 1
    """Requests that were sent for it, those that failed included; 0 for an answer from the cache."""


Outcome: TypeAlias = Completion | ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a model can do, as declared or as probed once."""

    constrained: bool
    """Answers satisfy a constraint by construction."""
    structured: bool
    """Answers follow a JSON schema, which a constraint is then sent as."""
    logprobs: int
    """Most log-probabilities at the first position; 0: none."""
    context: int | None
    """Tokens of prompt and answer together; None: unknown."""
    prefix: bool
    """An assistant's message at the end is continued, not answered."""
    exact_tokens: bool = True
    """Whether token counts are the model's own; otherwise they are an estimate, on the high side."""


@runtime_checkable
class LanguageModel(Protocol):
    """Prompts to answers."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def fingerprint(self) -> str:
        """Equal for models that answer alike: weights, template and precision, or server and model name."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can do; a server is probed the first time that something is asked of it."""
        ...

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens of the prompt as the model reads it, its chat template included."""
        ...

    def count_texts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text alone, without any template."""
        ...

    def cut(self, text: str, tokens: int) -> str:
        """The longest beginning of ``text`` of at most ``tokens`` tokens; white space is kept."""
        ...

    def complete(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        constraint: Constraint | None = None,
        cancel: Event | None = None,
    ) -> list[Outcome]:
        """One outcome per prompt, in order.

        Errors that concern every call are raised: :class:`~unabridged.errors.AuthFailed`, and
        :class:`~unabridged.errors.BadRequest` where no prompt could be answered for the same reason.  Once ``cancel``
        is set, the outcomes of the prompts that were not answered are :class:`~unabridged.errors.ModelCancelled`.
        """
        ...


@runtime_checkable
class Streaming(Protocol):
    """Models that hand on an answer while they write it."""

    def stream(self, prompt: Prompt, sampling: Sampling, *, cancel: Event | None = None) -> Iterator[str | Completion]:
        """Pieces of the answer, none empty, and last the :class:`Completion`, whose text is the pieces joined.

        It is the text that :meth:`LanguageModel.complete` gives.  Where there is no whole answer the
        :class:`~unabridged.errors.ModelError` is raised, after those pieces that had come: they are part of an answer
        and nothing more.  Once ``cancel`` is set it is :class:`~unabridged.errors.ModelCancelled`.
        """
        ...


@runtime_checkable
class Likelihood(Protocol):
    """Models that can score a given text: those with local weights."""

    def score(self, prefixes: Sequence[Prompt], continuations: Sequence[str]) -> list[float]:
        """Log-probability of each continuation as the answer to the prompt beside it, summed over its tokens."""
        ...


@runtime_checkable
class Distributions(Protocol):
    """Models whose whole next-token distributions are at hand: those with local weights."""

    def entropies(
        self, prompts: Sequence[Prompt], *, steps: int = 1, cancel: Event | None = None
    ) -> list[tuple[float, ...] | ModelError]:
        """Of each prompt the entropies, in nats, of the next token and of the ``steps - 1`` that greedily follow.

        Fewer where the answer ends before.  An independent number per prompt: batches change it by rounding only.
        """
        ...


def _check_labels(labels: tuple[str, ...]) -> None:
    if not labels or "" in labels or len(set(labels)) != len(labels):
        raise UsageError(f"{len(labels)} labels, of which one is empty or there twice: {labels[:5]}. Labels differ.")
