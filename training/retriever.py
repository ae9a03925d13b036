"""What a bi-encoder learns from pairs and from a teacher; any model that makes vectors of packed tokens is taught.

One step is a draw of pairs and of lone texts.  Every text of it goes through the model once, in packed chunks; the
vectors are then asked for what :class:`Objective` says.

Letters::

    B queries of a step     C candidates (their distinct right and wrong answers)     U distinct texts of a step
    D width of a vector     E width of a teacher's
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from unabridged.contracts import JSON, Floats, Rows
from unabridged.errors import UsageError
from unabridged.training import losses
from unabridged.training.gradcache import embed_chunks, plan_chunks
from unabridged.training.shelf import Shelf, rows_of

if TYPE_CHECKING:
    import torch

PROJECTION = "teacher.projection"
"""The parameter between a student and a teacher of another width; it is dropped when training is done."""
DISTANCES = ("cosine", "mse")
POOL = 16
"""Steps whose pairs are drawn together and then sorted by length, so that the texts of a step are alike in it."""


class Tower(Protocol):
    """What is taught: queries and documents go through the same one."""

    @property
    def parameters(self) -> Mapping[str, torch.Tensor]:
        """The tensors that change, by name."""
        ...

    @property
    def width(self) -> int:
        """D."""
        ...

    @property
    def device(self) -> str:
        """Where its tensors are."""
        ...

    def embed(self, ids: torch.Tensor, offsets: Rows) -> torch.Tensor:
        """``(B, D)`` float32, of any norm, of packed sequences ``(T,)`` with offsets ``(B + 1,)``."""
        ...


@dataclass(frozen=True, slots=True)
class Objective:
    """What is made small: a sum with these weights; what has weight 0 is not computed."""

    contrast: float = 1.0
    """InfoNCE over the step's candidates (:func:`unabridged.training.losses.contrast`)."""
    both: float = 0.0
    """The same from documents to queries."""
    orthogonal: float = 0.0
    """Orthogonal projection loss, for steps of a single pair."""
    vectors: float = 0.0
    """Distance from the teacher's vectors."""
    scores: float = 0.0
    """Distance from the teacher's ranking of the candidates, and of lone texts among each other."""
    temperature: float = losses.TEMPERATURE
    teacher_temperature: float = losses.TEMPERATURE
    """Of the rankings that ``scores`` compares."""
    distance: str = "cosine"
    """What ``vectors`` is: ``cosine`` or ``mse`` of unit vectors."""

    def __post_init__(self) -> None:
        weights = (self.contrast, self.both, self.orthogonal, self.vectors, self.scores)
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise UsageError(f"The parts of the loss need weights of at least 0, one of them above 0; got {weights}.")
        if not (0 < self.temperature < math.inf and 0 < self.teacher_temperature < math.inf):
            raise UsageError(
                f"Temperatures are finite and above 0, got {self.temperature} and {self.teacher_temperature}."
            )
        if self.distance not in DISTANCES:
            raise UsageError(f"The distance from a teacher is {' or '.join(DISTANCES)}, got {self.distance!r}.")

    @property
    def taught(self) -> bool:
        """Whether there must be a teacher."""
        return self.vectors > 0 or self.scores > 0

    @property
    def paired(self) -> bool:
        """Whether there must be pairs."""
        return self.contrast > 0 or self.both > 0 or self.orthogonal > 0


@dataclass(frozen=True, slots=True)
class Drawing:
    """What a step consists of."""

    pairs: int = 32
    texts: int = 32
    """Lone texts, where there are any."""
    negatives: int = 1
    """Wrong answers that come with a pair, at most; more are drawn from."""
    random_negatives: int = 0
    """And of all documents, for each query."""
    chunk_tokens: int = 4096
    """Tokens of a packed forward pass, at most; changes memory and speed, and vectors by rounding."""
    cached: bool = True
    """One chunk's activations at a time (:mod:`unabridged.training.gradcache`), else all of a step's."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("pairs", "texts", "negatives", "random_negatives", "seed"):
            least = 1 if name == "pairs" else 0
            if getattr(self, name) < least:
                raise UsageError(f"{name} must be at least {least}, got {getattr(self, name)}.")
        plan_chunks(np.zeros(0, dtype=np.int64), self.chunk_tokens)


class RetrieverTask:
    """Satisfies :class:`unabridged.training.loop.Task`; items are pairs by number, and lone texts by theirs plus P."""

    def __init__(
        self, tower: Tower, shelf: Shelf, objective: Objective, drawing: Drawing, teacher: Floats | None = None
    ) -> None:
        """``teacher`` are its vectors ``(N, E)`` of all texts on the shelf.

        :class:`UsageError` if the objective needs pairs or a teacher and there are none, or if nothing is learned.
        """
        if objective.taught and teacher is None:
            raise UsageError("vectors and scores are learned from a teacher, and there is none: name one (--teacher).")
        if objective.paired and not len(shelf.queries):
            raise UsageError(
                "There is no pair to contrast. Give pairs, or learn from a teacher alone: --contrast 0 --vectors 1."
            )
        self.tower = tower
        self.shelf = shelf
        self.objective = objective
        self.drawing = drawing
        self._teacher = teacher if objective.taught else None
        self._documents = shelf.documents
        if self._silent():
            raise UsageError(
                "Every step holds one text and nothing to compare it with, so that nothing is learned. Give more pairs "
                "or texts a step, or wrong answers (negatives, random_negatives); --orthogonal needs one pair only."
            )

    @property
    def facts(self) -> dict[str, JSON]:
        """What a run must share with the one that it continues, besides model and schedule."""
        return {**asdict(self.objective), **asdict(self.drawing), "texts_sha256": self.shelf.digest}

    @cached_property
    def parameters(self) -> Mapping[str, torch.Tensor]:
        """The tower's, and the projection to a teacher of another width."""
        import torch

        found = dict(self.tower.parameters)
        if self._teacher is not None and self.objective.vectors and self._teacher.shape[1] != self.tower.width:
            draw = torch.Generator().manual_seed(self.drawing.seed)
            size = (self._teacher.shape[1], self.tower.width)
            start = torch.randn(size, generator=draw) / self.tower.width**0.5
            found[PROJECTION] = start.to(self.tower.device).requires_grad_()
        return found

    def batches(self, epoch: int) -> list[Rows]:
        """Items of each step: all pairs once, lone texts in turn; without pairs all lone texts once."""
        drawing, pairs, lone = self.drawing, len(self.shelf.queries), len(self.shelf.lone)
        if not pairs:
            return [part + pairs for part in self._alike(self._lone_lengths, max(1, drawing.texts), epoch)]
        steps = self._alike(self._pair_tokens, drawing.pairs, epoch)
        if not lone or not drawing.texts:
            return steps
        start = epoch * len(steps) * drawing.texts
        turns = self._turns(start, len(steps) * drawing.texts).reshape(len(steps), -1)
        return [np.concatenate((part, turn + pairs)) for part, turn in zip(steps, turns, strict=True)]

    def tokens(self, rows: Rows) -> int:
        """Tokens of a step, of the first right answer and of as many wrong ones as are drawn; repeats count."""
        pairs = len(self.shelf.queries)
        paired = rows[rows < pairs]
        return int(self._pair_tokens[paired].sum() + self._lone_lengths[rows[rows >= pairs] - pairs].sum())

    def loss(self, epoch: int, number: int, rows: Rows) -> torch.Tensor:
        """The objective on one step; wrong answers are drawn from (seed, epoch, number)."""
        import torch

        chance = np.random.default_rng([self.drawing.seed, 2, epoch, number])
        pairs = rows[rows < len(self.shelf.queries)]
        lone = self.shelf.lone[rows[rows >= len(self.shelf.queries)] - len(self.shelf.queries)]
        asked = self.shelf.queries[pairs]
        right = np.array(
            [chance.choice(rows_of(self.shelf.positives, pair)) for pair in pairs.tolist()], dtype=np.int64
        )
        candidates = np.unique(np.concatenate((right, self._wrong(pairs, chance))))
        texts, places = np.unique(np.concatenate((asked, candidates, lone)), return_inverse=True)
        step = _Step(self, pairs, right, candidates, texts, np.split(places, np.cumsum((len(asked), len(candidates)))))
        chunks = plan_chunks(self.shelf.lengths[texts], self.drawing.chunk_tokens)
        vectors = embed_chunks(lambda chunk: self._embed(texts[chunk]), chunks, cached=self.drawing.cached)
        found = torch.zeros((), device=vectors.device)
        parts = [*step.own(vectors), *step.taught(vectors)]
        for part in parts or [0.0 * vectors.sum()]:  # the last step may be one text, which nothing is compared with
            found = found + part
        return found

    def right(self, pair: int) -> Rows:
        """Right answers of a pair's query, those of other pairs with the same query among them."""
        order, asked = self._by_query
        query = self.shelf.queries[pair]
        first, last = np.searchsorted(asked, query), np.searchsorted(asked, query, side="right")
        return np.concatenate([rows_of(self.shelf.positives, same) for same in order[first:last].tolist()])

    def teacher(self, rows: Rows) -> torch.Tensor:
        """The teacher's vectors of ``rows``, ``(n, E)``."""
        import torch

        if self._teacher is None:
            raise UsageError("There is no teacher.")
        return torch.from_numpy(np.ascontiguousarray(self._teacher[rows])).to(self.tower.device)

    def similar(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """How alike the student's vectors ``(B, D)`` and ``(C, D)`` are, ``(B, C)``: their cosines."""
        return losses.cosines(one, other)

    def ranked(self, one: Rows, other: Rows) -> torch.Tensor:
        """The teacher's scores ``(B, C)`` of the texts ``one`` ``(B,)`` and ``other`` ``(C,)``: its cosines."""
        return losses.cosines(self.teacher(one), self.teacher(other))

    def _silent(self) -> bool:
        """Whether steps of this size have a loss of 0, whatever the vectors are."""
        aim, drawing, shelf = self.objective, self.drawing, self.shelf
        pairs = drawing.pairs if len(shelf.queries) else 0
        texts = drawing.texts if len(shelf.lone) else 0
        given = drawing.negatives and len(shelf.negatives[0])
        compared = pairs > 1 or (pairs == 1 and bool(drawing.random_negatives or given))
        return not (
            aim.orthogonal
            or aim.vectors
            or (aim.contrast and compared)
            or (aim.both and pairs > 1)
            or (aim.scores and (compared or texts > 1))
        )

    def _embed(self, rows: Rows) -> torch.Tensor:
        import torch

        ids, offsets = self.shelf.packed(rows)
        return self.tower.embed(torch.from_numpy(ids).to(self.tower.device), offsets)

    def _wrong(self, pairs: Rows, chance: np.random.Generator) -> Rows:
        """Wrong answers of a step; that another query's are no right answers of mine is looked after later."""
        found = [np.zeros(0, dtype=np.int64)]
        for pair in pairs.tolist():
            known = rows_of(self.shelf.negatives, pair)
            most = min(len(known), self.drawing.negatives)
            found.append(chance.choice(known, most, replace=False) if most < len(known) else known)
            found.append(chance.choice(self._documents, self.drawing.random_negatives))
        return np.concatenate(found)

    def _alike(self, lengths: Rows, size: int, epoch: int) -> list[Rows]:
        """All numbers below ``len(lengths)`` in parts of ``size``, alike in length, in an order drawn from the seed."""
        chance = np.random.default_rng([self.drawing.seed, 1, epoch])
        order = chance.permutation(len(lengths))
        parts: list[Rows] = []
        for start in range(0, len(order), size * POOL):
            pool = order[start : start + size * POOL]
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            parts.extend(pool[at : at + size] for at in range(0, len(pool), size))
        return [parts[number] for number in chance.permutation(len(parts)).tolist()]

    def _turns(self, start: int, count: int) -> Rows:
        """Lone texts ``start`` to ``start + count`` of an endless row of permutations of all of them."""
        lone = len(self.shelf.lone)
        first, last = start // lone, (start + count - 1) // lone
        row = np.concatenate(
            [np.random.default_rng([self.drawing.seed, 3, turn]).permutation(lone) for turn in range(first, last + 1)]
        )
        return row[start - first * lone :][:count]

    @cached_property
    def _by_query(self) -> tuple[Rows, Rows]:
        """Pairs in the order of their queries, and these."""
        order = np.argsort(self.shelf.queries, kind="stable")
        return order, self.shelf.queries[order]

    @cached_property
    def _lone_lengths(self) -> Rows:
        return self.shelf.lengths[self.shelf.lone]

    @cached_property
    def _pair_tokens(self) -> Rows:
        """Tokens of each pair, ``(P,)``: random wrong answers by their mean."""
        shelf, lengths = self.shelf, self.shelf.lengths
        first = shelf.positives[0][shelf.positives[1][:-1]]
        found = lengths[shelf.queries] + lengths[first]
        for pair in np.flatnonzero(np.diff(shelf.negatives[1])).tolist():
            known = lengths[rows_of(shelf.negatives, pair)]
            found[pair] += int(known.mean() * min(len(known), self.drawing.negatives))
        mean = int(lengths[self._documents].mean()) if len(self._documents) else 0
        tokens: Rows = found + self.drawing.random_negatives * mean
        return tokens


@dataclass(frozen=True)
class _Step:
    """One draw, and the parts of the loss on it."""

    task: RetrieverTask
    pairs: Rows  # (B,)
    right: Rows  # (B,) the right answer that was drawn
    candidates: Rows  # (C,)
    texts: Rows  # (U,)
    places: list[Rows]
    """Where queries (B,), candidates (C,) and lone texts stand among the texts."""

    @cached_property
    def column(self) -> Rows:
        """Where the right answer stands among the candidates, ``(B,)``."""
        return np.searchsorted(self.candidates, self.right)

    @cached_property
    def known(self) -> np.ndarray:
        """Candidates that are right answers, of this pair or of another with its query, ``(B, C)`` bool."""
        own = (np.isin(self.candidates, self.task.right(pair)) for pair in self.pairs.tolist())
        return np.array(list(own), dtype=np.bool_).reshape(len(self.pairs), len(self.candidates))

    def own(self, vectors: torch.Tensor) -> list[torch.Tensor]:
        """What pairs teach."""
        import torch

        aim = self.task.objective
        if not aim.paired or not len(self.pairs):
            return []
        queries, candidates = (vectors[torch.from_numpy(rows).to(vectors.device)] for rows in self.places[:2])
        scores = self.task.similar(queries, candidates)
        column, known = (torch.from_numpy(part).to(vectors.device) for part in (self.column, self.known))
        row = torch.arange(len(scores), device=vectors.device)
        parts = []
        if aim.contrast:
            others = known.clone()
            others[row, column] = False
            parts.append(aim.contrast * losses.contrast(scores, column, aim.temperature, others))
        if aim.both:
            others = known[:, column].T.clone()
            others[row, row] = False
            parts.append(aim.both * losses.contrast(scores[:, column].T, row, aim.temperature, others))
        if aim.orthogonal:
            parts.append(aim.orthogonal * losses.orthogonal_projection(scores, known))
        return parts

    def taught(self, vectors: torch.Tensor) -> list[torch.Tensor]:
        """What the teacher teaches."""
        import torch

        aim = self.task.objective
        if not aim.taught:
            return []
        parts = []
        if aim.vectors:
            wanted = self.task.teacher(self.texts)
            found = vectors
            if PROJECTION in self.task.parameters:
                found = vectors @ self.task.parameters[PROJECTION].T
            distance = losses.cosine_distance if aim.distance == "cosine" else losses.mean_square
            parts.append(aim.vectors * distance(found, wanted))
        if aim.scores:
            asked, found_, lone = (torch.from_numpy(rows).to(vectors.device) for rows in self.places)
            for one, other in ((asked, found_), (lone, lone)):
                if len(one) and len(other) > 1:
                    mine = self.task.similar(vectors[one], vectors[other])
                    theirs = self.task.ranked(*(self.texts[rows.cpu().numpy()] for rows in (one, other)))
                    itself = torch.eye(len(one), dtype=torch.bool, device=vectors.device) if one is lone else None
                    parts.append(aim.scores * losses.score_divergence(mine, theirs, aim.teacher_temperature, itself))
        return parts
