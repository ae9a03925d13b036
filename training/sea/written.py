"""What a training of an aggregator leaves behind: its folder and its model card."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from unabridged.contracts import JSON, Encoder
from unabridged.encoders.sea import folder
from unabridged.encoders.sea.encoder import SeaEncoder
from unabridged.training.card import Card
from unabridged.training.sea.judge import MEASURE

if TYPE_CHECKING:
    from unabridged.training.sea.train import Plan, Report


def write(encoder: Callable[[Path], SeaEncoder], text: str, work: Path) -> None:
    """Makes the folder ``work / "folder"``, with the card."""
    made = work / "folder"
    for name in ("trained", "folder"):
        shutil.rmtree(work / name, ignore_errors=True)
    made.mkdir()
    folder.write(encoder(work), made)
    (made / "README.md").write_text(text, encoding="utf-8")


def card(plan: Plan, described: Sequence[Mapping[str, JSON]], report: Report, teacher: Encoder | None) -> str:
    """README.md; every number comes from the run."""
    base = plan.base.passport
    counts = report.counts
    model = {
        "aggregator": plan.shape.kind,
        "layers of attention": plan.shape.layers,
        "blocks of": Path(base.source).name,
        "its settings": base.facts.get("settings", {}),
        "its fingerprint": base.fingerprint,
        "trained": "encoder and aggregator" if plan.full else "aggregator over blocks that do not change",
    }
    shown = {name: getattr(report, name) for name in ("steps", "first_loss", "last_loss", "kept_step")}
    named = None
    if teacher is not None:
        passport = teacher.passport
        named = {"best blocks of": Path(passport.source).name, "fingerprint": passport.fingerprint}
    judged = report.score is not None
    apart = "pairs of the data" if plan.judging.hold_out else "a set of its own"
    held = {"name": apart, "queries": counts.get("questions"), "cut": 0,
            "documents": counts.get("candidates")}  # fmt: skip
    nothing = {"texts": 0, "tokens": 0, "cut": 0, "tokens_cut": 0, "empty": 0}
    read = {
        "queries": {**nothing, "texts": counts["questions_read"], "cut": counts.get("questions_cut", 0)},
        "documents": {**nothing, "texts": counts["documents"], "tokens": counts.get("document_tokens", 0)},
    }
    return Card(
        title=plan.title,
        licence=plan.licence,
        command=plan.command,
        model=model,
        objective={**asdict(plan.objective), **asdict(plan.drawing), "similarity": "dot" if plan.dot else "cosine"},
        schedule=asdict(plan.schedule),
        data=described,
        read={"pairs": counts["pairs"], "negatives": counts["negatives"], "unreadable": 0, "read": read},
        report=shown,
        evaluations=report.evaluations,
        held_out=held if judged else None,
        teacher=named,
        tags="code, retrieval, sentence-similarity",
        about="An encoder of code: blocks by syntax, each with its vector, and what of them is a function's own.",
        measure=f"{MEASURE}, long",
        more=_table(report),
    ).markdown()


def _table(report: Report) -> list[str]:
    """What was written beside what needs no training."""
    if report.score is None:
        return []
    counts = report.counts
    rows = [f"Long are the {counts['long']:,} of {counts['questions']:,} questions whose code has several blocks.", ""]
    rows += [f"| a document is | {MEASURE}, all | {MEASURE}, long |", "|---|---:|---:|"]
    for name, said in {"this aggregator's vector": report.score, **report.baselines}.items():
        rows.append(f"| {name} | {said['all']:.4f} | {said['long']:.4f} |")
    return [*rows, ""]
