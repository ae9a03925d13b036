"""The whole pipeline as an mteb search model: windows, index folder, dense, BM25 or hybrid search.

``index`` and ``search`` are called once for each split.  There is no ``predict``: mteb would take the object for a
cross-encoder.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unabridged.apps.integrations.mteb_corpus import TaskCorpus, query_of
from unabridged.apps.integrations.mteb_meta import model_meta, name_of
from unabridged.apps.integrations.mteb_records import Records, Split
from unabridged.apps.integrations.ranked_index import RankedIndex
from unabridged.contracts import Encoder, Floats, Level
from unabridged.errors import ResourceError, RuntimeFailure, UsageError
from unabridged.progress import Listener, Progress
from unabridged.retrievers.api import settings_from
from unabridged.retrievers.build import build
from unabridged.retrievers.result import Mode, SearchResult
from unabridged.retrievers.scoring import DEFAULT_SCORING, DocumentScoring, Fusion
from unabridged.retrievers.settings import BuildSettings, work_identity

QUERIES_AT_ONCE = 256
"""Queries encoded together; bounds memory for large query sets."""
KINDS = {Mode.DENSE: "dense", Mode.BM25: "sparse", Mode.HYBRID: "hybrid"}
"""The words of mteb's ``model_type``."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Everything but the encoder that decides a ranking.

    Args:
        mode: Which rankings are used.
        level: What is ranked; under ``segment`` a document has the score of its best segment.
        building: Fields of :class:`BuildSettings`, as far as they differ from the defaults.
        scoring: From segment scores to a document's.
        fusion: Of dense and BM25.
    """

    mode: Mode = Mode.HYBRID
    level: Level = Level.DOC
    building: Mapping[str, Any] = field(default_factory=dict)
    scoring: DocumentScoring = DEFAULT_SCORING
    fusion: Fusion = field(default_factory=Fusion)

    @property
    def settings(self) -> BuildSettings:
        """How its indexes are built."""
        return BuildSettings(**settings_from(self.building))

    def as_json(self) -> dict[str, Any]:
        """Plain values, all defaults included."""
        return {
            "kind": "pipeline",
            "mode": self.mode.value,
            "level": self.level.value,
            "settings": self.settings.as_json(),
            "scoring": asdict(self.scoring),
            "fusion": asdict(self.fusion),
        }


class MtebSearch:
    """``SearchProtocol`` of mteb 2.

    Each corpus gets an index folder below ``folder``, named by its content and by all that decides its vectors, so that
    a run that was killed continues in it, and other modes find it finished.  What mteb does not ask for (coverage,
    speed, queries that failed and why) is in ``records``.
    """

    def __init__(
        self,
        encoder: Encoder,
        folder: str | Path,
        pipeline: Pipeline | None = None,
        *,
        records: Records | None = None,
        name: str | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.encoder, self.folder = encoder, Path(folder)
        self.pipeline = pipeline or Pipeline()
        self.records = records or Records()
        self._listener = listener
        self._name = name or name_of(encoder, self.pipeline.mode.value)
        self._index: RankedIndex | None = None

    @cached_property
    def mteb_model_meta(self) -> Any:
        """Name, and a revision of encoder, index, search and scoring."""
        kinds = [KINDS[self.pipeline.mode]]
        return model_meta(self.encoder, self.pipeline.as_json(), kinds, self._name)

    def index(self, corpus: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, **_: Any) -> None:
        """Builds, continues or finds the index of ``corpus``; the one before is dropped.

        Raises: see :func:`unabridged.retrievers.build.build`.
        """
        self._drop()
        split = Split(task_metadata.name, hf_split, hf_subset)
        self.records.begin(split)
        source = TaskCorpus(corpus, f"{task_metadata.name}/{hf_split}")
        settings = self.pipeline.settings
        folder = self.folder / source.name(f"{work_identity(self.encoder.passport, settings)}-{settings.recipe}")
        last: list[Progress] = []

        def listen(event: Progress) -> None:
            last[:] = [event]
            if self._listener is not None:
                self._listener(event)

        started = time.monotonic()
        report = build(source, self.encoder, folder, options=settings_from(self.pipeline.building), listener=listen)
        self.records.note(
            split,
            policy=settings.overflow.value,
            documents=report.documents,
            failed_documents=report.failed,
            truncated=report.truncated,
            tokens_total=report.tokens_total,
            tokens_seen=report.tokens_seen,
            tokens_encoded=last[-1].tokens if last else 0,
            seconds=time.monotonic() - started,
            index=folder.name,
        )
        self._index = RankedIndex(
            folder,
            encoder=self.encoder,
            scoring=self.pipeline.scoring,
            fusion=self.pipeline.fusion,
            build_report=report,
        )

    def search(
        self,
        queries: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        **_: Any,
    ) -> dict[str, dict[str, float]]:
        """Query id -> document id -> score, for every query; scores fall strictly, also as float32.

        With ``top_ranked`` only the candidates of a query are ranked.  A query that fails has no documents, counts 0,
        and stands in the records with its reason.

        Raises:
            UsageError: nothing was indexed before.
            RuntimeFailure: every query failed: that is no result.
            ResourceError: memory or disk; the same run continues later.
        """
        if self._index is None:
            raise UsageError("mteb searched before it indexed a corpus; call index first.")
        started = time.monotonic()
        asked = {str(row["id"]): query_of(row) for row in queries}
        found: dict[str, dict[str, float]] = {}
        missing: dict[str, str] = {}
        names = list(asked)
        for start in range(0, len(names), QUERIES_AT_ONCE):
            part = {name: asked[name] for name in names[start : start + QUERIES_AT_ONCE]}
            found.update(_Search(self._index, self.pipeline, top_k, missing).answer(part, top_ranked))
        if asked and len(missing) == len(asked):
            raise RuntimeFailure(
                f"All {len(asked):,} queries of {task_metadata.name}/{hf_split} failed, the first with: "
                f"{missing[names[0]]}. No score was kept."
            )
        tokens = self.encoder.count_tokens(list(asked.values()))
        self.records.note(
            Split(task_metadata.name, hf_split, hf_subset),
            queries=len(asked),
            query_tokens=int(tokens.sum()),
            missing=missing,
            search_seconds=time.monotonic() - started,
        )
        return found

    def _drop(self) -> None:
        if self._index is not None:
            self._index.close()
            self._index = None


class _Search:
    """Queries to document scores over one index; failures go into ``missing``."""

    def __init__(self, index: RankedIndex, pipeline: Pipeline, top_k: int, missing: dict[str, str]) -> None:
        self._index, self._pipeline, self._top_k, self._missing = index, pipeline, top_k, missing

    def answer(
        self, queries: Mapping[str, str], top_ranked: Mapping[str, Sequence[str]] | None
    ) -> dict[str, dict[str, float]]:
        """All queries in one pass where that works, else one by one."""
        answers: dict[str, dict[str, float]] = {}
        if top_ranked is None and all(text.strip() for text in queries.values()):
            try:
                results = self._run(list(queries.values()), None)
            except ResourceError:
                raise
            except Exception:  # noqa: BLE001 - one query is at fault: it is looked for one by one
                results = []
            answers = dict(zip(queries, results, strict=False))
        for name, text in queries.items():
            if name not in answers:
                answers[name] = self._one(name, text, None if top_ranked is None else top_ranked.get(name, []))
        return {name: answers[name] for name in queries}

    def _one(self, name: str, text: str, candidates: Sequence[str] | None) -> dict[str, float]:
        if candidates is not None and not len(candidates):
            self._missing[name] = "no candidates"
            return {}
        try:
            return self._run([text], candidates)[0]
        except ResourceError:
            raise
        except Exception as error:  # noqa: BLE001 - a query never stops a run; its reason is kept
            self._missing[name] = f"{type(error).__name__}: {error}"
            return {}

    def _run(self, texts: Sequence[str], candidates: Sequence[str] | None) -> list[dict[str, float]]:
        wanted = None if candidates is None else {"id": set(map(str, candidates)).__contains__}
        level, k = self._pipeline.level, self._top_k
        while True:
            results = self._index.search(texts, k, mode=self._pipeline.mode, level=level, filter=wanted)
            scores = [scores_of(result, self._top_k) for result in results]
            short = [len(result) >= k and len(own) < self._top_k for result, own in zip(results, scores, strict=True)]
            if level is not Level.SEGMENT or not any(short):
                return scores
            k *= 4  # several segments of one document stand in the list: look further down


def scores_of(result: SearchResult, k: int) -> dict[str, float]:
    """The first ``k`` documents of a result with scores that fall strictly; a document counts at its best segment."""
    best: dict[str, float] = {}
    for hit in result:
        if len(best) < k:
            best.setdefault(hit.doc_id, hit.score)
    values = falling(np.array(list(best.values()), np.float32))
    return dict(zip(best, values.tolist(), strict=True))


def falling(scores: Floats) -> Floats:
    """``s_i <- min(s_i, the float32 below s_(i-1))``: ``(K,)`` scores, best first, that no evaluator takes for ties."""
    out = np.array(scores, np.float32)
    for at in range(1, len(out)):
        out[at] = min(out[at], np.nextafter(out[at - 1], np.float32(-np.inf)))
    return out
