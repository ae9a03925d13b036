"""How commands answer: one JSON object on stdout, or text for people; errors and exit codes."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, NoReturn

from unabridged.errors import UnabridgedError

EXIT_INTERRUPTED = 130
"""What shells return for a program ended by Ctrl-C."""


class Output(str, Enum):
    """The form of an answer."""

    TEXT = "text"
    JSON = "json"


def counted(counts: Mapping[str, int]) -> str:
    """Counts by reason, as people read them: ``2 empty, 1 malformed-json``."""
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items()))


def emit(value: Mapping[str, Any]) -> None:
    """Prints one JSON object on stdout."""
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    sys.stdout.write(json.dumps(value, ensure_ascii=plain) + "\n")


def say(text: str = "") -> None:
    """Prints one line of text on stdout; what the terminal's encoding cannot show is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def one_line(name: str) -> str:
    """``name`` for people: what cannot be printed is escaped, as line ends and tabs, which names of files may have."""
    return name if name.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in name)


def complain(text: str) -> None:
    """Prints one line on stderr."""
    sys.stderr.write(text + "\n")


@contextlib.contextmanager
def exit_codes(output: Output) -> Iterator[None]:
    """Turns the errors of this project into a message and the exit code of their kind."""
    try:
        yield
    except UnabridgedError as error:
        fail(output, type(error).__name__, str(error), error.exit_code)
    except KeyboardInterrupt:
        message = "Interrupted. Finished work is kept: run the same command again and it continues."
        fail(output, "Interrupted", message, EXIT_INTERRUPTED)
    except OSError as error:
        missing = isinstance(error, (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError))
        fail(output, type(error).__name__, str(error), 3 if missing else 4)
    except MemoryError:
        fail(
            output,
            "OutOfMemory",
            "Not enough memory. Finished work is kept; use a smaller --max-tokens.",
            4,
        )
    except Exception as error:  # noqa: BLE001 - the last resort: scripts get JSON and a code, people the kind
        fail(output, type(error).__name__, f"{error} (this is a defect of unabridged: please report it)", 6)


def fail(output: Output, kind: str, message: str, code: int) -> NoReturn:
    """Reports an error in the form that was asked for and ends with its exit code."""
    if output is Output.JSON:
        emit({"error": {"type": kind, "message": message, "exit_code": code}})
    complain(f"{kind}: {message}")
    raise SystemExit(code)
