"""Workers as actors of Ray, on this machine or on a cluster, fed by Ray Data.

Why Ray Data, and how little of it: it places actors on machines and GPUs, sends them rows as they can take them, and
puts others in the place of those that are lost.  What has to survive is not its business but ours: which unit is done
is said by the unit's file, so a build that is killed continues whatever has become of Ray, without Ray's own
checkpoints.  Answers come in any order; the build stores units in its own.

Blocks of a dataset hold one unit each (``target_max_block_size``): by default Ray waits until 128 MiB have gathered
before it passes anything on.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import ray.data

from unabridged.errors import MissingExtra, MissingFile, RuntimeFailure, UnabridgedError, UsageError
from unabridged.retrievers.engines.choice import Engine, threads_of
from unabridged.retrievers.engines.cluster_desk import Desk, Tasks
from unabridged.retrievers.engines.cluster_worker import Actor
from unabridged.retrievers.engines.connection import LOCAL, RAY, connect, disconnect, quiet
from unabridged.retrievers.engines.crew import ATTEMPTS, Answer, Task
from unabridged.retrievers.engines.nodes import Node, look_at
from unabridged.retrievers.engines.unit_files import write_unit
from unabridged.retrievers.engines.work import Job, Problem

END_SECONDS = 20.0
NEEDED = {"hashing": ("numpy", "xxhash"), None: ("numpy", "torch", "tokenizers")}
"""Packages without which a worker cannot encode, by kind of encoder."""
NEEDED_BY_BACKEND = {"onnx": ("onnxruntime", "onnx"), "openvino": ("openvino",), "torch": ("transformers",)}


class Cluster:
    """Satisfies :class:`~unabridged.retrievers.engines.crew.Crew` by actors of Ray."""

    def __init__(self, job: Job, engine: Engine) -> None:
        self._job, self._engine = job, engine
        self._answers: queue.SimpleQueue[Answer | Exception] = queue.SimpleQueue()
        self._serials: dict[int, str] = {}
        self._given = 0
        self._started: Started | None = None
        self._listener: threading.Thread | None = None
        self._closing = threading.Event()

    @property
    def workers(self) -> int:
        """As many as were asked for, else one for each GPU or core that Ray has."""
        return self._engine.workers or self._start().workers

    def give(self, task: Task) -> None:
        """Takes a task on; the first starts the workers.

        Raises:
            UnabridgedError: Ray, its machines, or a package on one of them is not what is needed.
        """
        started = self._start()
        self._serials[self._given] = task.name
        self._given += 1
        try:
            ray.get(started.desk.add.remote(task.name, list(task.texts), task.attempts))
        except ray.exceptions.RayError as error:
            raise _ended(error) from error
        if self._listener is None:
            self._listener = threading.Thread(target=self._listen, args=(started,), name="encode-ray", daemon=True)
            self._listener.start()

    def next(self) -> Answer:
        """The next answer.

        Raises:
            UnabridgedError: Ray has ended.
        """
        answer = self._answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """Ends the actors, and Ray itself where it was started for this build."""
        self._closing.set()
        started, self._started = self._started, None
        if started is None:
            return
        with contextlib.suppress(ray.exceptions.RayError):
            if self._serials:
                ray.kill(started.desk, no_restart=True)  # the source ends, and the dataset with it
            else:
                ray.get(started.desk.close.remote(), timeout=END_SECONDS)
        if self._listener is not None:
            self._listener.join(END_SECONDS)
        if started.owned is not None:
            disconnect(started.owned)

    def _start(self) -> Started:
        if self._started is None:
            self._started = start(self._job, self._engine)
        return self._started

    def _listen(self, started: Started) -> None:
        """Passes answers on until the dataset ends."""
        try:
            with quiet():
                for batch in started.answers():
                    for row in batch.to_pylist():
                        self._hear(started, row)
            ended: Exception = RuntimeFailure("Ray ended the job while units were not done.")
        except UnabridgedError as error:
            ended = error
        except Exception as error:  # noqa: BLE001 - raised again where the build waits
            ended = _ended(error)
            ended.__cause__ = error
        if not self._closing.is_set():
            self._answers.put(ended)

    def _hear(self, started: Started, row: Mapping[str, Any]) -> None:
        if row["serial"] not in self._serials:
            return  # answered before, and done again by Ray for a machine that it lost
        name = self._serials.pop(row["serial"])
        started.desk.finish.remote(row["serial"])
        problem = None if row["kind"] is None else Problem(row["kind"], row["message"])
        if row["data"] is not None:
            write_unit(started.folder, name, row["data"])
        self._answers.put(Answer(name, problem, row["lost"]))


def _ended(error: Exception) -> RuntimeFailure:
    first = str(error).strip().partition("\n")[0]
    return RuntimeFailure(
        f"Ray ended the job: {type(error).__name__}: {first}. What was finished is kept; the same command continues."
    )


class Started:
    """A connection to Ray with a desk, and a dataset that is not yet begun."""

    def __init__(self, job: Job, workers: int, folder: Path, owned: dict[str, str | None] | None) -> None:
        """``owned`` is what :func:`connect` returned, None where Ray was there before."""
        self.workers, self.folder, self.owned = workers, folder, owned
        self._job = job
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=True
        )
        options = {"num_cpus": 0, "max_concurrency": 1000, "scheduling_strategy": here}
        self.desk: Any = RAY.remote(**options)(Desk).remote(ATTEMPTS * workers)

    def answers(self) -> Iterator[Any]:
        """Tables of answers, as they come; returns when the desk is closed and all is answered."""
        job = self._job
        context = ray.data.DataContext.get_current().copy()
        context.target_max_block_size = 1
        context.enable_progress_bars = False
        context.execution_options.preserve_order = False
        context.print_on_execution_start = False
        with ray.data.DataContext.current(context):
            found = ray.data.read_datasource(Tasks(self.desk), override_num_blocks=1, num_cpus=0).map_batches(
                Actor,
                fn_constructor_args=(job.as_json(), self.desk),
                batch_size=None,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=self.workers),
                num_cpus=job.threads or 1,
                num_gpus=1 if job.encoder.on_gpu else 0,
            )
            yield from found.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def start(job: Job, engine: Engine) -> Started:
    """Ray at the address that was asked for, with machines that have what a worker needs.

    Raises:
        RuntimeFailure: there is no Ray at that address.
        UsageError: it has fewer GPUs or cores than the workers need.
        MissingExtra, MissingFile: a package, or the folder where it has to be shared, is not on a machine; names it.
    """
    address = engine.address or LOCAL
    owned = None if ray.is_initialized() else connect(address, engine.workers or 1)
    try:
        return _prepared(job, engine, owned, ours=owned is not None and address == LOCAL)
    except BaseException:
        if owned is not None:
            disconnect(owned)
        raise


def _prepared(job: Job, engine: Engine, owned: dict[str, str | None] | None, *, ours: bool) -> Started:
    folder = Path(str(job.folder))
    spec = job.encoder
    if spec.on_gpu:
        spec = replace(spec, devices=("cuda",))  # the one that Ray shows the worker
    total = RAY.cluster_resources()
    cores, gpus = int(total.get("CPU", 0)), int(total.get("GPU", 0))
    threads = engine.threads or threads_of(spec, max(1, cores // engine.workers) if engine.workers and ours else 1)
    workers = engine.workers or max(1, gpus if spec.on_gpu else cores // (threads or 1))
    wanted = workers * (threads or 1)
    if wanted > cores or (spec.on_gpu and workers > gpus):
        raise UsageError(
            f"{workers} workers need {wanted} cores" + (f" and {workers} GPUs" if spec.on_gpu else "") + f"; Ray at "
            f"{engine.address or LOCAL!r} has {cores} cores and {gpus} GPUs. Ask for fewer workers, or threads=1."
        )
    shared = True if ours else _looked_at(spec.kind, spec.backend, folder, engine, gpu=spec.on_gpu)
    job = replace(job, encoder=spec, threads=threads, folder=job.folder if shared else None)
    return Started(job, workers, folder, owned)


def _looked_at(kind: str, backend: str | None, folder: Path, engine: Engine, *, gpu: bool) -> bool:
    """Whether every machine sees ``folder``; raises for one that cannot work."""
    packages = (*NEEDED.get(kind, NEEDED[None]), *NEEDED_BY_BACKEND.get(backend or "", ()))
    nodes = look_at(folder, packages, gpu=gpu)
    for node in nodes:
        _check(node, folder, required=engine.shared is True)
    return engine.shared is not False and all(node.sees_folder for node in nodes)


def _check(node: Node, folder: Path, *, required: bool) -> None:
    if node.missing:
        raise MissingExtra(
            f"The machine {node.host} of the cluster has no {', '.join(node.missing)}: a worker cannot encode there. "
            'Install there what is installed here (pip install "unabridged[ray,...]"), in the environment of Ray.'
        )
    if node.version != node.expected:
        raise RuntimeFailure(
            f"The machine {node.host} of the cluster has unabridged {node.version}, and here it is {node.expected}. "
            "Install one version everywhere."
        )
    if required and not node.sees_folder:
        raise MissingFile(
            f"The machine {node.host} of the cluster does not see {folder}. Mount the folder of the index there under "
            "the same path, or leave out --shared: units then come back over the network."
        )
