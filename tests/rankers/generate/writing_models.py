"""A model that writes what a script says: one entry per prompt, or a function of the prompt."""

from unabridged.errors import ModelError
from unabridged.rankers.lm.contracts import Capabilities, Completion, Usage


class Scripted:
    """Tokens are words.  An entry is a text, an error, or a list of pieces whose last one may be an error."""

    def __init__(self, *replies, context=2_000, constrained=False, prefix=False, streams=True):
        self.replies, self.context = list(replies), context
        self.name = self.fingerprint = "scripted"
        self.capabilities = Capabilities(
            constrained=constrained, structured=False, logprobs=0, context=context, prefix=prefix
        )
        self.prompts, self.batches, self.constraints = [], [], []
        if not streams:
            self.stream = None

    def count_tokens(self, prompt):
        return sum(len(message.content.split()) + 2 for message in prompt)

    def count_texts(self, texts):
        return [len(text.split()) for text in texts]

    def cut(self, text, tokens):
        return " ".join(text.split()[:tokens])

    def _reply(self, prompt):
        self.prompts.append(prompt)
        if len(self.replies) == 1 and callable(self.replies[0]):
            return self.replies[0](prompt)
        return self.replies.pop(0)

    def _completion(self, prompt, text):
        usage = Usage(prompt=self.count_tokens(prompt), completion=len(text.split()))
        return Completion(text=text, usage=usage, finish="stop", seconds=0.01, constrained=False)

    def complete(self, prompts, sampling, *, constraint=None, cancel=None):
        self.batches.append(len(prompts))
        self.constraints.append(constraint)
        replies = [self._reply(prompt) for prompt in prompts]
        return [
            one if isinstance(one, ModelError) else self._completion(prompt, one)
            for prompt, one in zip(prompts, replies, strict=True)
        ]

    def stream(self, prompt, sampling, *, cancel=None):
        reply = self._reply(prompt)
        pieces = reply if isinstance(reply, list) else [reply]
        for piece in pieces:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
        yield self._completion(prompt, "".join(pieces))
