"""Devices by name: which ones an option means, and why one of them cannot be used here.

Nothing here starts a device: a name is looked at when the model is to be loaded on it.
"""

from __future__ import annotations

from dataclasses import dataclass

from unabridged._extras import require
from unabridged.errors import UsageError

AUTO = "auto"
ALL = "cuda:all"


@dataclass(frozen=True, slots=True)
class Seen:
    """What torch says of this machine's GPUs."""

    version: str
    cuda: str | None
    """That torch was built for; None for a build without."""
    gpus: int
    said: str = ""
    """Why there is none, in the driver's words."""

    @classmethod
    def now(cls) -> Seen:
        """Of this process."""
        torch = require("torch", extra="torch", purpose="transformer encoders")
        built = torch.version.cuda or getattr(torch.version, "hip", None)
        if built is None or torch.cuda.is_available():
            return cls(torch.__version__, built, torch.cuda.device_count() if built else 0)
        try:
            torch.cuda.init()
        except (RuntimeError, AssertionError) as error:
            return cls(torch.__version__, built, 0, str(error).strip().splitlines()[0])
        return cls(torch.__version__, built, 0)


def devices_of(text: str | None) -> list[str | None]:
    """The devices that ``--device`` means: ``auto`` is the best there is (None), a comma separates several.

    ``cuda:all`` is every GPU.  :class:`UsageError` for a name that no device can have.
    """
    if text is None or text == AUTO:
        return [None]
    names = [name.strip() for name in text.split(",")]
    found: list[str | None] = []
    for name in names:
        kind, _, number = name.partition(":")
        if name == ALL:
            found.extend(f"cuda:{place}" for place in range(_all(Seen.now())))
        elif not kind.isalpha() or (":" in name and not number.isdecimal()):
            raise UsageError(
                f"device={text!r}: {name!r} names no device. Write auto, cpu, cuda, cuda:1, mps, cuda:all for every "
                "GPU, or several with commas: cuda:0,cuda:1."
            )
        else:
            found.append(name)
    return found


def one_device(text: str | None) -> str | None:
    """The one device that a model lies on; None: the best there is.

    :class:`UsageError` for several, and for one that cannot be used here.
    """
    names = devices_of(text)
    if len(names) != 1:
        raise UsageError(f"device={text!r} names {len(names)} devices, and this model lies on one of them: name it.")
    if names[0] is not None:
        check_device(names[0])
    return names[0]


def check_device(name: str, seen: Seen | None = None) -> None:
    """:class:`UsageError` if ``name`` cannot be used here, with what was found and what to do."""
    devices_of(name)
    kind, _, number = name.partition(":")
    if kind == "cpu":
        return
    reason = why_not_cuda(seen or Seen.now(), int(number or 0)) if kind == "cuda" else why_not(name)
    if reason is not None:
        raise UsageError(f"The device {name!r} cannot be used: {reason}")


def why_not_cuda(seen: Seen, number: int) -> str | None:
    """Why GPU ``number`` cannot be used, for people; None if it can."""
    if seen.cuda is None:
        return (
            f"torch {seen.version} is built without CUDA. Install a build with it (pip install torch, from the index "
            "that pytorch.org names for your driver), or use --device cpu."
        )
    if "too old" in seen.said:
        return (
            f"{seen.said} torch {seen.version} is built for CUDA {seen.cuda}: update the driver, install a torch that "
            "is built for an older CUDA, or use --device cpu."
        )
    if seen.gpus == 0:
        said = f" ({seen.said})" if seen.said else ""
        return (
            f"torch {seen.version} for CUDA {seen.cuda} finds no GPU{said}. Look at what nvidia-smi and "
            "CUDA_VISIBLE_DEVICES say, or use --device cpu."
        )
    if number >= seen.gpus:
        here = ", ".join(f"cuda:{place}" for place in range(seen.gpus))
        return f"this process sees {seen.gpus} GPUs: {here}. Name one of them."
    return None


def why_not(name: str) -> str | None:
    """Why a device that is no GPU of CUDA cannot be used, in torch's words; None if it can: a number was put there."""
    torch = require("torch", extra="torch", purpose="transformer encoders")
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, ImportError, AttributeError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        return f"torch {torch.__version__} says: {said}. Use --device cpu, or auto for the best that is here."
    return None


def _all(seen: Seen) -> int:
    reason = why_not_cuda(seen, 0)
    if reason is not None:
        raise UsageError(f"The device {ALL!r} cannot be used: {reason}")
    return seen.gpus
