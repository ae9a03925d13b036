"""What a ranking will cost, before it is paid for: prompts are counted and not sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unabridged.rankers.listwise.asking import Call
from unabridged.rankers.lm.contracts import Completion, LanguageModel, Outcome, Prompt, Usage


def counting(model: LanguageModel) -> Callable[[Sequence[Prompt], Call], list[Outcome]]:
    """What stands in for ``model.complete``: answers that keep the order, with the tokens that they would take."""

    def send(prompts: Sequence[Prompt], call: Call) -> list[Outcome]:
        text = call.template.answer(range(call.expected))
        first = None if call.names is None else {name: -float(place) for place, name in enumerate(call.names)}
        tokens = model.count_texts([text])[0] if first is None else 1
        return [
            Completion(
                text=text,
                usage=Usage(prompt=model.count_tokens(prompt), completion=tokens),
                finish="stop",
                seconds=0.0,
                constrained=call.constraint is not None,
                first=first,
            )
            for prompt in prompts
        ]

    return send
