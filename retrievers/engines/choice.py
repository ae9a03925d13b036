"""Which processes encode: the options of a build that say so, and what is made of them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from unabridged.contracts import Encoder
from unabridged.errors import UsageError
from unabridged.retrievers.encoding import Encoding
from unabridged.retrievers.engines.spec import EncoderSpec, spec_of
from unabridged.retrievers.overlap import Overlapped
from unabridged.retrievers.settings import BuildSettings
from unabridged.retrievers.units import prepare_with

if TYPE_CHECKING:
    from unabridged.retrievers.engines.pool import Pool
    from unabridged.retrievers.engines.work import Job

ENGINES = ("local", "pool", "ray")
POOL_WORKERS = 2
"""Where no number is given and there is no GPU."""


@dataclass(frozen=True, slots=True)
class Engine:
    """``local``: this process.  ``pool``: processes of this machine.  ``ray``: actors of Ray, here or on a cluster."""

    kind: str = "local"
    workers: int | None = None
    """None: one for each GPU, else two in a pool, and one for each core that Ray has."""
    address: str | None = None
    """Of Ray: ``local`` starts it on this machine alone, for this build; ``auto`` is the cluster that this machine is
    part of; ``host:port`` one whose GCS listens there."""
    threads: int | None = None
    """Of each worker.  None: its share of this machine's cores where their number changes no bit of a vector, and
    otherwise as many as this process has, so that the bytes stay the same."""
    factory: str | None = None
    """``module:function`` that makes the encoder in a worker, for encoders that no name stands for."""
    shared: bool | None = None
    """Whether Ray's machines see the index folder under the same path.  None: they are asked, and send units back over
    the network where one does not; True: that is an error, which names the machine."""

    def __post_init__(self) -> None:
        """Refuses options that do not fit together.

        Raises:
            UsageError: naming the option.
        """
        if self.kind not in ENGINES:
            raise UsageError(f"engine is one of {', '.join(ENGINES)}, got {self.kind!r}")
        for name in ("workers", "threads"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise UsageError(f"{name} is a whole number from 1, got {value!r}")
        if self.kind == "ray" and str(self.address).startswith("ray://"):
            raise UsageError(
                f"Ray Data, which feeds the workers, does not run through a Ray Client ({self.address}). Run the "
                "command on a machine of the cluster with address 'auto', or name the address of its GCS, such as "
                "'host:6379'."
            )
        for name in ("address", "shared"):
            if getattr(self, name) is not None and self.kind != "ray":
                raise UsageError(f"{name} is for engine='ray', and the engine is {self.kind!r}")
        for name in ("workers", "threads", "factory"):
            if getattr(self, name) is not None and self.kind == "local":
                raise UsageError(f"{name} is for the engines pool and ray; engine='local' encodes in this process")

    def prepared(self, encoder: Encoder) -> Prepared:
        """The engine for ``encoder``, looked at as far as this machine can tell.

        Raises:
            UsageError: a worker cannot make this encoder.
            MissingExtra: a package of the engine is not installed.
        """
        if self.kind == "ray":
            from unabridged._extras import require

            require("ray", extra="ray", purpose="engine='ray'")
            require("pyarrow", extra="ray", purpose="engine='ray'")
        return Prepared(self, encoder, None if self.kind == "local" else spec_of(encoder, self.factory))


LOCAL = Engine()


@dataclass(frozen=True, slots=True)
class Prepared:
    """An engine with its encoder; :meth:`open` is for one build."""

    engine: Engine
    encoder: Encoder
    spec: EncoderSpec | None

    def open(self, settings: BuildSettings, folder: Path, identity: str) -> Encoding:
        """Who encodes for a build under ``settings``; finished units go into ``folder``.  Nothing is started yet."""
        if self.spec is None:
            return Overlapped(prepare_with(self.encoder, settings.level, settings.overflow))
        from unabridged.retrievers.engines.ahead import Ahead
        from unabridged.retrievers.engines.crew import Crew
        from unabridged.retrievers.engines.work import Job

        job = Job(self.spec, settings.level, settings.overflow, self.engine.threads, str(folder.resolve()))
        crew: Crew
        if self.engine.kind == "ray":
            from unabridged.retrievers.engines.cluster import Cluster

            crew = Cluster(job, self.engine)
        else:
            crew = self._pool(self.spec, job)
        return Ahead(crew, folder, identity)

    def _pool(self, spec: EncoderSpec, job: Job) -> Pool:
        from unabridged.retrievers.engines.pool import Pool

        gpus = gpus_here() if spec.on_gpu else None
        named = len(set(spec.devices)) if "cuda" not in spec.devices else gpus or 1
        workers = self.engine.workers or (named if spec.on_gpu else POOL_WORKERS)
        threads = job.threads or threads_of(spec, max(1, (os.cpu_count() or 1) // workers))
        return Pool(replace(job, threads=threads), workers, gpus=gpus)


def threads_of(spec: EncoderSpec, share: int) -> int | None:
    """Threads of a worker: its share of the cores where any number gives the same bits, else as many as here."""
    if spec.any_threads:
        return share
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.get_num_threads())


def gpus_here() -> int:
    """GPUs that this process sees."""
    from unabridged._extras import require

    count: int = require("torch", extra="torch", purpose="encoding on a GPU").cuda.device_count()
    return count
