"""What a server's refusal means, as a typed error: by status, code and wording.

The texts that servers answer with go into the error's message and nowhere else, with the key taken out.
"""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unabridged.contracts import JSON
from unabridged.errors import (
    AuthFailed,
    BadRequest,
    ContentFiltered,
    ContextOverflow,
    ModelError,
    ModelTimeout,
    RateLimited,
    ServerUnavailable,
)

SHOWN = 500
"""Characters of a server's message that are kept."""
_OVERFLOW = re.compile(
    r"context_length_exceeded|exceed_context_size|(maximum|max|model'?s?) context (length|size|window)"
    r"|exceeds? the (available |model'?s? )?context|prompt is too long|input is too long|too many (input )?tokens"
    r"|maximum (model|input|sequence) length|max_model_len",
    re.IGNORECASE,
)
_LIMITS = (
    re.compile(r"context (?:length|size|window) (?:is|of) (\d+)", re.IGNORECASE),
    re.compile(r"context size \((\d+)", re.IGNORECASE),
    re.compile(r"(?:maximum|limit|at most|up to)\D{0,40}?(\d+)", re.IGNORECASE),
)
_GOTS = (
    re.compile(r"(?:resulted in|requested|request has|contains?(?: at least)?|prompt is|has) (\d+)", re.IGNORECASE),
    re.compile(r"request \((\d+) tokens", re.IGNORECASE),
    re.compile(r"(\d+)\s*>\s*\d+", re.IGNORECASE),
)
_FILTERED = re.compile(r"content[_ ]?(filter|policy)|responsible ?ai", re.IGNORECASE)
_QUOTA = re.compile(r"insufficient_quota|billing|exceeded your current quota", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error, and whether the same request may succeed later."""

    error: ModelError
    transient: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """What came back instead of an answer."""

    status: int
    message: str
    code: str = ""
    param: str = ""
    headers: Mapping[str, str] | None = None
    body: Mapping[str, JSON] | None = None


def refusal_of(error: Any, secret: str) -> Refusal:
    """The parts of an ``openai.APIStatusError``; ``secret`` is masked wherever the server repeats it."""
    body: Mapping[str, JSON] = error.body if isinstance(error.body, Mapping) else {}
    nested = body.get("error")
    inner: Mapping[str, JSON] = nested if isinstance(nested, Mapping) else body
    raw = inner.get("message") or inner.get("detail") or error.message
    message = masked(str(raw), secret)[:SHOWN]
    code = " ".join(str(inner[key]) for key in ("code", "type") if inner.get(key))
    param = inner.get("param")
    return Refusal(error.status_code, message, code, str(param or ""), error.response.headers, inner)


def masked(text: str, secret: str) -> str:
    """``text`` without the key."""
    return text.replace(secret, "***") if secret else text


def classify(refusal: Refusal, where: str) -> Failure:
    """The typed error of a status of 400 or more; ``where`` names model and server."""
    status, said = refusal.status, f"{where} answered {refusal.status}: {refusal.message}"
    text = f"{refusal.code} {refusal.message}"
    if status in (401, 403):
        return Failure(AuthFailed(f"{said} Check the key, and whether it may use this model."), False)
    if status == 429:
        wait = retry_after(refusal.headers or {})
        return Failure(RateLimited(said, retry_after=wait), transient=not _QUOTA.search(text))
    if status == 413 or _OVERFLOW.search(text):
        limit, got = _sizes(refusal)
        hint = "Show less of each candidate, or rank them in smaller windows."
        return Failure(ContextOverflow(f"{said} {hint}", limit=limit, got=got), False)
    if _FILTERED.search(text):
        return Failure(ContentFiltered(said), False)
    if status == 408:
        return Failure(ModelTimeout(said), True)
    if status == 409 or status >= 500:
        return Failure(ServerUnavailable(said), True)
    return Failure(BadRequest(said), False)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, from ``Retry-After`` as seconds or a date; None if it does not say."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) / unit
        except ValueError:
            seconds = _until(value)
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None


def _until(date: str) -> float:
    """Seconds until an HTTP date; not a number where it is none."""
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return math.nan


def _sizes(refusal: Refusal) -> tuple[int | None, int | None]:
    """Tokens that fit and tokens that were sent, as far as the server says."""
    body = refusal.body or {}
    stated = tuple(body.get(name) for name in ("n_ctx", "n_prompt_tokens"))
    if all(isinstance(number, int) for number in stated):
        return stated[0], stated[1]
    return _number(_LIMITS, refusal.message), _number(_GOTS, refusal.message)


def _number(patterns: tuple[re.Pattern[str], ...], text: str) -> int | None:
    for pattern in patterns:
        if (match := pattern.search(text.replace(",", ""))) is not None:
            return int(match[1])
    return None
