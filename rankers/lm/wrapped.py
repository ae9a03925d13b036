"""A model around another one, which it resembles in everything but how it completes."""

from __future__ import annotations

from collections.abc import Sequence

from unabridged.rankers.lm.contracts import Capabilities, LanguageModel, Likelihood, Prompt


class Wrapped:
    """Says of itself what ``model`` says; a subclass completes."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    @property
    def name(self) -> str:
        """The model's."""
        return self.model.name

    @property
    def fingerprint(self) -> str:
        """The model's."""
        return self.model.fingerprint

    @property
    def capabilities(self) -> Capabilities:
        """The model's."""
        return self.model.capabilities

    def count_tokens(self, prompt: Prompt) -> int:
        """The model's count."""
        return self.model.count_tokens(prompt)

    def count_texts(self, texts: Sequence[str]) -> list[int]:
        """The model's counts."""
        return self.model.count_texts(texts)

    def cut(self, text: str, tokens: int) -> str:
        """The model's cut."""
        return self.model.cut(text, tokens)


def likelihood_of(model: LanguageModel) -> Likelihood | None:
    """What scores given texts: ``model`` itself or the one that it wraps; None behind a server."""
    inner = unwrapped(model)
    return inner if isinstance(inner, Likelihood) else None


def unwrapped(model: LanguageModel) -> LanguageModel:
    """The model inside all wrappers."""
    while isinstance(model, Wrapped):
        model = model.model
    return model
