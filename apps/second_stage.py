"""The second stage of an evaluated system: the best documents of each query ranked again, with what it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unabridged.apps.candidates import IndexTexts
from unabridged.apps.rankers import OpenRanker
from unabridged.apps.rerank_files import scored, write_explanations
from unabridged.apps.rerank_options import FEW
from unabridged.apps.reranking import Listed, Reranked, Reranking
from unabridged.apps.reranking_costs import account
from unabridged.contracts import JSON
from unabridged.errors import RuntimeFailure
from unabridged.eval.trec import write_run
from unabridged.retrievers.opened import Index
from unabridged.retrievers.result import Mode

FIRST, SHOWN = "first.trec", "rerank.jsonl"
"""Beside the run of a reranked system: the first stage, and what was shown of each document."""

Run = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class SecondStage:
    """A ranker, and how many documents of each query it gets."""

    ranker: OpenRanker
    depth: int = FEW

    def as_json(self) -> dict[str, JSON]:
        """All that decides the order, as plain values."""
        return {"depth": self.depth, "ranker": dict(self.ranker.facts)}

    def applied(self, index: Index, mode: Mode, queries: Mapping[str, str], run: Run) -> Applied:
        """``run`` in its new order; segments of long documents are those that ``mode`` finds in the index.

        :class:`RuntimeFailure` where no query could be ranked: that is no result.
        """
        lists = [Listed(name, queries[name], tuple(hits.items())) for name, hits in run.items()]
        found = list(Reranking(self.ranker, IndexTexts(index, mode), self.depth).run(lists))
        asked = [one for one in found if one.listed.hits]
        if asked and all(one.failure for one in asked):
            raise RuntimeFailure(
                f"None of the {len(asked):,} queries could be ranked again, the first with: {asked[0].failure}"
            )
        return Applied(self, run, tuple(found))


@dataclass(frozen=True, slots=True)
class Applied:
    """What a second stage did to a run."""

    stage: SecondStage
    first: Run
    found: tuple[Reranked, ...]

    @property
    def run(self) -> Run:
        """The new order, with scores that fall strictly."""
        return {one.listed.id: dict(scored(one)) for one in self.found}

    @property
    def seconds(self) -> dict[str, float]:
        """Of each query, beside those of the first stage."""
        return {one.listed.id: one.seconds for one in self.found}

    @property
    def measure(self) -> str:
        """The recall that bounds what a second stage can do."""
        return f"R@{self.stage.depth}"

    def write(self, folder: Path) -> None:
        """The first stage's run, and what was shown."""
        write_run(folder / FIRST, ((name, list(hits.items())) for name, hits in self.first.items()), escape=True)
        write_explanations(folder / SHOWN, self.found)

    def record(self, measures: Mapping[str, Any]) -> dict[str, JSON]:
        """What stands in the record; ``measures`` are the first stage's."""
        shown = [exposure for one in self.found if one.ranking is not None for exposure in one.ranking.exposures]
        return {
            "first_stage": dict(measures),
            "failed": {one.listed.id: one.failure for one in self.found if one.failure},
            "used": account(self.stage.ranker, self.found),
            "shown": {
                "tokens_total": sum(one.total for one in shown),
                "tokens_shown": sum(one.shown for one in shown),
                "in_part": sum(0 < one.shown < one.total for one in shown),
                "unread": sum(one.prompts == 0 for one in shown),
            },
        }


def files_of(record: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    """``names``, and the files that a second stage leaves beside them."""
    return (*names, FIRST, SHOWN) if "rerank" in record else tuple(names)


def described(record: Mapping[str, Any], primary: str) -> list[str]:
    """The second stage of a record for people; nothing where there was none."""
    held = record.get("rerank")
    if held is None:
        return []
    used, shown, stage = held["used"], held["shown"], record["system"]["pipeline"]["rerank"]
    reach = f"R@{stage['depth']}"
    first = ", ".join(f"{name} {held['first_stage'][name]['value']:.4f}" for name in (primary, reach))
    tokens = used["usage"]["prompt"] + used["usage"]["completion"]
    each = used["seconds_per_query"]
    lines = [
        f"  reranked: {stage['ranker']['model']}:{stage['ranker']['strategy']}, {stage['depth']} documents; "
        f"first stage: {first}",
        f"  {used['calls']:,} calls ({used['cached']:,} cached, {used['failed']:,} failed), "
        + (f"at least {tokens:,}" if used["unknown"] else f"{tokens:,}")
        + f" tokens, {0.0 if each is None else each:.2f} s per query; "
        f"{shown['in_part']:,} of {used['candidates']:,} documents shown in part",
    ]
    if held["failed"]:
        name, reason = next(iter(held["failed"].items()))
        lines.append(f"  {len(held['failed']):,} queries keep first-stage order, the first: {name}: {reason}")
    return lines
