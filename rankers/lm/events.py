"""A streamed reply of the OpenAI chat protocol: ``data:`` lines with JSON, the last one ``[DONE]``.

Whatever is not as the protocol says is an error; what has been read until then stays in the reader.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from unabridged.errors import ContentFiltered, MalformedResponse, ModelError, ServerUnavailable
from unabridged.rankers.lm.contracts import Finish, Usage
from unabridged.rankers.lm.failures import SHOWN, Refusal, classify, masked
from unabridged.rankers.lm.letters import FIRST_HALF, whole_letters
from unabridged.rankers.lm.replies import Reply, finish_of, read_content, read_top, read_usage

_DATA, _END = "data:", "[DONE]"
_ENDS = re.compile(rb"\r\n|\n|\r")
_MOST = 1 << 22
"""Bytes of one line: an event has some hundred, and what never ends is no event."""
BROKEN = 500
"""The status that an error in the middle of an answer has where it does not say one."""


def lines(chunks: Iterable[bytes], where: str) -> Iterator[str]:
    """The lines of a stream whose bytes come in chunks of any size; the last one may lack its end.

    They end as the protocol says and nowhere else: a text may hold U+2028 or U+0085 as they are, at which Python's own
    splitting would end them.
    """
    parts: list[bytes] = []
    held, begun = 0, False
    for chunk in chunks:
        head, *tail = _ENDS.split(chunk)
        parts.append(head)
        held += len(head)
        if tail:
            *whole, last = tail
            for line in (b"".join(parts), *whole):
                yield _decoded(line, where, first=not begun)
                begun = True
            parts, held = [last], len(last)
        if held > _MOST:
            raise MalformedResponse(f"{where} streamed a line of more than {_MOST:,} bytes.")
    if held:
        yield _decoded(b"".join(parts), where, first=not begun)


def _decoded(line: bytes, where: str, *, first: bool) -> str:
    try:
        return line.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise MalformedResponse(f"{where} streamed something that is no UTF-8: {line[:80]!r}") from error


class EventReader:
    """Lines of a stream to the reply so far.  Lines that are no data (comments, names of events) say nothing.

    ``secret`` is masked wherever the server repeats it.
    """

    def __init__(self, where: str, secret: str = "") -> None:
        self.text = ""
        self.done = False
        """Whether the server said that nothing follows."""
        self._where, self._secret = where, secret
        self._finish: Finish | None = None
        self._usage: Usage | None = None
        self._top: Mapping[str, float] | None = None
        self._refusal = ""
        self._half = ""
        """The first half of a letter beyond U+FFFF, whose other half comes with the next event."""

    def read(self, line: str) -> bool:
        """Takes one line; whether text was added."""
        if not line.startswith(_DATA) or self.done:
            return False
        data = line[len(_DATA) :].strip()
        if data == _END:
            self.done = True
            return False
        try:
            body = json.loads(data)
        except ValueError as error:
            raise MalformedResponse(f"{self._where} streamed something that is no JSON: {data[:80]!r}") from error
        if not isinstance(body, dict):
            raise MalformedResponse(f"{self._where} streamed {data[:80]!r}, which is no object.")
        if body.get("error") or body.get("object") == "error":
            raise self._told(body.get("error") or body)
        return self._take(body, data)

    def reply(self) -> Reply:
        """The whole reply; an error where the stream ended before the answer did."""
        if self._finish is None:
            raise ServerUnavailable(
                f"{self._where} broke off after {len(self.text):,} characters of an answer that is not finished."
            )
        if not self.text and (self._refusal or self._finish == "filtered"):
            raise ContentFiltered(
                f"{self._where} gave no answer: {(self._refusal or 'its content filter withheld it')[:200]}"
            )
        return Reply(self.text + whole_letters(self._half), self._finish, self._usage, self._top)

    def _take(self, body: Mapping[str, Any], data: str) -> bool:
        # The usage comes with the last answer or in an event of its own, which has no choice; servers send others that
        # say nothing of the answer, such as pings, timings and what their filters found.
        self._usage = read_usage(body.get("usage")) or self._usage
        choices = body.get("choices")
        if choices is None:
            return False
        if not isinstance(choices, list) or (choices and not isinstance(choices[0], dict)):
            raise MalformedResponse(f"{self._where} streamed an event without choices: {data[:200]!r}")
        if not choices:
            return False
        choice = choices[0]
        delta = choice.get("delta") or {}
        if not isinstance(delta, dict):
            raise MalformedResponse(f"{self._where} streamed a choice without a delta: {data[:200]!r}")
        content = read_content(delta, self._where)
        if content and not (self.text or self._half):
            self._top = read_top(choice.get("logprobs"))
        new, self._half = self._half + content, ""
        if new and FIRST_HALF.match(new[-1]):
            new, self._half = new[:-1], new[-1]
        new = whole_letters(new)
        self.text += new
        self._refusal += str(delta.get("refusal") or "")
        if choice.get("finish_reason"):
            self._finish = finish_of(choice["finish_reason"])
        return bool(new)

    def _told(self, error: Any) -> ModelError:
        """The error that an event reports in place of more text."""
        stated = error if isinstance(error, dict) else {"message": error}
        code = stated.get("code")
        status = code if isinstance(code, int) and 400 <= code < 600 else BROKEN
        message = masked(str(stated.get("message")), self._secret)[:SHOWN]
        return classify(Refusal(status, message, str(code or "")), self._where).error
