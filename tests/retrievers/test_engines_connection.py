"""What Ray says when it does not start, or ends, is told in words, and leaves nothing behind."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from unabridged.contracts import Level, OverflowPolicy
from unabridged.encoders.hashing import HashingEncoder
from unabridged.errors import RuntimeFailure

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


class Refusing:
    """In the place of the package: fails to start after it has changed the environment."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.ended = 0

    def init(self, **options):
        os.environ["RAY_LEFT_BY_TEST"] = "1"
        raise self.error

    def shutdown(self):
        self.ended += 1


@pytest.mark.parametrize(
    ("address", "error", "raised", "said"),
    [
        ("local", Exception("The current node timed out during startup.\nmore"), RuntimeFailure, "cannot be started"),
        (
            "auto",
            ConnectionError("Could not find any Ray."),
            RuntimeFailure,
            "no Ray at address 'auto'",
        ),
        ("local", KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_a_start_that_fails_is_told_and_what_was_started_is_ended(address, error, raised, said, monkeypatch):
    from unabridged.retrievers.engines import connection

    refusing = Refusing(error)
    monkeypatch.setattr(connection, "ray", refusing)
    before = dict(os.environ)
    with pytest.raises(raised, match=said):
        connection.connect(address, 2)
    assert refusing.ended == 1
    assert dict(os.environ) == before


def test_a_desk_that_is_lost_ends_the_build_with_what_to_do(tmp_path, monkeypatch):
    import ray

    from unabridged.retrievers.engines import cluster
    from unabridged.retrievers.engines.choice import Engine
    from unabridged.retrievers.engines.crew import Task
    from unabridged.retrievers.engines.spec import spec_of
    from unabridged.retrievers.engines.work import Job

    def lost(*_):
        raise ray.exceptions.RayActorError

    desk = SimpleNamespace(add=SimpleNamespace(remote=lost))
    monkeypatch.setattr(cluster, "start", lambda job, engine: SimpleNamespace(desk=desk, workers=2, owned=None))
    job = Job(spec_of(HashingEncoder(8, 16)), Level.BOTH, OverflowPolicy.SPLIT, 1, str(tmp_path))
    crew = cluster.Cluster(job, Engine("ray", workers=2))
    with pytest.raises(RuntimeFailure, match=r"Ray ended the job: RayActorError.*same command continues"):
        crew.give(Task("name", ("a text",)))
