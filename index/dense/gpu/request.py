"""Where a user wants vectors to be searched, as one short text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from unabridged.errors import UsageError

GRAMMAR = "auto, cpu, cuda, cuda:0 or cuda:0,1, and behind cuda any of +replicate, +shard, +float16, +float32"
SPREADS = ("replicate", "shard")
PRECISIONS = ("float16", "float32")

_TEXT = re.compile(r"(?P<kind>auto|cpu|cuda)(?::(?P<numbers>\d{1,4}(?:,\d{1,4})*))?(?P<words>(?:\+\w+)*)")


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """What was asked for.  Empty parts are chosen by free memory."""

    kind: str
    """``auto`` (a GPU where that pays, without a word where it does not), ``cpu``, or ``cuda`` (a GPU or an error)."""
    numbers: tuple[int, ...] = ()
    """CUDA device numbers, ascending; none: those that the machine has."""
    spread: str = ""
    """Over several GPUs: ``replicate`` (all of it on each) or ``shard`` (a part on each)."""
    precision: str = ""
    """Of flat vectors on the device: ``float16`` or ``float32``."""

    @property
    def is_forced(self) -> bool:
        """Whether the absence of a usable GPU is an error."""
        return self.kind == "cuda"

    def __str__(self) -> str:
        """The text that gives this request."""
        numbers = f":{','.join(map(str, self.numbers))}" if self.numbers else ""
        return self.kind + numbers + "".join(f"+{word}" for word in (self.spread, self.precision) if word)


def parse_device(text: str | DeviceRequest) -> DeviceRequest:
    """The request that ``text`` names.

    Raises:
        UsageError: another text than :data:`GRAMMAR` allows, a device twice, or words that contradict each other.
    """
    if isinstance(text, DeviceRequest):
        return text
    match = _TEXT.fullmatch(text.strip().lower()) if isinstance(text, str) else None
    if match is None or (match["kind"] != "cuda" and (match["numbers"] or match["words"])):
        raise UsageError(f"found index device {text!r}, expected {GRAMMAR}")
    numbers = tuple(int(number) for number in (match["numbers"] or "").split(",") if number)
    words = [word for word in match["words"].split("+") if word]
    unknown = [word for word in words if word not in (*SPREADS, *PRECISIONS)]
    if len(set(numbers)) != len(numbers) or unknown:
        raise UsageError(f"found index device {text!r}, expected {GRAMMAR}, each device once")
    spreads, precisions = ([word for word in words if word in known] for known in (SPREADS, PRECISIONS))
    if len(spreads) > 1 or len(precisions) > 1:
        raise UsageError(f"found index device {text!r}: choose one of {spreads or precisions}")
    return DeviceRequest(match["kind"], tuple(sorted(numbers)), "".join(spreads), "".join(precisions))
