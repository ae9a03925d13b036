"""An encoder as a worker in another process makes it: by name, settings and place, or by a function of the caller.

A worker gets no object: what it loads has the fingerprint of the encoder that the index is built with, or it stops.
Equal fingerprints are equal vectors to rounding; for equal *bytes* a worker also runs the same backend, with as many
threads as this process where their number changes bits.  Measured (MiniLM, 1 against 2 threads): onnxruntime, one
sequence a thread, never; the packed backend for a batch of one short sequence alone; the torch backend too.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from unabridged.contracts import JSON, Encoder, Passport
from unabridged.encoders._resolve import EMBEDDED, SHIPPED
from unabridged.encoders.hashing import HashingEncoder
from unabridged.encoders.load import BACKENDS, check_passport, encoder_from_settings
from unabridged.errors import MissingFile, PassportMismatch, UsageError

THREADS_DO_NOT_MATTER = ("hashing", "onnx")
"""Kind of encoder, or backend, whose vectors have the same bits with any number of threads."""


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """Plain values: they travel as JSON."""

    kind: str
    source: str
    settings: Mapping[str, JSON]
    fingerprint: str
    facts: Mapping[str, JSON]
    backend: str | None = None
    devices: tuple[str, ...] = ()
    """Where it was to run; worker i of several takes device i, and starts again at the first."""
    batch_tokens: int | None = None
    trust_remote_code: bool = False
    factory: str | None = None
    """``module:function``, which makes the encoder without arguments."""
    path: tuple[str, ...] = field(default=(), compare=False)
    """Folders in which ``factory`` is looked for."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EncoderSpec:
        """What :meth:`as_json` gave, after a journey as JSON."""
        return cls(**{**values, "devices": tuple(values["devices"]), "path": tuple(values["path"])})

    @property
    def any_threads(self) -> bool:
        """Whether the number of threads changes no bit of a vector."""
        return self.factory is None and (self.kind if self.backend is None else self.backend) in THREADS_DO_NOT_MATTER

    @property
    def on_gpu(self) -> bool:
        """Whether each worker wants a GPU."""
        return any(device.startswith("cuda") for device in self.devices)

    def for_worker(self, number: int, gpus: int | None = None) -> EncoderSpec:
        """The spec with the one device of worker ``number``; plain ``cuda`` is spread over ``gpus``."""
        if not self.devices:
            return self
        device = self.devices[number % len(self.devices)]
        if device == "cuda" and gpus:
            device = f"cuda:{number % gpus}"
        return replace(self, devices=(device,))

    def load(self) -> Encoder:
        """The encoder; its weights come with the first text.

        Raises:
            PassportMismatch: what is found here under this name is another encoder.
            MissingFile, MissingExtra: the model, or a package, is not here.
        """
        encoder = call(self.factory, self.path) if self.factory is not None else self._named()
        check_passport(Passport(self.source, encoder.dim, self.facts, self.fingerprint), encoder.passport)
        return encoder

    def _named(self) -> Encoder:
        settings = dict(self.settings)
        where: dict[str, Any] = {}
        if self.kind != "hashing":
            where["batch_tokens"] = self.batch_tokens
            where["device"] = self.devices[0] if self.devices else None
            where["trust_remote_code"] = self.trust_remote_code
            if settings.pop("backend", None) is not None and self.backend is not None:
                where["backend"] = self.backend
        return encoder_from_settings(self.kind, self.source, settings, **where)


def spec_of(encoder: Encoder, factory: str | None = None) -> EncoderSpec:
    """How a worker makes an encoder equal to ``encoder``; looked at here first.

    Raises:
        UsageError: it was not made by ``load_encoder``, or not of names alone, and no ``factory`` says how it was.
    """
    passport = encoder.passport
    kind = str(passport.facts.get("kind", type(encoder).__name__))
    named: Any = passport.facts.get("settings")
    found = placed(encoder)
    spec = EncoderSpec(
        kind,
        _anywhere(passport.source),
        named if isinstance(named, Mapping) else {},
        passport.fingerprint,
        passport.facts,
        found.backend,
        found.devices,
        found.batch_tokens,
        found.trust_remote_code,
        factory,
        tuple(sys.path) if factory is not None else (),
    )
    if factory is None:
        _check(spec, encoder)
    else:
        spec.load()
    return spec


def _check(spec: EncoderSpec, encoder: Encoder) -> None:
    advice = (
        "Pass the name or the folder of a model, or factory='module:function' for a function without arguments that "
        "makes the encoder; or build with engine='local', which uses the object itself."
    )
    if isinstance(encoder, HashingEncoder) and vars(encoder).get("_fail_on") is not None:
        raise UsageError(f"A worker cannot make an encoder that fails on purpose from its name. {advice}")
    try:
        found = spec.load()
    except (UsageError, MissingFile, PassportMismatch, TypeError) as error:
        raise UsageError(
            f"A worker in another process cannot load this {type(encoder).__name__} (source {spec.source!r}): {error} "
            f"{advice}"
        ) from error
    if type(found) is not type(encoder):
        raise UsageError(
            f"A worker in another process would load {type(found).__name__} where this is a {type(encoder).__name__}. "
            f"{advice}"
        )


def _anywhere(source: str) -> str:
    """A folder by its whole path, since a worker may start in another one; other names as they are."""
    named = source == EMBEDDED or source in SHIPPED
    return source if named or not Path(source).is_dir() else str(Path(source).resolve())


def call(factory: str, path: tuple[str, ...] = ()) -> Encoder:
    """The encoder that ``module:function`` makes.

    Raises:
        UsageError: there is no such function, or it gives something else.
    """
    sys.path.extend(folder for folder in path if folder not in sys.path)
    module, colon, name = factory.partition(":")
    if not colon:
        raise UsageError(f"factory is 'module:function', got {factory!r}")
    try:
        make = getattr(importlib.import_module(module), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise UsageError(f"factory {factory!r} cannot be found: {error}") from error
    encoder = make()
    if not isinstance(encoder, Encoder):
        raise UsageError(f"factory {factory!r} gives a {type(encoder).__name__}, expected an encoder")
    return encoder


@dataclass(frozen=True, slots=True)
class Placed:
    """With what an encoder runs; None and nothing where it does not say."""

    backend: str | None = None
    devices: tuple[str, ...] = ()
    batch_tokens: int | None = None
    trust_remote_code: bool = False


def placed(encoder: Any) -> Placed:
    """Backend, devices and tokens per batch of ``encoder``.

    A backend that was left to choose is asked what it chose, so that a worker does not choose otherwise; not where a
    GPU was named, which this machine need not have.
    """
    base = getattr(encoder, "base", encoder)
    tokens: int | None = getattr(getattr(base, "settings", None), "batch_tokens", None)
    names = {kind: name for name, (_, kind) in BACKENDS.items()}
    backends = list(getattr(getattr(base, "_runner", None), "backends", ()))
    parts = backends or list(getattr(base, "_models", ()))
    if not parts:
        return Placed(batch_tokens=tokens)
    trust = any(vars(part).get("_trust", vars(part).get("_trust_remote_code", False)) for part in parts)
    named = tuple(str(vars(part)["_device"]) for part in parts if vars(part).get("_device") not in (None, "auto"))
    if any(device != "cpu" for device in named):
        return Placed(names.get(type(parts[0]).__name__), named, tokens, trust)
    chosen = getattr(parts[0], "chosen", parts[0])
    return Placed(names.get(type(chosen).__name__), (chosen.device,), tokens, trust)
