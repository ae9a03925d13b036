"""The FAISS wheels with code for GPUs: which GPUs each can run on, and which driver it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

INSTALL = 'pip uninstall -y {remove} && pip install "faiss-gpu>=1.15"'
"""The command that brings the wheel of the ``gpu`` extra."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """Device code found in a wheel's library: compiled for ``binaries``, and an intermediate form from ``portable`` on.

    Code compiled for 8.6 runs on 8.6 and 8.9, never on 9.0; the intermediate form runs on its own capability and all
    later ones, compiled by the driver when it is loaded.
    """

    binaries: tuple[tuple[int, int], ...]
    portable: tuple[int, int] | None
    driver: int
    """The oldest CUDA version that a driver must serve, as 12000 for 12.0."""

    def runs_on(self, capability: tuple[int, int]) -> bool:
        """Whether there is code for a GPU of this compute capability."""
        major, minor = capability
        compiled = any(own[0] == major and own[1] <= minor for own in self.binaries)
        return compiled or (self.portable is not None and self.portable <= capability)


_META = ((7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0))
KNOWN = {
    "faiss-gpu": Wheel(_META, (9, 0), 12_000),
    "faiss-gpu-cuvs": Wheel(_META[1:], (9, 0), 13_000),
    "faiss-gpu-cu12": Wheel(((7, 0), (8, 0)), None, 12_000),
    "faiss-gpu-cu11": Wheel(((7, 0), (8, 0)), None, 11_000),
    "faiss-cuda": Wheel(((7, 0), (8, 0), (8, 6), (8, 9), (9, 0)), None, 12_000),
}
"""Distribution -> what its library holds (read out of 1.15.1, 1.14.1 and 1.14.3; builds of CUDA 12 run on every driver
of CUDA 12)."""


def wheel_of(owners: Sequence[str]) -> Wheel | None:
    """What is known of the one installed wheel; None for an unknown one, one without device code, or several."""
    return KNOWN.get(owners[0]) if len(owners) == 1 else None


def cannot_run(owners: Sequence[str], name: str, capability: tuple[int, int]) -> str:
    """Why the installed wheel has nothing to run on this GPU, with the way out; empty where it has or is unknown."""
    wheel = wheel_of(owners)
    if wheel is None or wheel.runs_on(capability):
        return ""
    compiled = ", ".join(f"{major}.{minor}" for major, minor in wheel.binaries)
    return (
        f"{owners[0]} holds code for compute capability {compiled} only, and {name} has "
        f"{capability[0]}.{capability[1]}: {INSTALL.format(remove=owners[0])}"
    )


def too_old(owners: Sequence[str], driver: int) -> str:
    """Why the driver does not serve the installed wheel, with the way out; empty where it does or is unknown."""
    wheel = wheel_of(owners)
    if wheel is None or driver >= wheel.driver:
        return ""
    return (
        f"the NVIDIA driver serves CUDA {shown(driver)}, and {owners[0]} needs a driver of CUDA "
        f"{shown(wheel.driver)} or later: update the driver"
    )


def shown(version: int) -> str:
    """12040 as 12.4."""
    return f"{version // 1000}.{version % 1000 // 10}"
