"""Learning to tell documents apart by how well the query follows from each: the score of query likelihood, tuned.

A list is its candidates, each in a prompt of its own that ends in the query; the sums of the log-probabilities of the
query's tokens are compared by RankNet.  What ranks is :class:`~unabridged.rankers.pointwise.QueryLikelihoodRanker`.

Letters::

    N candidates     T tokens of the longest prompt with the query     Q tokens of the query     V vocabulary
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unabridged.errors import Overflow
from unabridged.rankers.contracts import Request
from unabridged.rankers.listwise.fitting import Fitter
from unabridged.rankers.listwise.labels import Labels
from unabridged.rankers.listwise.templates import Shown, render
from unabridged.rankers.pointwise import ASKED
from unabridged.training.fullrank.examples import Learner
from unabridged.training.fullrank.losses import rank_net
from unabridged.training.fullrank.tuned import TunedTask

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Group:
    """One list to learn."""

    prompts: tuple[tuple[int, ...], ...]  # N
    query: tuple[int, ...]  # (Q,)
    ranks: tuple[int, ...]  # (N,)
    """From 1, the best."""
    shown: tuple[tuple[int, int], ...]
    """Tokens shown and tokens there were, of each candidate."""

    def __len__(self) -> int:
        return sum(len(prompt) + len(self.query) for prompt in self.prompts)


def make_group(
    local: Learner, request: Request, order: Sequence[int], *, passage_tokens: int | None, context: int | None = None
) -> Group:
    """The prompts of ``request`` as they are in ranking; ``order`` is complete, places of its candidates from 0.

    :class:`Overflow` where a prompt with the query does not fit ``context``, or the model's own.
    """
    fitter = Fitter(model=local, labels=Labels(brackets=False))
    totals = fitter.totals(request.candidates)
    pieces = [
        fitter.piece(request.query, one, total, passage_tokens)
        for one, total in zip(request.candidates, totals, strict=True)
    ]
    prompts = tuple(tuple(local.ids(render(ASKED, "", [Shown(piece.text)]))) for piece in pieces)
    query = tuple(local.vocabulary.encode(request.query))
    limit = context or local.capabilities.context
    longest = max(map(len, prompts), default=0) + len(query)
    if not query or (limit is not None and longest > limit):
        raise Overflow(
            f"Query {request.id!r}: a document and the query take {longest} tokens of {limit}, {len(query)} of "
            "them the query's. Show less of each document, or leave the query out."
        )
    ranks = [0] * len(order)
    for rank, place in enumerate(order, start=1):
        ranks[place] = rank
    shown = tuple((piece.tokens, total) for piece, total in zip(pieces, totals, strict=True))
    return Group(prompts, query, tuple(ranks), shown)


class LikelihoodTask(TunedTask[Group]):
    """A causal model that learns which documents a query follows from."""

    def example_loss(self, example: Group) -> torch.Tensor:
        """The loss of one list, a scalar."""
        import torch

        return rank_net(self.scores(example)[None], torch.tensor([example.ranks], device=self.model.device))

    def scores(self, example: Group) -> torch.Tensor:
        """``log P(query | document)``, (N,) float32."""
        import torch

        device, asked = self.model.device, len(example.query)
        width = max(map(len, example.prompts)) + asked
        # What is padded stands in front, so that the query is at the end of every row.
        rows = [(*[0] * (width - asked - len(one)), *one, *example.query) for one in example.prompts]
        seen = [[0] * (width - asked - len(one)) + [1] * (len(one) + asked) for one in example.prompts]
        tokens, mask = torch.tensor(rows, device=device), torch.tensor(seen, device=device)
        places = (mask.cumsum(1) - 1).clamp(min=0)
        with self.products():
            logits = self.model(
                input_ids=tokens, attention_mask=mask, position_ids=places, use_cache=False, logits_to_keep=asked + 1
            ).logits
        wanted = tokens[:, -asked:, None]
        return torch.log_softmax(logits[:, :-1].to(torch.float32), -1).gather(2, wanted)[..., 0].sum(1)
