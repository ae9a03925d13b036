"""Whether FAISS can use a GPU here, and if not, why and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from unabridged.contracts import JSON
from unabridged.errors import MissingExtra, ResourceError, UnabridgedError, UsageError
from unabridged.index.dense._faiss import installed_wheels, load_faiss
from unabridged.index.dense.gpu.driver import Driver, Gpu, read_driver
from unabridged.index.dense.gpu.request import DeviceRequest
from unabridged.index.dense.gpu.wheel import INSTALL, KNOWN, cannot_run, shown, too_old


@dataclass(frozen=True, slots=True)
class Machine:
    """GPUs and FAISS as found."""

    driver: Driver
    wheels: tuple[str, ...]
    """Installed distributions that own the module."""
    compiled: frozenset[str]
    """Words of ``faiss.get_compile_options()``."""
    has_cagra: bool = False

    @property
    def cuvs(self) -> bool:
        """Whether FAISS was built with cuVS."""
        return "CUVS" in self.compiled

    @property
    def cagra(self) -> bool:
        """Whether graphs can be built and searched on a GPU: the build says so, and the class is there."""
        return self.cuvs and self.has_cagra


def find_machine(driver: Driver | None = None) -> Machine:
    """What is here.  Free memory is as of now.

    Raises:
        MissingExtra, ValidationError, RuntimeFailure: FAISS is absent, doubled or does not load.
    """
    faiss = load_faiss()
    words = frozenset(str(faiss.get_compile_options()).split())
    found = read_driver() if driver is None else driver
    return Machine(found, tuple(installed_wheels()), words, hasattr(faiss, "GpuIndexCagra"))


def examine_machine() -> tuple[Machine, str]:
    """What is here, also where FAISS does not load: then what is known of its wheel, and why it does not."""
    try:
        return find_machine(), ""
    except UnabridgedError as error:
        wheels = tuple(installed_wheels())
        words = frozenset({"GPU"}) if any(wheel in KNOWN for wheel in wheels) else frozenset[str]()
        return Machine(read_driver(), wheels, words), str(error)


def usable(machine: Machine, request: DeviceRequest) -> tuple[Gpu, ...]:
    """The GPUs that were asked for and that FAISS can use.

    Raises:
        MissingExtra: this FAISS has no code for GPUs, or none for the GPU at hand.
        ResourceError: no GPU, no driver, or one that is too old.
        UsageError: a device number that does not exist.
    """
    gpus = machine.driver.gpus
    owner = ", ".join(machine.wheels) or "FAISS"
    if not gpus:
        raise ResourceError(f"index device {request} was asked for, and {absent(machine.driver)}. Use: auto or cpu")
    if "GPU" not in machine.compiled:
        remove = " ".join(machine.wheels) or "faiss-cpu"
        raise MissingExtra(
            f"index device {request} was asked for, found {gpus[0].name} and {owner}, which is built without GPU code. "
            f"Install the wheel with it: {INSTALL.format(remove=remove)}"
        )
    if old := too_old(machine.wheels, machine.driver.version):
        raise ResourceError(f"index device {request} was asked for, and {old}")
    beyond = [number for number in request.numbers if number >= len(gpus)]
    if beyond:
        raise UsageError(
            f"index device {request} names cuda:{beyond[0]}, and there are {len(gpus)} GPUs, numbered from 0"
        )
    wanted = tuple(gpu for gpu in gpus if not request.numbers or gpu.number in request.numbers)
    reasons = [cannot_run(machine.wheels, gpu.name, gpu.capability) for gpu in wanted]
    able = tuple(gpu for gpu, reason in zip(wanted, reasons, strict=True) if not reason)
    if not able or (request.numbers and len(able) < len(wanted)):
        raise MissingExtra(next(reason for reason in reasons if reason))
    return able


def absent(driver: Driver) -> str:
    """Why there is no GPU."""
    if not driver.version:
        return "this machine has no NVIDIA driver (libcuda is not found)"
    if driver.fault:
        return f"the NVIDIA driver (CUDA {shown(driver.version)}) gives no GPU: {driver.fault}"
    return f"the NVIDIA driver (CUDA {shown(driver.version)}) shows no GPU (CUDA_VISIBLE_DEVICES may hide them)"


@lru_cache(maxsize=1)
def may_have_gpu() -> bool:
    """Whether FAISS has code for GPUs and the driver shows some: what ``auto`` looks at before anything else.

    Quick where there is none: the driver is only asked where the build has the code.
    """
    try:
        words = str(load_faiss().get_compile_options()).split()
    except UnabridgedError:
        return False  # whoever searches will be told
    return "GPU" in words and bool(read_driver(memory=False).gpus)


def gpu_facts(machine: Machine, fault: str = "") -> Mapping[str, JSON]:
    """What ``doctor`` says: driver, GPUs, whether FAISS can use them, and warnings that name the way out.

    ``fault``: why FAISS does not load.
    """
    gpus = machine.driver.gpus
    warnings: list[Any] = [fault] if fault else []
    if len(machine.wheels) > 1:
        warnings.append(f"{len(machine.wheels)} packages install a module named faiss: {', '.join(machine.wheels)}")
    if gpus and "GPU" not in machine.compiled:
        warnings.append(
            f"{', '.join(machine.wheels) or 'FAISS'} is built without GPU code; for the GPU: "
            + INSTALL.format(remove=" ".join(machine.wheels) or "faiss-cpu")
        )
    if gpus and "GPU" in machine.compiled:
        found = [too_old(machine.wheels, machine.driver.version)]
        found += [cannot_run(machine.wheels, gpu.name, gpu.capability) for gpu in gpus]
        warnings += dict.fromkeys(reason for reason in found if reason)
    return {
        "driver": shown(machine.driver.version) if machine.driver.version else None,
        "gpus": [str(gpu) for gpu in gpus] or absent(machine.driver),
        "faiss": "GPU with cuVS" if machine.cuvs else "GPU" if "GPU" in machine.compiled else "CPU only",
        "usable": bool(gpus) and "GPU" in machine.compiled and not warnings,
        "warnings": warnings,
    }
