"""A corpus that is not at hand yet, on paper: vectors, bytes, machines, hours and costs, with the sums shown.

Pure functions of numbers.  What is not given is assumed, and the assumption is part of the answer; what was never
measured (a server of Milvus, a GPU of unknown rate) has no time, and the answer says what to give for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from unabridged.retrievers.plan import LEXICAL_BYTES, ROW_BYTES, WINDOW_FILL
from unabridged.retrievers.rates import BUILD, ENCODE, ENCODE_FLOPS
from unabridged.retrievers.scale_engines import need_of
from unabridged.retrievers.scale_question import TOKEN_BYTES, TOKENS, Load, Question, Sum, load_of, segments_of


@dataclass(frozen=True, slots=True)
class ScalePlan:
    """The answer: figures in order, what was assumed, what binds, and what does not fit and why."""

    backend: str
    sums: tuple[Sum, ...]
    assumptions: tuple[Sum, ...]
    limits: tuple[str, ...]
    does_not_fit: tuple[str, ...]
    recipes: dict[str, Any] = field(default_factory=dict)
    """Vector set -> the recipe, or the engine's own index."""

    @property
    def fits(self) -> bool:
        """Whether nothing stands against it."""
        return not self.does_not_fit

    def value(self, name: str) -> float | None:
        """The figure of that name.

        Raises:
            KeyError: there is none.
        """
        return {one.name: one.value for one in self.sums}[name]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "fits": self.fits}


def amounts(question: Question, load: Load) -> list[Sum]:
    """What there is to encode and to keep."""
    n, per = question.documents, question.tokens_per_document or TOKENS
    found = [
        Sum("tokens", load.tokens, "", f"{n:,} documents x {per:,g}"),
        Sum("segments", load.segments, "", f"{n:,} x {segments_of(question):,.3g}"),
        Sum("vectors", load.rows, "", " + ".join(f"{rows:,} {name}" for name, rows in load.sets.items())),
        Sum(
            "stored vectors",
            load.vector_bytes,
            "bytes",
            f"{load.rows:,} x {question.dim:,} x {load.row_bytes // question.dim} bytes",
        ),
    ]
    if question.text_bytes_per_document is None:
        how = f"tokens x {TOKEN_BYTES:g} x {1 + LEXICAL_BYTES:g} + segments x {ROW_BYTES}"
    else:
        how = f"{n:,} x {question.text_bytes_per_document:,.0f}, as in the sample"
    return [*found, Sum("texts, BM25 and ledger", load.text_bytes, "bytes", how)]


def encoding(question: Question, load: Load, machines: int) -> Sum:
    """Seconds of encoding on all machines; by GPUs where there are any."""
    rate, what = machine_rate(question), f"{machines:,} machines"
    if question.gpus:
        what = f"{question.gpus * machines:,} GPUs"
    if rate is None:
        name = "gpu" if question.gpus else "cpu"
        how = f"no rate is known: give --{name}-tokens-per-second, or a sample as SOURCES on such a machine"
        return Sum("encoding", None, "seconds", how)
    how = f"{load.tokens:,.0f} tokens / {rate * machines:,.0f}/s of {what}"
    return Sum("encoding", load.tokens / (rate * machines), "seconds", how)


def machine_rate(question: Question) -> float | None:
    """Tokens per second of one machine with all its GPUs; None where nothing is known of it."""
    if question.gpus:
        own = question.gpu_tokens_per_second
        return None if own is None else own * question.gpus
    if question.cpu_tokens_per_second is not None or question.operations_per_token is None:
        return question.cpu_tokens_per_second
    return ENCODE.value * ENCODE_FLOPS / question.operations_per_token


def costs(question: Question, times: Sequence[tuple[Sum, int]]) -> list[Sum]:
    """Hours of all machines, and their price where one was given; ``times`` is each with its machines."""
    if any(one.value is None for one, _ in times):
        return [Sum("machine hours", None, "hours", "a time is unknown")]
    hours = sum((one.value or 0.0) / 3600 * machines for one, machines in times)
    how = " + ".join(f"{one.name} x {machines:,}" for one, machines in times)
    found = [Sum("machine hours", hours, "hours", how)]
    if question.price_per_hour is not None:
        price = question.price_per_hour
        found.append(Sum("cost", hours * price, "as the price", f"{hours:,.1f} hours x {price:,g}"))
    return found


def plan_scale(question: Question) -> ScalePlan:
    """The answer to ``question``; it grows with the documents in every figure.

    Raises:
        UsageError: a recipe that does not exist, or that cannot be built over so few or so wide rows.
    """
    load = load_of(question)
    need = need_of(question, load, BUILD)
    encoders = question.encoding_machines or need.machines
    times = [(encoding(question, load, encoders), encoders)]
    if need.build_seconds is not None:
        times.append((need.build_seconds, need.machines))
    return ScalePlan(
        backend=question.backend,
        sums=(
            *amounts(question, load),
            Sum("machines", need.machines, "", "as asked" if question.machines else "the fewest that fit"),
            *need.sums,
            *(one for one, _ in times),
            *costs(question, times),
        ),
        assumptions=(*assumed(question), *need.assumptions),
        limits=tuple(dict.fromkeys(need.limits)),
        does_not_fit=tuple(dict.fromkeys(need.against)),
        recipes=need.recipes,
    )


def assumed(question: Question) -> list[Sum]:
    """What was not given, and what of a machine the figures are for."""
    found = [
        Sum("memory of a machine", question.ram, "bytes", "--ram"),
        Sum("disk of a machine", question.disk, "bytes", "--disk"),
    ]
    if question.tokens_per_document is None:
        found.append(
            Sum("tokens per document", TOKENS, "", "assumed; give --tokens-per-document, or a sample as SOURCES")
        )
    if question.segments_per_document is None:
        found.append(Sum("part of a window filled", WINDOW_FILL, "", "measured on prose and code"))
    if question.text_bytes_per_document is None:
        found.append(Sum("bytes of text per token", TOKEN_BYTES, "", "measured on the demo's speeches"))
        found.append(Sum("BM25 per byte of text", LEXICAL_BYTES, "", "measured on English prose"))
    if question.gpus:
        found.append(Sum("memory of a GPU", question.vram, "bytes", "--gpu-memory"))
        if question.gpu_tokens_per_second is not None:
            found.append(
                Sum("encoding on a GPU", question.gpu_tokens_per_second, "tokens/s", "as given, not measured here")
            )
    elif question.cpu_tokens_per_second is None:
        scaled = "" if question.operations_per_token in (None, ENCODE_FLOPS) else ", scaled by operations per token"
        found.append(Sum("encoding on a machine", machine_rate(question), "tokens/s", ENCODE.source + scaled))
    else:
        found.append(Sum("encoding on a machine", question.cpu_tokens_per_second, "tokens/s", "as given or tried"))
    if question.backend in ("local", "shards", "gpu"):
        found.append(Sum("building", BUILD.value, "operations/s", BUILD.source))
    if question.load_rows_per_second is not None:
        found.append(Sum("loading", question.load_rows_per_second, "vectors/s", "as given, not measured here"))
    return found
