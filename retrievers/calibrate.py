"""Tries on passages of the user's own corpus what indexing takes on this machine: seconds, memory, disk.

Rates are measured with the real encoder over whole windows in the mix that the corpus has (documents that fit a
window, and longer ones); everything beside the encoder by building an index over the same passages with vectors
that cost nothing.  Run it in a process of its own: then what it finds of start and memory is what ``index`` takes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from unabridged.contracts import Encoder, OverflowPolicy
from unabridged.memory import give_back
from unabridged.retrievers.calibration import Calibration, Kind, Sample, Spent
from unabridged.retrievers.free import built
from unabridged.retrievers.peak import peak_ram, reset_peak, resident_ram
from unabridged.retrievers.settings import BuildSettings

SECONDS = 5.0
"""How long documents of each kind are encoded, on a machine that does nothing else: some ten batches, after which the
threads' buffers have the size that they have in a long run."""
TRIED_UNIT = 400_000
"""Characters of the text whose tokens are held in memory to see what they take."""
TOKEN_RAM = 145.0
"""Bytes that the tokens of a character take in one unit, where it was not measured (0.4 and 4 M characters of English
prose, WordPiece of 30,000 words): identifiers, words, offsets."""
WARM_WINDOWS = 8


def calibrate(
    encoder: Encoder, sample: Sample, settings: BuildSettings, *, started: Spent, seconds: float = SECONDS
) -> Calibration:
    """What ``encoder`` and the build take here; ``started`` is when the program started, on the clocks of ``Spent``."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if settings.overflow is OverflowPolicy.ERROR:
        settings = replace(settings, overflow=OverflowPolicy.SPLIT)
    texts = [*sample.long, *sample.short] or ["a"]
    aside = Spent.now()
    # Before the model is there: later, what was freed between live objects would be taken for free.
    per_character = _of_tokens(encoder, sample, settings)
    give_back()
    aside = aside.ago
    _encode(encoder, [texts[0][: sample.segment_characters]], settings)
    start = started.ago + aside.times(-1)
    rate = _warm(encoder, texts, sample, settings)
    if per_character is None:
        per_character = _of_unit(encoder, sample, settings, rate)
    reset_peak()
    tried = {name: _tried(encoder, getattr(sample, name), rate, settings, seconds) for name in ("short", "long")}
    characters, peak = max(spent[2] for spent in tried.values()), peak_ram()
    give_back()
    base = resident_ram()
    fixed, fixed_disk = built(["a few words"], encoder, sample.segment_characters, settings)
    kinds: dict[str, Kind] = {}
    for name, (per_token, tokens, _) in tried.items():
        own = list(getattr(sample, name))
        beside, disk = built(own, encoder, sample.segment_characters, settings) if own else (Spent(), 0)
        total = max(1, sum(map(len, own)))
        more = Spent(max(0.0, beside.wall - fixed.wall), max(0.0, beside.cpu - fixed.cpu)).times(1 / total)
        kinds[name] = Kind(per_token, more if own else None, max(0, disk - fixed_disk) / total, tokens)
    work = max(0, round(peak - base - per_character * characters))
    return Calibration(
        start=start,
        fixed=fixed,
        fixed_disk=fixed_disk,
        short=kinds["short"],
        long=kinds["long"],
        ram_base=base,
        ram_work=work,
        ram_per_character=per_character,
        device=_device(encoder),
        threads=_threads(),
        load=load,
    )


def _encode(encoder: Encoder, texts: Sequence[str], settings: BuildSettings) -> tuple[Spent, int]:
    """What one unit took, and the tokens that were read."""
    since = Spent.now()
    encoded = encoder.encode_documents(texts, level=settings.level, overflow=settings.overflow)
    return since.ago, int(encoded.coverage.seen.sum())


def _warm(encoder: Encoder, texts: Sequence[str], sample: Sample, settings: BuildSettings) -> float:
    """Characters per second, roughly, after buffers and threads are there, as if nothing else ran on the machine.

    Other programs must not shorten what is tried: then buffers would not have their full size.
    """
    size, rate = sample.segment_characters, 0.0
    for windows in (1, WARM_WINDOWS):
        chosen = _first(texts, windows * size)
        spent, _ = _encode(encoder, chosen, settings)
        alone = min(spent.wall, spent.cpu / _threads()) if _device(encoder) == "cpu" else spent.wall
        rate = sum(map(len, chosen)) / max(alone, 1e-6)
        if spent.wall > 4 * SECONDS:
            break
    return rate


def _tried(
    encoder: Encoder, texts: Sequence[str], rate: float, settings: BuildSettings, seconds: float
) -> tuple[Spent | None, int, int]:
    """Time per token over about ``seconds`` of encoding, with the tokens and characters that were tried."""
    chosen = _first(texts, round(rate * seconds))
    if not chosen:
        return None, 0, 0
    spent, tokens = _encode(encoder, chosen, settings)
    return (spent.times(1 / tokens) if tokens else None), tokens, sum(map(len, chosen))


def _first(texts: Sequence[str], characters: int) -> list[str]:
    """The first of ``texts``, the last of them cut, with so many characters together; one at least."""
    chosen: list[str] = []
    for text in texts:
        chosen.append(text[: max(1, characters)])
        characters -= len(text)
        if characters <= 0:
            break
    return chosen


def _of_tokens(encoder: Encoder, sample: Sample, settings: BuildSettings) -> float | None:
    """Bytes that the tokens of a character take while a unit is encoded.

    None for encoders that do not give tokens apart from vectors.
    """
    find = getattr(encoder, "sequences", None)
    if find is None:
        return None
    from unabridged.encoders.reading import Distinct

    texts = list(unit_of(sample))
    find(Distinct.of([texts[0][: sample.segment_characters]]), settings.overflow)
    base = resident_ram()
    reset_peak()
    find(Distinct.of(texts), settings.overflow)
    return max(0.0, peak_ram() - base) / sum(map(len, texts))


def _of_unit(encoder: Encoder, sample: Sample, settings: BuildSettings, rate: float) -> float:
    """The same of an encoder that is asked for vectors, if that takes no longer than the rest."""
    texts = list(unit_of(sample))
    size = sum(map(len, texts))
    if size > rate * SECONDS:
        return TOKEN_RAM
    give_back()
    base = resident_ram()
    reset_peak()
    _encode(encoder, texts, settings)
    return max(0.0, peak_ram() - base) / size


def unit_of(sample: Sample) -> Iterator[str]:
    """Texts of the shape of the largest unit, its longest document first; no more than ``TRIED_UNIT`` characters."""
    size = max(1, min(sample.unit, TRIED_UNIT))
    longest = max(1, round(min(sample.longest, sample.unit) * size / max(sample.unit, 1)))
    source = "\n".join([*sample.long, *sample.short]) or "a "
    yield (source * (longest // len(source) + 1))[:longest]
    left = size - longest
    yield from _first([*sample.short, *sample.long], left) if left > 0 else ()


def _device(encoder: Encoder) -> str:
    runner = getattr(encoder, "_runner", None)
    return "cpu" if runner is None else str(runner.backends[0].device)


def _threads() -> int:
    torch = sys.modules.get("torch")
    return (os.cpu_count() or 1) if torch is None else int(torch.get_num_threads())
