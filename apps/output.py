"""How commands answer: one JSON object on stdout, or text for people; errors and exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, NoReturn

from unabridged.errors import UnabridgedError

EXIT_INTERRUPTED = 130
"""What shells return for a program ended by Ctrl-C."""
EXIT_PIPE = 141
"""What shells return for a program whose reader has gone."""
_ACTS = re.compile(
    r"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"  # what moves the cursor, colours, rings or begins a command
    r"|[\u061c\u202a-\u202e\u2066-\u2069]"  # what turns the direction of other letters
    r"|[\ud800-\udfff]"  # half letters, which no encoding has
)


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
    text = json.dumps(value, ensure_ascii=plain)
    # JSON escapes no control characters from 127 on; where it is read, escapes are the same characters.
    sys.stdout.write(_ACTS.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n")


def harmless(text: str) -> str:
    r"""``text`` as a terminal may show it: what would act there is escaped, as in ``\x1b[2J``.

    Line ends and tabs stay.  Documents, their ids and what models write may hold such characters; JSON keeps them.
    """
    return _ACTS.sub(lambda match: ascii(match[0])[1:-1], text)


def say(text: str = "") -> None:
    """Prints one line of text on stdout; what acts on terminals or their encoding cannot show is escaped."""
    sys.stdout.write(_encodable(harmless(text)) + "\n")


def say_part(text: str) -> None:
    """Prints ``text`` on stdout as :func:`say` does, at once and without a line end."""
    sys.stdout.write(_encodable(harmless(text)))
    sys.stdout.flush()


def hand_on(text: str) -> None:
    """Prints a text that is an answer by itself: into a file or pipe as it is, on a terminal as :func:`say` does."""
    sys.stdout.write(_encodable(harmless(text) if sys.stdout.isatty() else text) + "\n")


def _encodable(text: str) -> str:
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def one_line(name: str) -> str:
    """``name`` for people: what cannot be printed is escaped, as line ends and tabs, which names of files may have."""
    return name if name.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in name)


def complain(text: str) -> None:
    """Prints one line on stderr; what acts on terminals is escaped."""
    sys.stderr.write(harmless(text) + "\n")


@contextlib.contextmanager
def exit_codes(output: Output) -> Iterator[None]:
    """Turns the errors of this project into a message and the exit code of their kind."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read the answer has gone, as head does when it has enough: there is nobody to tell, and nothing to mend.
        _let_stdout_go()
        raise SystemExit(EXIT_PIPE) from None
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


def _let_stdout_go() -> None:
    """What is still to be written goes nowhere, so that the program's end does not fail on it too."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def fail(output: Output, kind: str, message: str, code: int) -> NoReturn:
    """Reports an error in the form that was asked for and ends with its exit code."""
    if output is Output.JSON:
        emit({"error": {"type": kind, "message": message, "exit_code": code}})
    complain(f"{kind}: {message}")
    raise SystemExit(code)
