"""A small index with overlapping windows and hostile ids; no framework phones home, nor does anything else here."""

from __future__ import annotations

import os
import socket

import pytest

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "false"
os.environ["LANGSMITH_TRACING"] = "false"

import unabridged as ub
from unabridged.encoders.hashing import HashingEncoder

TOPICS = {
    "plain": "harbour",
    "with space": "glacier",
    "per%pcent": "orchard",
    "naïve-é": "violin",
    "newline\nid": "furnace",
}


def story(topic: str, sentences: int) -> str:
    """Sentences that differ, of which one names the topic's keeper; with emoji, so that bytes are no characters."""
    lines = [
        f"Sentence {n} of the {topic} 🙂 tells of item{n * 7 % 101} and naïve thing{n * 13 % 89}."
        for n in range(sentences)
    ]
    lines.insert(sentences * 2 // 3, f"The keeper of the {topic} is called Zed{topic}.")
    return " ".join(lines)


@pytest.fixture(scope="session")
def corpus() -> dict[str, str]:
    return {name: story(topic, 20 + 9 * row) for row, (name, topic) in enumerate(TOPICS.items())}


@pytest.fixture(scope="session")
def folder(corpus, tmp_path_factory):
    items = [
        {
            "_id": name,
            "text": text,
            "metadata": {"row": row, "score": f"own {row}", "tags": ["even" if row % 2 == 0 else "odd"]},
        }
        for row, (name, text) in enumerate(corpus.items())
    ]
    out = tmp_path_factory.mktemp("frameworks") / "idx"
    ub.build_index(items, HashingEncoder(window=48, overlap=16), out).close()
    return out


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A connection to another machine fails the test at once; where one was tried is in the list."""
    tried = []
    real = socket.socket.connect

    def connect(self, address):
        if self.family == socket.AF_UNIX:
            return real(self, address)
        tried.append(address)
        raise OSError(f"a test tried to reach {address}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *a, **k: (tried.append(a), (_ for _ in ()).throw(OSError(f"{a}")))
    )
    yield tried
    assert not tried
