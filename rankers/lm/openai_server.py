"""A model behind any server that speaks the OpenAI chat protocol: vLLM, SGLang, llama.cpp, Ollama, hosted ones.

The ``openai`` package does the transport.  Attempts are counted here and not there, so that each one is within the
rate limits, waits can be cancelled, and a report can say how many were sent.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property, partial
from threading import Event
from typing import Any

from unabridged._extras import require
from unabridged.contracts import JSON
from unabridged.encoders._hashes import canonical_sha256
from unabridged.errors import (
    AuthFailed,
    BadRequest,
    MalformedResponse,
    ModelCancelled,
    ModelError,
    ModelTimeout,
    RateLimited,
    ServerUnavailable,
    UsageError,
)
from unabridged.rankers.lm import estimate
from unabridged.rankers.lm.contracts import Capabilities, Completion, Constraint, Outcome, Prompt, Sampling
from unabridged.rankers.lm.failures import Failure, classify, masked, refusal_of
from unabridged.rankers.lm.pacing import Pace
from unabridged.rankers.lm.replies import Reply, first_labels, from_schema, read_reply
from unabridged.rankers.lm.requests import MOST_LOGPROBS, Dialect
from unabridged.rankers.lm.server import Server
from unabridged.rankers.lm.server_stream import ServerStream
from unabridged.rankers.lm.workers import side_by_side


class ServerModel:
    """Satisfies :class:`~unabridged.rankers.lm.contracts.LanguageModel`; safe to share by threads."""

    def __init__(self, model: str, server: Server | None = None) -> None:
        self.server = server or Server()
        self.model = model
        self.dialect = Dialect()
        self.pace = Pace(
            self.server.concurrency,
            requests=self.server.requests_per_minute,
            tokens=self.server.tokens_per_minute,
        )
        self._openai = require("openai", extra="llm", purpose="models behind a server")

    @property
    def name(self) -> str:
        """``openai:MODEL@URL``, which loads it again."""
        return f"openai:{self.model}@{self.server.base_url}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 over address, model, revision and extra fields; a server may still change what it serves."""
        server = self.server
        facts = [server.base_url.rstrip("/"), self.model, server.revision, dict(server.extra)]
        return canonical_sha256(facts)

    @property
    def capabilities(self) -> Capabilities:
        """What the server is not known to refuse: it is found out by the first call that asks for it."""
        return Capabilities(
            constrained=False,
            structured=self.dialect.takes("response_format"),
            logprobs=MOST_LOGPROBS if self.dialect.takes("logprobs") else 0,
            context=self.server.context,
            prefix=False,
            exact_tokens=False,
        )

    @property
    def adaptations(self) -> tuple[str, ...]:
        """What the server refused and is no longer sent, in sentences."""
        return tuple(self.dialect.adaptations)

    def count_tokens(self, prompt: Prompt) -> int:
        """An estimate, on the high side."""
        return estimate.prompt_tokens(prompt)

    def count_texts(self, texts: Sequence[str]) -> list[int]:
        """Estimates, on the high side."""
        return estimate.texts_tokens(texts)

    def cut(self, text: str, tokens: int) -> str:
        """The longest beginning of an estimated ``tokens`` tokens."""
        return estimate.beginning(text, tokens)

    def complete(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        constraint: Constraint | None = None,
        cancel: Event | None = None,
    ) -> list[Outcome]:
        """One outcome per prompt.  Once cancelled, requests on their way are no longer waited for."""
        # Opened here, so that a missing package or a wrong setting is told by the caller's own thread.
        _ = self._client
        if not all(prompts):
            raise UsageError("A prompt has no message. Give it at least one.")
        stop = cancel or Event()
        giving_up = threading.Event()
        jobs = [partial(self._one, prompt, sampling, constraint, stop, giving_up) for prompt in prompts]
        try:
            found = side_by_side(jobs, self.server.concurrency, stop)
        finally:
            # Those on their way send nothing more, also where the caller was interrupted.
            giving_up.set()
        outcomes: list[Outcome] = [_cancelled(self.name) if one is None else one for one in found]
        for outcome in outcomes:
            if isinstance(outcome, AuthFailed):
                raise outcome
        refused = [outcome for outcome in outcomes if isinstance(outcome, BadRequest)]
        if refused and len(refused) == len(outcomes):
            raise refused[0]
        return outcomes

    def stream(self, prompt: Prompt, sampling: Sampling, *, cancel: Event | None = None) -> Iterator[str | Completion]:
        """The answer in pieces.  The request is sent when the first one is asked for."""
        _ = self._client
        if not prompt:
            raise UsageError("A prompt has no message. Give it at least one.")
        return iter(ServerStream(self, prompt, sampling, cancel or Event()))

    @contextmanager
    def opened(self, body: Mapping[str, JSON]) -> Iterator[Any]:
        """The response to ``body`` while it arrives; the package's errors pass."""
        with ExitStack() as stack:
            try:
                response = stack.enter_context(
                    self._client.chat.completions.with_streaming_response.create(
                        model=body["model"],
                        messages=body["messages"],
                        stream=True,
                        extra_body={**body, **self.server.extra},
                    )
                )
            except (UnicodeError, ValueError, TypeError) as error:
                raise self._unwritable(error) from error
            yield response

    def close(self) -> None:
        """Closes the connections that are kept open; the next call opens others."""
        if (client := self.__dict__.pop("_client", None)) is not None:
            client.close()

    @cached_property
    def _client(self) -> Any:
        server = self.server
        return self._openai.OpenAI(
            base_url=server.base_url,
            api_key=server.key,
            timeout=self._openai.Timeout(server.read_timeout, connect=server.connect_timeout),
            max_retries=0,
        )

    def _one(
        self,
        prompt: Prompt,
        sampling: Sampling,
        constraint: Constraint | None,
        cancel: Event,
        giving_up: Event,
    ) -> Outcome:
        """The outcome of one prompt, after as many attempts as allowed."""
        started = time.perf_counter()
        attempts = failed = 0
        while not giving_up.is_set():
            if not self.pace.enter(self.count_tokens(prompt) + sampling.max_tokens, cancel):
                break
            attempts += 1
            try:
                found = self._attempt(prompt, sampling, constraint)
            finally:
                self.pace.leave()
            if isinstance(found, Completion):
                return replace(found, seconds=time.perf_counter() - started, attempts=attempts)
            if found is None:
                continue
            if isinstance(found.error, AuthFailed):
                giving_up.set()
            failed += 1
            seconds = self.wait_after(failed, found)
            if seconds is None:
                return found.error
            if cancel.wait(seconds):
                break
        return _cancelled(self.name)

    def _attempt(
        self, prompt: Prompt, sampling: Sampling, constraint: Constraint | None
    ) -> Completion | Failure | None:
        """One request: an answer, a failure, or None where the server refused a field that is now left out."""
        body = self.dialect.body(self.model, prompt, sampling, constraint)
        try:
            return self.completion(read_reply(self._send(body), self.name), body, sampling, constraint)
        except (ModelError, self._openai.APIError) as error:
            return self.failure(error, body)

    def failure(self, error: Exception, body: dict[str, JSON]) -> Failure | None:
        """What went wrong with the request ``body``; None where it is to be sent again without a refused field.

        Errors that are neither of the transport nor of the protocol are raised.
        """
        if isinstance(error, ModelError):
            return Failure(error, transient=isinstance(error, (ModelTimeout, RateLimited, ServerUnavailable)))
        if isinstance(error, self._openai.APIStatusError):
            refusal = refusal_of(error, self.server.key)
            failure = classify(refusal, self.name)
            adapts = isinstance(failure.error, BadRequest) and self.dialect.adapt(refusal, body)
            return None if adapts else failure
        return self._broken(error)

    def wait_after(self, failed: int, failure: Failure) -> float | None:
        """Seconds before the next attempt, after ``failed`` ones; None if there is to be none."""
        if not failure.transient:
            return None
        asked = failure.error.retry_after if isinstance(failure.error, RateLimited) else None
        seconds = self.server.retry.wait(failed, asked)
        if asked is not None and seconds is not None:
            self.pace.pause(asked)
        return seconds

    def _send(self, body: Mapping[str, JSON]) -> bytes:
        """The bytes of the response; the package's errors pass."""
        try:
            response = self._client.chat.completions.with_raw_response.create(
                model=body["model"], messages=body["messages"], extra_body={**body, **self.server.extra}
            )
        except (UnicodeError, ValueError, TypeError) as error:
            raise self._unwritable(error) from error
        return bytes(response.http_response.content)

    def _unwritable(self, error: Exception) -> BadRequest:
        return BadRequest(f"The request to {self.name} could not be written: {error}")

    def completion(
        self,
        reply: Reply,
        body: Mapping[str, JSON],
        sampling: Sampling,
        constraint: Constraint | None,
    ) -> Completion:
        """The answer in a reply to the request ``body``."""
        text, satisfied = _before_stop(reply.text, sampling.stop), False
        if constraint is not None and "response_format" in body:
            found = from_schema(text, constraint)
            if found is not None:
                text, satisfied = found
            elif text and (reply.finish == "stop" or text.lstrip()[:1] != "{"):
                self.dialect.ignored("response_format")
        if "logprobs" in body and reply.text and reply.top is None:
            self.dialect.ignored("logprobs")
        return Completion(
            text=text,
            usage=reply.usage,
            finish=reply.finish,
            seconds=0.0,
            constrained=satisfied,
            first=first_labels(reply.top, constraint) if sampling.top_logprobs else None,
        )

    def _broken(self, error: Any) -> Failure:
        """A connection that was not made, broke, or took too long."""
        if isinstance(error, (self._openai.APITimeoutError, *_transport("TimeoutException"))):
            return Failure(
                ModelTimeout(
                    f"{self.name} gave no answer in {self.server.read_timeout:g} s (or no connection in "
                    f"{self.server.connect_timeout:g} s). Allow more time, or ask for fewer tokens."
                ),
                True,
            )
        if isinstance(error, (self._openai.APIConnectionError, *_transport("HTTPError", "StreamError"))):
            cause = masked(str(getattr(error, "__cause__", None) or error), self.server.key)
            return Failure(ServerUnavailable(f"{self.name} cannot be reached, or broke off: {cause}"), True)
        if not isinstance(error, self._openai.APIError):
            raise error
        return Failure(MalformedResponse(f"{self.name}: {masked(str(error), self.server.key)[:300]}"), False)


def _transport(*names: str) -> tuple[type[Exception], ...]:
    """The errors of these names of whatever the package sends requests with: ``httpx`` of old, ``httpx2`` of late.

    They pass where an answer breaks while it is read; the package's own errors are of connections that are made.
    """
    loaded = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
    return tuple(getattr(module, name) for module in loaded for name in names)


def served_models(server: Server) -> list[str]:
    """Names of the models that a server says it has; :class:`ModelError` where it does not say."""
    openai = require("openai", extra="llm", purpose="models behind a server")
    timeout = openai.Timeout(server.read_timeout, connect=server.connect_timeout)
    client = openai.OpenAI(base_url=server.base_url, api_key=server.key, timeout=timeout, max_retries=0)
    try:
        return [str(model.id) for model in client.models.list().data or []]
    except openai.APIStatusError as error:
        raise classify(refusal_of(error, server.key), server.base_url).error from error
    except (openai.APIError, ValueError, AttributeError, TypeError) as error:
        raise ServerUnavailable(
            f"{server.base_url} does not say which models it has: {masked(str(error), server.key)}. Name one."
        ) from error


def _before_stop(text: str, stops: Sequence[str]) -> str:
    """``text`` up to the first stop string: not every server knows them, and some leave them in."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


def _cancelled(name: str) -> ModelCancelled:
    return ModelCancelled(f"The call to {name} was taken back before there was an answer.")
