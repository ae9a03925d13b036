"""Ctrl-C and a dying server while ``unabridged ask`` runs as a program of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
_FILE = Path(__file__).parents[1] / "rankers" / "lm" / "scripted_server.py"
_SPEC = importlib.util.spec_from_file_location("scripted_server_of_interrupts", _FILE)
SERVER = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(SERVER)


def event(text: str) -> bytes:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n".encode()


def heeds_interrupts() -> None:
    """A program that a shell starts in the background ignores them, and so do those that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Asked:
    """The command, running."""

    def __init__(self, folder: Path, url: str, *options: str) -> None:
        book = folder / "book.txt"
        book.write_text("The annex was signed by Anna. " * 5, encoding="utf-8")
        command = [sys.executable, "-m", "unabridged.apps", "ask", "--file", str(book), "who signed the annex?",
                   "--select", "bm25", "--model", f"openai:m@{url}", *options]  # fmt: skip
        environment = {**os.environ, "UNABRIDGED_API_KEY": "k"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, preexec_fn=heeds_interrupts
        )

    def interrupted(self) -> tuple[int, str, str, float]:
        """Exit code, stdout, stderr, and the seconds that it took to end."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        return (*self.ended(), time.monotonic() - began)

    def ended(self) -> tuple[int, str, str]:
        try:
            out, err = self.process.communicate(timeout=25)
        finally:
            self.process.kill()
        return self.process.returncode, out.decode(), err.decode()


def asked_for(script: Any) -> None:
    deadline = time.monotonic() + 60
    while not script.requests:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_interrupt_in_the_middle_of_an_answer_ends_at_once_without_a_traceback(tmp_path: Path) -> None:
    with SERVER.serving({"chunks": [event("The annex"), event(" was"), 60.0]}) as script:
        asked = Asked(tmp_path, script.url)
        begun = asked.process.stdout.read1(100).decode()
        code, out, err, seconds = asked.interrupted()
    assert (code, seconds < 15) == (130, True)
    assert (begun + out) in ("The annex\n", "The annex was\n")  # the second piece may not have come yet
    assert err == "Interrupted: Interrupted before the answer was finished: what had come is no answer.\n"


def test_an_interrupt_while_a_server_is_silent_does_not_wait_for_it(tmp_path: Path) -> None:
    with SERVER.serving({"hang": 60.0}) as script:
        asked = Asked(tmp_path, script.url, "--sure", "--output", "json")
        asked_for(script)
        code, out, err, seconds = asked.interrupted()
    assert (code, seconds < 15) == (130, True)
    assert json.loads(out) == {
        "error": {
            "type": "Interrupted",
            "message": "Interrupted before the answer was finished: what had come is no answer.",
            "exit_code": 130,
        },
        "partial": "",
    }
    assert "Traceback" not in err


def test_a_server_that_dies_in_the_middle_ends_with_what_had_come(tmp_path: Path) -> None:
    with SERVER.serving({"chunks": [event("The annex"), event(" was"), None]}) as script:
        code, out, err = Asked(tmp_path, script.url).ended()
    assert (code, out) == (6, "The annex was\n")
    assert err.startswith("AnswerBroken: The answer broke off after 13 characters, at 'The annex was' (ServerUnavail")
    assert "Traceback" not in err


@pytest.mark.parametrize("options", [(), ("--output", "json")], ids=["text", "json"])
def test_a_reader_who_has_enough_ends_the_command_without_a_word(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    with SERVER.serving({"chunks": [event("The annex"), event(" was"), 0.5, event(" signed by Anna"), done]}) as script:
        asked = Asked(tmp_path, script.url, *options)
        if not options:
            asked.process.stdout.read1(5)
        asked.process.stdout.close()
        code = asked.process.wait(60)
        told = asked.process.stderr.read().decode()
        asked.process.stderr.close()
    assert (code, told) == (141, "")
