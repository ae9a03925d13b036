"""The whole pipeline as an mteb search model: windows, index folder, dense, BM25 or hybrid search.

``index`` and ``search`` are called once for each split.  There is no ``predict``: mteb would take the object for a
cross-encoder.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from unabridged.apps.integrations.mteb_corpus import TaskCorpus, query_of
from unabridged.apps.integrations.mteb_meta import model_meta, name_of
from unabridged.apps.integrations.mteb_records import Records, Split
from unabridged.apps.pipeline import Answers, Pipeline
from unabridged.contracts import Encoder
from unabridged.errors import RuntimeFailure, UsageError
from unabridged.progress import Listener
from unabridged.retrievers.opened import Index
from unabridged.retrievers.result import Mode
from unabridged.retrievers.settings import work_identity

KINDS = {Mode.DENSE: "dense", Mode.BM25: "sparse", Mode.HYBRID: "hybrid"}
"""The words of mteb's ``model_type``."""


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
        self._index: Index | None = None

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
        started = time.monotonic()
        self._index, report, tokens = self.pipeline.indexed(source, self.encoder, folder, self._listener)
        self.records.note(
            split,
            policy=settings.overflow.value,
            documents=report.documents,
            failed_documents=report.failed,
            truncated=report.truncated,
            tokens_total=report.tokens_total,
            tokens_seen=report.tokens_seen,
            tokens_encoded=tokens,
            seconds=time.monotonic() - started,
            index=folder.name,
        )
        self.records.hold(split, {line.doc_id: line.tokens_total for line in self._index.ledger()})

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
        answers = Answers(self._index, self.pipeline, top_k)
        found, missing = answers.answer(asked, top_ranked), answers.missing
        if asked and len(missing) == len(asked):
            raise RuntimeFailure(
                f"All {len(asked):,} queries of {task_metadata.name}/{hf_split} failed, the first with: "
                f"{next(iter(missing.values()))}. No score was kept."
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
