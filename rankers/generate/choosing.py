"""The source that a model names for what it has written, where it can write nothing but one of the numbers."""

from __future__ import annotations

from unabridged.rankers.context.contracts import ContextPack
from unabridged.rankers.generate.attribution import Chooser
from unabridged.rankers.generate.shown import controls_of
from unabridged.rankers.listwise.inert import inert
from unabridged.rankers.listwise.labels import Labels
from unabridged.rankers.lm.contracts import Choice, Completion, LanguageModel, Message, Prompt, Sampling

_NO_NUMBERS = Labels(brackets=False)
"""Citations in the model's own turn are its own."""


def source_chooser(model: LanguageModel, prompt: Prompt, pack: ContextPack) -> Chooser | None:
    """Asks the model to go on behind a sentence with one of the pack's numbers, of which it takes the likeliest.

    None for a model that cannot be made to, or cannot go on with an answer.  With local weights the prompt is known
    already, so that a choice costs a token or two.  What the model wrote may repeat control strings, and is shown to it
    with look-alike characters; the numbers that it named stay.
    """
    able = model.capabilities
    if not (able.constrained and able.prefix) or not pack.sources:
        return None
    labels = {f"[{source.number}]": source.number for source in pack.sources}
    controls = controls_of(model)

    def choose(text: str) -> int | None:
        begun = prompt[-1].content if prompt[-1].role == "assistant" else ""
        turns = prompt[:-1] if prompt[-1].role == "assistant" else prompt
        written = inert(text, _NO_NUMBERS, controls)[0]
        asked = [*turns, Message("assistant", f"{begun}{written} ")]
        [outcome] = model.complete([asked], Sampling(max_tokens=8), constraint=Choice(labels=tuple(labels)))
        return labels.get(outcome.text) if isinstance(outcome, Completion) else None

    return choose
