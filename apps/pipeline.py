"""Everything but the encoder that decides a ranking, and queries answered by it so that no failure stops a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unabridged.apps.second_stage import SecondStage
from unabridged.contracts import Corpus, Encoder, Level
from unabridged.errors import ResourceError
from unabridged.eval.trec import strictly_decreasing
from unabridged.progress import Listener, Progress
from unabridged.retrievers.api import settings_from
from unabridged.retrievers.build import BuildReport, build
from unabridged.retrievers.opened import Index
from unabridged.retrievers.result import Mode, RankedList
from unabridged.retrievers.scoring import DEFAULT_SCORING, DocumentScoring, Fusion
from unabridged.retrievers.settings import BuildSettings

QUERIES_AT_ONCE = 256
"""Queries encoded together; bounds memory for large query sets."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Everything but the encoder that decides a ranking.

    Args:
        mode: Which rankings are used.
        level: What is ranked; under ``segment`` a document has the score of its best segment.
        building: Fields of :class:`BuildSettings`, as far as they differ from the defaults.
        scoring: From segment scores to a document's.
        fusion: Of dense and BM25.
        rerank: What ranks the best documents again.
    """

    mode: Mode = Mode.HYBRID
    level: Level = Level.DOC
    building: Mapping[str, Any] = field(default_factory=dict)
    scoring: DocumentScoring = DEFAULT_SCORING
    fusion: Fusion = field(default_factory=Fusion)
    rerank: SecondStage | None = None

    @property
    def settings(self) -> BuildSettings:
        """How its indexes are built."""
        return BuildSettings(**settings_from(self.building))

    def indexed(
        self, corpus: Corpus, encoder: Encoder, folder: Path, listener: Listener | None = None
    ) -> tuple[Index, BuildReport, int]:
        """The index of ``corpus`` in ``folder``, built, continued or found; its report, and the tokens encoded now.

        Raises: see :func:`unabridged.retrievers.build.build`.
        """
        last: list[Progress] = []

        def listen(event: Progress) -> None:
            last[:] = [event]
            if listener is not None:
                listener(event)

        report = build(corpus, encoder, folder, options=settings_from(self.building), listener=listen)
        index = Index(folder, encoder=encoder, scoring=self.scoring, fusion=self.fusion, build_report=report)
        return index, report, last[-1].tokens if last else 0

    def as_json(self) -> dict[str, Any]:
        """Plain values, all defaults included."""
        return {
            "kind": "pipeline",
            "mode": self.mode.value,
            "level": self.level.value,
            "settings": self.settings.as_json(),
            "scoring": asdict(self.scoring),
            "fusion": asdict(self.fusion),
            # Left out where there is none: systems of one stage keep the identity that they had.
            **({} if self.rerank is None else {"rerank": self.rerank.as_json()}),
        }


class Answers:
    """Queries to document scores over one index.  Failures go into ``missing``, time per query into ``seconds``."""

    def __init__(self, index: Index, pipeline: Pipeline, top_k: int) -> None:
        self._index, self._pipeline, self._top_k = index, pipeline, top_k
        self.missing: dict[str, str] = {}
        self.seconds: dict[str, float] = {}

    def answer(
        self, queries: Mapping[str, str], top_ranked: Mapping[str, Sequence[str]] | None = None
    ) -> dict[str, dict[str, float]]:
        """Query id -> document id -> score, for every query, in one pass where that works, else one by one.

        Scores fall strictly, also as float32.  With ``top_ranked`` only the candidates of a query are ranked.  A query
        that fails has no documents.  :class:`ResourceError` (memory, disk) is raised: the same run continues later.
        """
        found: dict[str, dict[str, float]] = {}
        names = list(queries)
        for start in range(0, len(names), QUERIES_AT_ONCE):
            part = names[start : start + QUERIES_AT_ONCE]
            found.update(self._batch({name: queries[name] for name in part}, top_ranked))
        return found

    def _batch(
        self, queries: Mapping[str, str], top_ranked: Mapping[str, Sequence[str]] | None
    ) -> dict[str, dict[str, float]]:
        if top_ranked is None and all(text.strip() for text in queries.values()):
            try:
                return dict(zip(queries, self._run(queries, None), strict=True))
            except ResourceError:
                raise
            except Exception:  # noqa: BLE001 - one query is at fault: it is looked for one by one
                pass
        return {
            name: self._one(name, text, None if top_ranked is None else top_ranked.get(name, []))
            for name, text in queries.items()
        }

    def _one(self, name: str, text: str, candidates: Sequence[str] | None) -> dict[str, float]:
        if candidates is not None and not len(candidates):
            self.missing[name] = "no candidates"
            return {}
        try:
            return self._run({name: text}, candidates)[0]
        except ResourceError:
            raise
        except Exception as error:  # noqa: BLE001 - a query never stops a run; its reason is kept
            self.missing[name] = f"{type(error).__name__}: {error}"
            return {}

    def _run(self, queries: Mapping[str, str], candidates: Sequence[str] | None) -> list[dict[str, float]]:
        wanted = None if candidates is None else {"id": set(map(str, candidates)).__contains__}
        level, k = self._pipeline.level, self._top_k
        while True:
            results = self._index.rank(list(queries.values()), k, mode=self._pipeline.mode, level=level, filter=wanted)
            scores = [scores_of(result, self._top_k) for result in results]
            short = [len(result) >= k and len(own) < self._top_k for result, own in zip(results, scores, strict=True)]
            if level is not Level.SEGMENT or not any(short):
                self.seconds |= {n: r.timings["total_ms"] / 1000 for n, r in zip(queries, results, strict=True)}
                return scores
            k *= 4  # several segments of one document stand in the list: look further down


def scores_of(ranked: RankedList, k: int) -> dict[str, float]:
    """The first ``k`` documents with scores that fall strictly as float32; a document counts at its best segment."""
    best: dict[str, float] = {}
    for name, score in zip(ranked.doc_ids, ranked.scores.tolist(), strict=True):
        if len(best) < k:
            best.setdefault(name, score)
    return dict(zip(best, strictly_decreasing(list(best.values())).tolist(), strict=True))
