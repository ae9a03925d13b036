"""Moves an opened set to the GPUs that were asked for, as far as they hold it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unabridged.errors import RuntimeFailure
from unabridged.index.dense.base import Base, FaissBase
from unabridged.index.dense.gpu.devices import held
from unabridged.index.dense.gpu.driver import Gpu
from unabridged.index.dense.gpu.kinds import FLAT
from unabridged.index.dense.gpu.machine import Machine, find_machine, may_have_gpu, usable
from unabridged.index.dense.gpu.memory import Unfit, is_full
from unabridged.index.dense.gpu.placement import SMALL_FLOATS, Load, Placement, on_cpu, placements, room_on
from unabridged.index.dense.gpu.request import DeviceRequest, parse_device
from unabridged.index.dense.gpu.trail import Trail
from unabridged.index.dense.index import DenseIndex


def checked(device: str | DeviceRequest) -> DeviceRequest:
    """The request that ``device`` names, refused at once where a GPU is asked for that cannot be had.

    Raises:
        MissingExtra, ResourceError, UsageError: as :func:`placed`.
    """
    request = parse_device(device)
    if request.is_forced:
        usable(find_machine(), request)
    return request


def placed(index: DenseIndex, device: str | DeviceRequest, *, name: str = "vectors", graph: str = "") -> DenseIndex:
    """``index`` where ``device`` says; its ``placement`` says where that is.

    What is tried and does not fit is given back, and the next place is tried; the last one is the CPU.  ``name``
    stands in front of the reasons in notes, ``graph`` is what a graph was built by.

    Raises:
        MissingExtra, ResourceError, UsageError: a GPU was asked for by ``cuda`` and there is none that FAISS can use.
        RuntimeFailure: FAISS failed on a GPU asked for by ``cuda`` for another reason than memory.
    """
    request = parse_device(device)
    load = load_of(index, graph)
    skip = _without_asking(load, request)
    if skip is not None:
        return _stays(index, skip)
    machine = find_machine()
    gpus = machine_gpus(machine, request)
    ladder = placements(load, gpus, request, cuvs=machine.cagra if graph else machine.cuvs, held=held())
    why = ""
    for place in ladder:
        if not place.on_gpu:
            return _stays(index, replace(place, reason=f"{place.reason}: {why}" if why else place.reason))
        try:
            return _moved(index, place, gpus, Trail(name))
        except Unfit as error:
            why = str(error)
        except (RuntimeError, MemoryError) as error:
            why = " ".join(str(error).split())
            if not is_full(error):
                if request.is_forced:
                    raise RuntimeFailure(f"FAISS failed to put {load.rows:,} vectors on {place}: {why}") from error
                return _stays(index, on_cpu(f"FAISS failed on the GPU: {why}"))
    return _stays(index, on_cpu(why))


def _stays(index: DenseIndex, place: Placement) -> DenseIndex:
    index.placement = place
    return index


def load_of(index: DenseIndex, graph: str = "") -> Load:
    """What an opened set is, as numbers."""
    factory = None if index.base is None else getattr(index.base, "_factory", None)
    return Load(len(index), index.exact.dim or 0, index.exact.is_half, factory, graph)


def machine_gpus(machine: Machine, request: DeviceRequest) -> tuple[Gpu, ...]:
    """The GPUs to use; none for ``auto`` where FAISS can use none."""
    if request.is_forced:
        return usable(machine, request)
    try:
        return usable(machine, request)
    except (ImportError, OSError, ValueError):  # what usable raises, all typed
        return ()


def _without_asking(load: Load, request: DeviceRequest) -> Placement | None:
    """The CPU where nothing that a driver could say would change that."""
    if request.is_forced:
        return None
    if request.kind == "cpu" or load.rows * load.dim <= SMALL_FLOATS:
        return placements(load, (), request)[0]
    return None if may_have_gpu() else on_cpu("there is no GPU that FAISS can use")


def _moved(index: DenseIndex, place: Placement, gpus: Sequence[Gpu], trail: Trail) -> DenseIndex:
    from unabridged.index.dense.gpu import flat, lists

    base: Base
    if place.kind == FLAT:
        copies = flat.copy_to(index.exact, place, room_on(gpus, held()))
        base = flat.DeviceFlat(index.exact, copies, place, trail)
    elif isinstance(index.base, FaissBase):
        base = lists.DeviceLists(index.base, lists.copy_to(index.base._index, place), place, trail)
    else:
        raise Unfit("there is no index to copy")
    moved = DenseIndex(base, index.exact)
    moved.placement = place
    return moved
