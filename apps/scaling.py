"""``plan --documents``: a corpus that is not at hand yet, on paper; with SOURCES, from a sample of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unabridged.apps.loading import load_corpus
from unabridged.apps.output import Output, emit, say
from unabridged.apps.planning import planned, size
from unabridged.apps.progress import duration
from unabridged.contracts import Encoder, OverflowPolicy
from unabridged.encoders.load import load_encoder
from unabridged.errors import UsageError
from unabridged.index.backends.address import MILVUS, POSTGRES, is_address, parse_address
from unabridged.retrievers.api import settings_from
from unabridged.retrievers.arithmetic import encoder_config, flops_per_token
from unabridged.retrievers.plan import Plan
from unabridged.retrievers.scale import ScalePlan, plan_scale
from unabridged.retrievers.scale_question import TOKENS, Question, Sum
from unabridged.retrievers.settings import BuildSettings

GIGA = 1 << 30
LEAST_GIB, MOST_GIB = 0.001, 1 << 15
ENGINES = {MILVUS: "milvus", POSTGRES: "pgvector"}
"""The scheme of an engine's address -> the backend that is planned; nobody is asked at that address."""


def run_scale(
    sources: Sequence[str],
    reading: Mapping[str, Any],
    encoder: str | None,
    loading: Mapping[str, Any],
    building: Mapping[str, Any],
    asked: Mapping[str, Any],
    output: Output,
    calibrate: bool | None = None,
) -> None:
    """Prints what ``asked`` documents take; ``asked`` has the options that were given, memory and disks in GiB."""
    question = question_of(sources, reading, encoder, loading, building, asked, calibrate)
    answer = plan_scale(question)
    if output is Output.JSON:
        emit({"documents": question.documents, **answer.as_json()})
    else:
        say(describe_scale(question, answer))


def question_of(
    sources: Sequence[str],
    reading: Mapping[str, Any],
    encoder: str | None,
    loading: Mapping[str, Any],
    building: Mapping[str, Any],
    asked: Mapping[str, Any],
    calibrate: bool | None = None,
) -> Question:
    """The question; what is not given comes from a plan over ``sources``, where there are any.

    Raises:
        UsageError: numbers that cannot be meant.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    documents = given.pop("documents")
    if is_address(given.get("backend", "")):
        given["backend"] = ENGINES[parse_address(given["backend"]).scheme]
    if documents != documents or documents in (float("inf"), float("-inf")) or documents != int(documents):
        raise UsageError(f"--documents is a whole number such as 3e9, got {documents!r}")
    for name, option in (("ram", "--ram"), ("disk", "--disk"), ("vram", "--gpu-memory")):
        if name in given:
            if not LEAST_GIB <= given[name] <= MOST_GIB:
                raise UsageError(f"{option} is in GiB, from {LEAST_GIB:g} to {MOST_GIB:,}, got {given[name]:g}")
            given[name] = int(given[name] * GIGA)
    settings = BuildSettings(**settings_from(building))
    loaded = load_encoder(encoder, **loading)
    found: dict[str, Any] = {
        "documents": int(documents),
        "dim": loaded.dim,
        "window": loaded.window,
        "level": settings.level,
        "recipe": settings.recipe,
        "vector_dtype": settings.vector_dtype,
        "operations_per_token": flops_per_token(encoder_config(loaded)),
    }
    tokens = given.get("tokens_per_document", TOKENS)
    if not sources:
        found |= _segments(settings.overflow, loaded, tokens)
    Question(**{**found, **given})  # refused before a sample is read
    if sources:
        disk = shutil.disk_usage(Path.cwd()).total
        found |= of_sample(planned(load_corpus(sources, reading), encoder, loading, settings, disk, calibrate))
    if (found | given).get("gpu_tokens_per_second") is not None:
        given.setdefault("gpus", 1)  # a rate that was measured or given is that of a GPU that is there
    return Question(**{**found, **given})


def _segments(overflow: OverflowPolicy, encoder: Encoder, tokens: float) -> dict[str, float]:
    """Segments of a document where they are no whole windows of all its tokens.

    Raises:
        UsageError: a policy under which documents of so many tokens are not read to their end.
    """
    capacity = max(1, encoder.window - 2)
    if overflow in (OverflowPolicy.WARN, OverflowPolicy.TRUNCATE, OverflowPolicy.ERROR) and tokens > capacity:
        raise UsageError(
            f"--overflow {overflow.value} reads {capacity:,} tokens of a document, and these have {tokens:,g}: give "
            f"--tokens-per-document {capacity}, or a sample of them as SOURCES"
        )
    late = getattr(encoder, "late_tokens", None)
    return {"segments_per_document": max(1.0, tokens / late)} if late else {}


def of_sample(plan: Plan) -> dict[str, Any]:
    """What a plan over a sample says of the whole."""
    found: dict[str, Any] = {
        "tokens_per_document": max(0.1, plan.tokens_read / plan.documents),
        "segments_per_document": max(0.1, plan.segments / plan.documents),
        "text_bytes_per_document": max(0.1, plan.parts["disk"]["texts, BM25 and ledger"] / plan.documents),
    }
    measured = plan.assumptions.get("measured")
    if measured is not None and plan.tokens_per_second is not None:
        kind = "cpu" if measured["device"] == "cpu" else "gpu"
        found[f"{kind}_tokens_per_second"] = plan.tokens_per_second
    return found


def describe_scale(question: Question, answer: ScalePlan) -> str:
    """The answer for people: figures with their sums, assumptions, limits, and what does not fit."""
    lines = [f"{question.documents:,} documents, backend {answer.backend}, {question.dim:,} dimensions"]
    lines += table(answer.sums)
    lines += ["", "assumed:", *table(answer.assumptions)]
    if answer.limits:
        lines += ["", "limits:", *(f"  {one}" for one in answer.limits)]
    lines += (
        ["", "does not fit:", *(f"  {one}" for one in answer.does_not_fit)] if answer.does_not_fit else ["", "it fits"]
    )
    return "\n".join(lines)


def table(sums: Sequence[Sum]) -> list[str]:
    """One line for each figure, in columns."""
    rows = [(one.name, shown(one), one.how) for one in sums]
    first = max((len(name) for name, _, _ in rows), default=0)
    second = max((len(value) for _, value, _ in rows), default=0)
    return [f"  {name:<{first}}  {value:>{second}}  {how}".rstrip() for name, value, how in rows]


def shown(one: Sum) -> str:
    """A figure as people read it."""
    if one.value is None:
        return "unknown"
    kind, _, per = one.unit.partition(" per ")
    if kind == "bytes":
        return size(one.value) + (f" per {per}" if per else "")
    if kind == "seconds":
        return long_duration(one.value)
    number = f"{one.value:,.0f}" if abs(one.value) >= 100 or one.value == int(one.value) else f"{one.value:,.3g}"
    return f"{number} {one.unit}".rstrip()


def long_duration(seconds: float) -> str:
    """As :func:`duration`, and days and years from two days on."""
    days = seconds / 86_400
    if days < 2:
        return duration(seconds)
    return f"{days:,.1f} days" if days < 730 else f"{days / 365.25:,.1f} years"
