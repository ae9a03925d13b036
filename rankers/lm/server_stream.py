"""An answer of a server in pieces, as they arrive.

A thread reads, so that a caller who takes the call back need not wait for the next byte.  Requests are tried again as
other calls are, but only until the first piece has come: what was handed on cannot be taken back.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING, Any, TypeAlias

from unabridged.contracts import JSON
from unabridged.errors import ModelCancelled, ModelError
from unabridged.rankers.lm.contracts import Completion, Prompt, Sampling
from unabridged.rankers.lm.events import EventReader, lines
from unabridged.rankers.lm.pieces import Pieces
from unabridged.rankers.lm.replies import Reply, read_reply

if TYPE_CHECKING:
    from unabridged.rankers.lm.openai_server import ServerModel

POLL = 0.05
"""Seconds between looks at whether the caller has cancelled."""
STREAM: Mapping[str, JSON] = {"stream": True, "stream_options": {"include_usage": True}}
Item: TypeAlias = "str | Completion | Exception"


@dataclass(slots=True)
class ServerStream:
    """One call.  Iterating it sends the request."""

    client: ServerModel
    prompt: Prompt
    sampling: Sampling
    cancel: Event
    _given_up: Event = field(default_factory=Event)
    _items: queue.SimpleQueue[Item] = field(default_factory=queue.SimpleQueue)
    _response: Any = None
    _attempts: int = 0

    def __iter__(self) -> Iterator[str | Completion]:
        started = time.perf_counter()
        threading.Thread(target=self._run, name="lm-stream", daemon=True).start()
        try:
            while True:
                item = self._next()
                if isinstance(item, Exception):
                    try:
                        raise item
                    finally:
                        del item  # which would hold this frame, and so the connection
                if isinstance(item, Completion):
                    yield replace(item, seconds=time.perf_counter() - started, attempts=self._attempts)
                    return
                yield item
        finally:
            # Also where the caller reads no further: the connection is not kept for nobody.
            self._given_up.set()
            if self._response is not None:
                self._response.close()

    def _next(self) -> Item:
        while not self.cancel.is_set():
            try:
                return self._items.get(timeout=POLL)
            except queue.Empty:
                continue
        return ModelCancelled(f"The call to {self.client.name} was taken back before its answer was finished.")

    def _run(self) -> None:
        """Puts the pieces, and last the answer or an error."""
        try:
            last = self._answer()
        except Exception as error:  # noqa: BLE001 - it is raised where the pieces are read
            last = error
        # Frames of this thread would hold the connection as long as the error is looked at.
        self._items.put(last.with_traceback(None) if isinstance(last, ModelError) else last)

    def _answer(self) -> Item:
        """The answer once it is whole, after as many attempts as allowed, or what went wrong."""
        client, failed = self.client, 0
        tokens = client.count_tokens(self.prompt) + self.sampling.max_tokens
        while client.pace.enter(tokens, self._given_up):
            self._attempts += 1
            pieces = Pieces(self.sampling.stop)
            body = self._body()
            try:
                return self._read(body, pieces)
            except Exception as error:  # noqa: BLE001 - the client knows its transport's errors, and raises others
                found = client.failure(error, body)
            finally:
                client.pace.leave()
            if found is None:
                continue
            failed += 1
            seconds = None if pieces.sent else client.wait_after(failed, found)
            if seconds is None:
                return found.error
            if self._given_up.wait(seconds):
                break
        return ModelCancelled(f"The call to {client.name} was taken back.")

    def _body(self) -> dict[str, JSON]:
        body = self.client.dialect.body(self.client.model, self.prompt, self.sampling, None)
        kept = {name: value for name, value in STREAM.items() if self.client.dialect.takes(name)}
        return {**body, **kept}

    def _read(self, body: dict[str, JSON], pieces: Pieces) -> Completion:
        with self.client.opened(body) as response:
            self._response = response
            kind = response.headers.get("content-type", "")
            if "json" in kind and "event-stream" not in kind:
                # A server that does not stream.
                reply = read_reply(bytes(response.read()), self.client.name)
            else:
                reply = self._events(response, pieces)
        completion = self.client.completion(reply, body, self.sampling, None)
        if piece := pieces.rest(completion.text):
            self._items.put(piece)
        return completion

    def _events(self, response: Any, pieces: Pieces) -> Reply:
        reader = EventReader(self.client.name, self.client.server.key)
        for line in lines(response.iter_bytes(), self.client.name):
            if reader.read(line) and (piece := pieces.more(reader.text)):
                self._items.put(piece)
            if reader.done or self._given_up.is_set():
                break
        return reader.reply()
