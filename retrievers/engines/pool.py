"""Workers as processes of this machine, without any other package.

Each is a new interpreter with a pipe to it, and a thread here that hands it one unit at a time: nothing is forked (a
fork copies locks that libraries hold), and the caller's script is not run again, as it is by ``multiprocessing``.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import replace

from unabridged.errors import RuntimeFailure
from unabridged.retrievers.engines.crew import ATTEMPTS, Answer, Task
from unabridged.retrievers.engines.process import begun, receive, send
from unabridged.retrievers.engines.work import Job, Problem

COMMAND = ("-P", "-m", "unabridged.retrievers.engines.process")
"""``-P``: modules of the folder that the caller happens to be in hide none of a package."""
END_SECONDS = 10.0


class Pool:
    """Satisfies :class:`~unabridged.retrievers.engines.crew.Crew` by ``workers`` processes."""

    def __init__(self, job: Job, workers: int, *, gpus: int | None = None) -> None:
        self._workers = workers
        self._tasks: queue.PriorityQueue[tuple[int, int, Task | None]] = queue.PriorityQueue()
        self._answers: queue.SimpleQueue[Answer | Problem] = queue.SimpleQueue()
        self._given = 0
        self._closing = threading.Event()
        self._members = [
            _Member(self, replace(job, encoder=job.encoder.for_worker(number, gpus))) for number in range(workers)
        ]

    @property
    def workers(self) -> int:
        """Processes, as far as there is work."""
        return self._workers

    @property
    def processes(self) -> list[int]:
        """Ids of the processes that run."""
        return [member.process.pid for member in self._members if member.process is not None]

    def give(self, task: Task) -> None:
        """Takes a task on, and starts a process for it if there are not yet enough."""
        self._given += 1
        self._tasks.put((self._given, 0, task))
        sleeping = next((member for member in self._members if member.ident is None), None)
        if sleeping is not None and not self._closing.is_set():
            sleeping.start()

    def next(self) -> Answer:
        """The next answer.

        Raises:
            UnabridgedError: a worker cannot encode at all.
        """
        answer = self._answers.get()
        if isinstance(answer, Problem):
            raise answer.error()
        return answer

    def close(self) -> None:
        """Kills what runs: a unit file is whole or absent, and what was not finished is done again."""
        self._closing.set()
        for number, member in enumerate(self._members):
            self._tasks.put((sys.maxsize, number, None))
            member.kill()
        for member in self._members:
            if member.ident is not None:
                member.join(END_SECONDS)


class _Member(threading.Thread):
    """One worker: its process, and the thread that speaks to it."""

    def __init__(self, pool: Pool, job: Job) -> None:
        super().__init__(name="encode-pool", daemon=True)
        self.process: subprocess.Popen[bytes] | None = None
        self._pool, self._job = pool, job
        self._lock = threading.Lock()

    def kill(self) -> None:
        """Ends the process, now or when it has just been started."""
        with self._lock:
            if self.process is not None:
                self.process.kill()

    def run(self) -> None:
        """Hands out units until the pool closes; whatever goes wrong here is told, since the build waits for it."""
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 - raised again where the build waits
            self.kill()
            self._end()
            self._report(Problem.of(error))

    def _work(self) -> None:
        tried = 0
        while not self._pool._closing.is_set():
            place, tries, task = self._pool._tasks.get()
            if task is None:
                break
            if self.process is None:
                problem = self._start()
                tried = 0 if problem is None else tried + 1
                if problem is not None:
                    self._end()
                    self._pool._tasks.put((place, tries, task))
                    if problem.kind != _ENDED or tried >= ATTEMPTS:
                        self._report(problem)
                        return
                    continue
            answer = self._ask(task)
            if answer is not None:
                self._report(answer)
                continue
            how = self._end()
            if tries + 1 >= task.attempts:
                self._report(Answer(task.name, lost=how))
            else:
                self._pool._tasks.put((place, tries + 1, task))
        self._end()

    def _report(self, answer: Answer | Problem) -> None:
        if isinstance(answer, Problem) and answer.kind == _ENDED:
            answer = Problem(RuntimeFailure.__name__, answer.message)
        self._pool._answers.put(answer)

    def _start(self) -> Problem | None:
        """Starts the process and waits until it has its model; None when all is well."""
        with self._lock:
            if self._pool._closing.is_set():
                return Problem(_ENDED, "the pool closes")
            command = [sys.executable, *COMMAND]
            group = 0 if os.name == "posix" else None  # an interrupt is for this process alone
            pipe = subprocess.PIPE
            try:
                self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, process_group=group)
            except OSError as error:
                return Problem(_ENDED, f"A worker cannot be started: {error}. Use fewer workers, or engine='local'.")
            answers = self.process.stdout
        said = self._speak(self._job.as_json()) if answers is not None and begun(answers) else None
        if said is None:
            how = self._end()
            hint = "is there memory for it?" if how.startswith("killed") else "what it wrote to stderr says why."
            return Problem(_ENDED, f"A worker ended before it had its model ({how}): {hint}")
        return Problem(*said["problem"]) if "problem" in said else None

    def _ask(self, task: Task) -> Answer | None:
        """The answer to a task; None when the process ended over it."""
        said = self._speak({"name": task.name, "texts": task.texts})
        if said is None:
            return None
        return Answer(task.name, Problem(*said["problem"]) if "problem" in said else None)

    def _speak(self, message: object) -> dict[str, list[str]] | None:
        process = self.process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        try:
            send(process.stdin, message)
            found: dict[str, list[str]] | None = receive(process.stdout)
        except (BrokenPipeError, OSError, ValueError):
            return None
        return found

    def _end(self) -> str:
        """Ends the process, if it has not, and tells how it did."""
        with self._lock:
            process, self.process = self.process, None
        if process is None:
            return "ended"
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            code = process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        return _ending(code)


_ENDED = "ended"


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"killed by {name}" + (", as the system does when memory runs out" if name == "SIGKILL" else "")
