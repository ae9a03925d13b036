"""What NVIDIA's driver says of the GPUs, asked without any CUDA package.

FAISS aborts the process where the driver is too old for it, so nothing of FAISS may be asked before this.  Device
numbers are those of CUDA: ``CUDA_VISIBLE_DEVICES`` and ``CUDA_DEVICE_ORDER`` hold here as they do for FAISS.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

_SHARED_MEMORY, _MAJOR, _MINOR = 8, 75, 76
"""Numbers of CUdevice_attribute: shared memory per block, compute capability."""
NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE."""
_NAME_BYTES = 256
SHARED = 49_152
"""Bytes of shared memory that a block of threads has on every GPU since 2010 without asking for more."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU.  Sizes are bytes."""

    number: int
    name: str
    capability: tuple[int, int]
    """Compute capability, such as (9, 0) of an H100 or H200."""
    total: int
    free: int
    """What can be allocated now; equal to ``total`` where the driver would not say."""
    shared: int = SHARED
    """Shared memory of one block of threads."""

    def __str__(self) -> str:
        """For people."""
        major, minor = self.capability
        return (
            f"cuda:{self.number} {self.name}, compute capability {major}.{minor}, "
            f"{self.free / 2**30:.1f} of {self.total / 2**30:.1f} GiB free"
        )


@dataclass(frozen=True, slots=True)
class Driver:
    """The driver and its GPUs.  ``version`` is the newest CUDA it serves, as 12040 for 12.4; 0: there is no driver."""

    version: int = 0
    gpus: tuple[Gpu, ...] = ()
    fault: str = ""
    """Why there is no GPU although there is a driver."""


def read_driver(library: Any = None, *, memory: bool = True) -> Driver:
    """What the driver says; ``library`` is its loaded library, looked for where it is not given.

    Without ``memory`` the free bytes are not asked for, which takes tenths of a second for each GPU not yet in use.
    """
    cuda = _loaded() if library is None else library
    if cuda is None:
        return Driver()
    version, count = ctypes.c_int(), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    for name, arguments in (("cuInit", (0,)), ("cuDeviceGetCount", (ctypes.byref(count),))):
        code = int(getattr(cuda, name)(*arguments))
        if code:
            return Driver(version.value, (), "" if code == NO_DEVICE else f"{name} failed with CUDA error {code}")
    return Driver(version.value, tuple(_gpu(cuda, number, memory) for number in range(count.value)))


def _loaded() -> Any:
    """The driver's library, or None where this machine has none."""
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError:
        return None


def _gpu(cuda: Any, number: int, memory: bool) -> Gpu:
    device, total = ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    cuda.cuDeviceGet(ctypes.byref(device), number)
    cuda.cuDeviceGetName(name, _NAME_BYTES, device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(total), device)
    free = _free(cuda, device) if memory else None
    return Gpu(
        number,
        name.value.decode("utf-8", "replace"),
        (_attribute(cuda, _MAJOR, device), _attribute(cuda, _MINOR, device)),
        total.value,
        total.value if free is None else free,
        _attribute(cuda, _SHARED_MEMORY, device) or SHARED,
    )


def _attribute(cuda: Any, which: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(value), which, device)
    return value.value


def _free(cuda: Any, device: ctypes.c_int) -> int | None:
    """Free bytes, asked in the context that every user of the device in this process shares; None: no answer."""
    context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    if cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
        return None
    try:
        if cuda.cuCtxPushCurrent_v2(context):
            return None
        try:
            return None if cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) else free.value
        finally:
            cuda.cuCtxPopCurrent_v2(ctypes.byref(context))
    finally:
        cuda.cuDevicePrimaryCtxRelease_v2(device)
