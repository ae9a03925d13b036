"""A unit that costs its workers is divided; it stays whole where none of its texts was the reason."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import pytest

from unabridged.contracts import Document
from unabridged.encoders.hashing import HashingEncoder
from unabridged.index.shard import Record, content_key
from unabridged.retrievers.engines.ahead import WORKER_LOST, Ahead
from unabridged.retrievers.engines.crew import Answer, Task
from unabridged.retrievers.engines.unit_files import Finished, pack, write_unit

TEXTS = ["a b c", "d e", "f", "g h i"]


class Workers:
    """Encode by a function of the whole unit, so that a part is seen; end over a unit while ``ends`` says so."""

    workers = 1

    def __init__(self, folder: Path, ends) -> None:
        self.folder, self.ends = folder, ends
        self.log: list[tuple[int, int]] = []
        self._answers: deque[Answer] = deque()

    def give(self, task: Task) -> None:
        self.log.append((len(task.texts), task.attempts))
        if self.ends(task, len(self.log)):
            self._answers.append(Answer(task.name, lost="killed by SIGKILL"))
            return
        encoded = HashingEncoder(8, 16).encode_documents(list(task.texts))
        encoded.segments[:] += len(task.texts)
        write_unit(self.folder, task.name, pack(task.name, Finished(len(task.texts), encoded)))
        self._answers.append(Answer(task.name))

    def next(self) -> Answer:
        return self._answers.popleft()

    def close(self) -> None:
        """Nothing was started."""


@pytest.mark.parametrize(
    ("ends", "added", "lost", "log"),
    [
        (lambda task, calls: calls == 1, [4] * 4, [], [(4, 3), (2, 2), (2, 2), (4, 1)]),
        (lambda task, calls: len(task.texts) == 4, [2] * 4, [], [(4, 3), (2, 2), (2, 2), (4, 1)]),
        (lambda task, calls: "f" in task.texts, [2, 2, 1], ["2"], [(4, 3), (2, 2), (2, 2), (1, 2), (1, 2)]),
    ],
    ids=["ended by others", "too large as a whole", "a text that kills"],
)
def test_a_unit_is_whole_again_unless_one_of_its_texts_ends_workers(ends, added, lost, log, tmp_path):
    crew = Workers(tmp_path / "units", ends)
    ahead = Ahead(crew, tmp_path / "units", "work")
    records = [Record.of(Document(str(n), text), content_key(text)) for n, text in enumerate(TEXTS)]
    ahead.want(records)
    kept, encoded, failed = ahead.take(records, lambda record: "here")
    assert [(failure.id, failure.reason) for failure in failed] == [(one, WORKER_LOST) for one in lost]
    texts = [record.source for record in kept]
    plain = HashingEncoder(8, 16).encode_documents(texts).segments
    np.testing.assert_allclose(encoded.segments - plain, np.repeat(np.array(added)[:, None], 8, axis=1), atol=1e-6)
    assert crew.log == log
    ahead.stored(records)
    assert not any((tmp_path / "units").iterdir())
