"""Where a server is, which key it gets, and how it may be asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from unabridged.contracts import JSON
from unabridged.errors import UsageError
from unabridged.rankers.lm.pacing import Retry

OPENAI = "https://api.openai.com/v1"
KEY_VARIABLE = "UNABRIDGED_API_KEY"
OPENAI_KEY_VARIABLE = "OPENAI_API_KEY"
NO_KEY = "none"
"""Sent where there is no key: servers on one's own machine do not look at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where a model is, and how it may be asked.  Times are seconds."""

    base_url: str = OPENAI
    api_key: str | None = field(default=None, repr=False)
    """None: ``$UNABRIDGED_API_KEY``; for api.openai.com also ``$OPENAI_API_KEY``, which goes to no other host."""
    connect_timeout: float = 10.0
    read_timeout: float = 180.0
    retry: Retry = field(default_factory=Retry)
    concurrency: int = 8
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    context: int | None = None
    """Tokens of prompt and answer, where it is known; servers do not say it beforehand."""
    revision: str = ""
    """Of the model, as far as one knows it; part of what cached answers are kept under."""
    extra: Mapping[str, JSON] = field(default_factory=dict)
    """Fields put into every request as they are, such as ``{"chat_template_kwargs": {"enable_thinking": False}}``."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        # What may hold a secret has no place in an address, which is shown and kept with results.
        secret = parts.username or parts.password or parts.query or parts.fragment
        if parts.scheme not in ("http", "https") or not parts.hostname or secret:
            raise UsageError(
                f"base_url={parts.scheme}://{parts.hostname or ''}... should be like https://host/v1, without user "
                "name, password or query. A key is given as api_key or in the environment."
            )
        for name in ("connect_timeout", "read_timeout"):
            # Also what is not a number.
            if not getattr(self, name) > 0:
                raise UsageError(f"{name}={getattr(self, name)} should be a positive number of seconds.")
        if self.context is not None and self.context < 1:
            raise UsageError(f"context={self.context} should be a positive number of tokens, or None.")

    @property
    def key(self) -> str:
        """The key to send; ``none`` if there is none."""
        named = self.api_key or os.environ.get(KEY_VARIABLE)
        if not named and urlsplit(self.base_url).hostname == urlsplit(OPENAI).hostname:
            named = os.environ.get(OPENAI_KEY_VARIABLE)
        return named or NO_KEY
