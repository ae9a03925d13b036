"""Encoders by name, and encoders from the passport of an index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unabridged.contracts import JSON, Encoder, Passport
from unabridged.encoders._devices import ALL, AUTO, devices_of
from unabridged.encoders._hf import ModelFolder
from unabridged.encoders.code.saved import read_split
from unabridged.encoders.code.split import Split
from unabridged.encoders.extension import NO_EXTENSION, NO_PLAN, Extension, LogN, check_most
from unabridged.errors import PassportMismatch, UsageError

HASHING = "hashing"
BACKENDS: Mapping[str, tuple[str, str]] = {
    "auto": ("_auto", "AutoBackend"),
    "torch": ("_torch", "TorchBackend"),
    "packed": ("_packed", "PackedBackend"),
    "onnx": ("_onnx", "OnnxBackend"),
    "openvino": ("_openvino", "OpenVinoBackend"),
    "varlen": ("_varlen", "VarlenBackend"),
    "compiled": ("_varlen", "CompiledBackend"),
}
"""Name -> module and class, built as ``Backend(folder, device=, precision=, trust_remote_code=, plan=)``."""


SHORT: Mapping[str, str] = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
"""Other words for precisions."""


def load_encoder(  # noqa: PLR0913  the one front door: each option is documented on the part that it reaches
    name: str | Path | None = None,
    *,
    device: str | None = None,
    devices: Sequence[str] | None = None,
    dtype: str | None = None,
    backend: str = "auto",
    precision: str | None = None,
    max_tokens: int | None = None,
    overlap: int = 0,
    pooling: str | None = None,
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    truncate_dim: int | None = None,
    normalize: bool | None = None,
    carry: bool | None = None,
    network: bool = False,
    trust_remote_code: bool = False,
    batch_tokens: int | None = None,
    late_tokens: int | None = None,
    late_overlap: int | None = None,
    landmark_tokens: int | None = None,
    split: str | None = None,
    language: str | None = None,
    header: bool | None = None,
    comments: bool | None = None,
    docstrings: bool | None = None,
    extension: Extension | Mapping[str, JSON] | None = None,
    extend: str | None = None,
    target_tokens: int | None = None,
    original_tokens: int | None = None,
    temperature: float | None = None,
    logn: str | None = None,
    dynamic: bool | None = None,
    group: int | None = None,
    neighbours: int | None = None,
    base_factor: float | None = None,
    long_only: bool | None = None,
) -> Encoder:
    """The encoder called ``name``; neither torch nor weights are loaded before the first vector is asked for.

    ``name`` is nothing (the embedded model), a model folder, a hub id ``org/name[@revision]`` (from the local cache,
    or with ``network=True`` from the hub), ``mamba`` for the trained Mamba of versions that have one, ``sea`` for the
    embedded model on code, split by its syntax and aggregated (:mod:`unabridged.encoders.sea.encoder`; so is a folder
    of that kind), or ``hashing[:dim]`` for the encoder without weights.  ``dtype`` and ``precision`` are two words for
    one thing.
    ``backend="auto"`` is the fastest one for model, device and precision.
    ``device`` is ``auto`` (the best there is), ``cpu``, ``cuda``, ``cuda:1``, ``mps``, ``cuda:all``, or several with
    commas between them; with several ``devices`` batches go to each in turn.
    Settings that are None take the model folder's own value.

    With ``late_tokens`` documents are encoded first and divided into segments of that many tokens afterwards
    (:mod:`unabridged.encoders.late`).  ``pooling="landmark"`` pools the states of a separator after every
    ``landmark_tokens`` tokens.

    ``split`` says where documents are cut into windows: ``prose`` (the default), or for source code ``syntax`` (between
    definitions and statements), ``lines``, ``spaces`` or ``tokens`` (:mod:`unabridged.encoders.code.split`).  With
    ``syntax``, ``language`` is that of texts which do not tell theirs, and ``header`` puts the path and the signatures
    around a window in front of it.  ``comments=False`` and ``docstrings=False`` leave those out of what is read; the
    record of each text says how much that was, and spans stay those of the whole text.  A folder may have been saved
    with such a choice: what is not said here is then its own, unless ``split`` is given.

    ``carry`` and ``normalize`` are for Mamba models, whose ``max_tokens`` is the size of a segment
    (:mod:`unabridged.encoders.mamba.encoder`).

    From ``extend`` on, the options are fields of :class:`~unabridged.encoders.extension.Extension` (``extend`` is its
    ``method``): how to read beyond the trained length.  ``extension`` is all of them in one, or a mapping of some.
    What is given changes what the folder was saved with; an ``Extension`` replaces it.
    """
    from unabridged.encoders._resolve import resolve, sea_place
    from unabridged.encoders.transformer import Settings, TransformerEncoder

    asked = {
        "method": extend,
        "target_tokens": target_tokens,
        "original_tokens": original_tokens,
        "temperature": temperature,
        "logn": logn,
        "dynamic": dynamic,
        "group": group,
        "neighbours": neighbours,
        "base_factor": base_factor,
        "long_only": long_only,
    }
    cutting = {
        "split": split,
        "language": language,
        "header": header,
        "comments": comments,
        "docstrings": docstrings,
    }
    if isinstance(name, str) and name.partition(":")[0] == HASHING:
        if extension is not None or any(value is not None for value in asked.values()):
            raise UsageError("The hashing encoder has neither positions nor attention: there is nothing to extend.")
        if any(value is not None for value in (late_tokens, late_overlap, landmark_tokens)):
            raise UsageError("The hashing encoder has no token states: late chunking and landmarks need a transformer.")
        return _hashing(name, max_tokens, overlap, _cutting(cutting))
    if device is not None and devices is not None:
        raise UsageError(f"Pass device={device!r} or devices={list(devices)!r}, not both.")
    if device is not None and ("," in device or device in (AUTO, ALL)):
        device, devices = None, [place for place in devices_of(device) if place is not None]
    if (sea := sea_place(name)) is not None:
        given: list[object] = [max_tokens, overlap or None, pooling, query_prompt, document_prompt, truncate_dim]
        given += (
            normalize,
            carry,
            late_tokens,
            late_overlap,
            landmark_tokens,
            extension,
            *cutting.values(),
            *asked.values(),
        )
        if any(value is not None for value in given) or backend != "auto":
            raise UsageError(
                f"{sea} aggregates blocks of one encoder, whose settings it has: only device, precision, network and "
                "batch_tokens can be chosen. Train an aggregator for others: unabridged train sea --help."
            )
        return _sea(
            sea,
            str(name),
            device=device,
            devices=devices,
            precision=None if dtype is None and precision is None else _precision(dtype, precision),
            network=network,
            trust_remote_code=trust_remote_code,
            batch_tokens=batch_tokens,
        )
    folder = resolve(name, pooling=pooling, network=network)
    if folder.is_mamba:
        _refuse_positions(folder, extension, asked, late_tokens, late_overlap, landmark_tokens)
        return _mamba(
            folder,
            [*devices] if devices else [device],
            backend,
            network=network,
            max_tokens=max_tokens,
            carry=carry,
            overlap=overlap,
            normalize=normalize,
            query_prompt=query_prompt,
            document_prompt=document_prompt,
            truncate_dim=truncate_dim,
            precision=_precision(dtype, precision),
            batch_tokens=batch_tokens,
            cutting=_cutting(cutting, folder),
        )
    if carry is not None or normalize is not None:
        raise UsageError(f"carry and normalize are for Mamba models, and {folder.source} is a transformer.")
    chosen = _extension(folder, extension, asked)
    _refuse_idle(folder, chosen)
    plan = folder.plan(chosen)
    options: dict[str, Any] = {
        "precision": _precision(dtype, precision),
        "trust_remote_code": trust_remote_code,
        "plan": plan,
    }
    places: list[str | None] = [*devices] if devices else [device]
    backends = [_backend(backend, folder, device=place, **options) for place in places]
    settings = Settings(
        max_tokens=_max_tokens(folder, chosen, max_tokens),
        overlap=overlap,
        query_prompt=query_prompt,
        document_prompt=document_prompt,
        truncate_dim=truncate_dim,
        batch_tokens=batch_tokens,
        extension=chosen,
        late_tokens=late_tokens,
        late_overlap=late_overlap,
        landmark_tokens=landmark_tokens,
        **_cutting(cutting, folder),
    )
    return TransformerEncoder(folder, backends, settings)


def encoder_from_passport(
    passport: Passport,
    *,
    name: str | Path | None = None,
    device: str | None = None,
    devices: Sequence[str] | None = None,
    network: bool = False,
    trust_remote_code: bool = False,
    batch_tokens: int | None = None,
) -> Encoder:
    """The encoder that ``passport`` describes, from its source or from ``name`` where the model has moved to.

    :class:`PassportMismatch` with both fingerprints and the first fact that differs, if what is found there is
    another encoder.
    """
    encoder = encoder_from_settings(
        passport.facts.get("kind"),
        name if name is not None else passport.source,
        passport.facts.get("settings", {}),
        device=device,
        devices=devices,
        network=network,
        trust_remote_code=trust_remote_code,
        batch_tokens=batch_tokens,
    )
    check_passport(passport, encoder.passport)
    return encoder


def encoder_from_settings(kind: JSON, name: str | Path, settings: Mapping[str, JSON], **where: Any) -> Encoder:
    """The encoder called ``name`` with the settings of a passport of this kind; nothing is compared.

    ``where`` is what changes no vector: device, network and the like.
    """
    asked = dict(settings)
    if "backend" in asked:
        asked["backend"] = "auto"  # backends of one precision share their vector space
    if "extension" in asked:
        asked["extension"] = Extension.from_json(asked["extension"])
    if kind in ("transformer", "mamba"):
        asked.setdefault("split", Split.PROSE.value)  # not what the folder may have been saved with
    if kind == HASHING:
        from unabridged.encoders.hashing import HashingEncoder

        return HashingEncoder(**asked)
    return load_encoder(name, **where, **asked)


def check_passport(expected: Passport, found: Passport) -> None:
    """Raises :class:`PassportMismatch` unless both describe the same encoder."""
    if expected.fingerprint == found.fingerprint:
        return
    key, old, new = next(_named_differences(expected.facts, found.facts), ("fingerprint", "", ""))
    raise PassportMismatch(
        f"The encoder {found.source!r} has fingerprint {found.fingerprint}, the index was built with "
        f"{expected.fingerprint} ({expected.source!r}). First difference: {key} was {old!r} and is {new!r}. "
        "Name the encoder that the index was built with, or build the index again."
    )


SETTINGS: Mapping[str, str] = {
    "extension.method": "extend",
    "extension.logn": "logn",
    "extension.temperature": "temperature",
    "extension.rows_per_position": "rows_per_position",
    "extension.target": "target_tokens",
    "extension.original": "original_tokens",
    "prompts.document": "document_prompt",
    "prompts.query": "query_prompt",
}
"""Facts of a passport -> what a user calls them.  Those of an extension in the order of what follows from what: the
scale follows from the target, and the target is nothing without a method."""


def _named_differences(old: Mapping[str, JSON], new: Mapping[str, JSON]) -> Iterator[tuple[str, JSON, JSON]]:
    """As :func:`differences`, by the names of settings; in an extension what was chosen comes before what follows."""
    nothing: dict[str, JSON] = {"extension": dict(NO_PLAN.facts)}
    found = list(differences({**nothing, **old}, {**nothing, **new}))
    order = list(SETTINGS)

    def place(difference: tuple[str, JSON, JSON]) -> tuple[str, int]:
        top, _, rest = difference[0].partition(".")
        chosen = order.index(difference[0]) if difference[0] in SETTINGS else len(order)
        return top, chosen if rest else 0

    for key, was, now in sorted(found, key=place):
        group, _, own = key.partition(".")
        yield SETTINGS.get(key, own.removeprefix("extension.") if group in ("extension", "settings") else key), was, now


def differences(old: Mapping[str, JSON], new: Mapping[str, JSON], prefix: str = "") -> Iterator[tuple[str, JSON, JSON]]:
    """Every fact that differs, as its dotted name and both values, in order of name."""
    for key in sorted({*old, *new}):
        was, now = old.get(key), new.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from differences(was, now, f"{prefix}{key}.")
        elif was != now:
            yield f"{prefix}{key}", was, now


def _extension(
    folder: ModelFolder, extension: Extension | Mapping[str, JSON] | None, asked: Mapping[str, JSON]
) -> Extension:
    """What was asked for on top of what the folder was saved with."""
    given = {name: value for name, value in asked.items() if value is not None}
    if extension is not None and given:
        raise UsageError(f"Pass extension or {', '.join(sorted(given))}, not both.")
    saved = folder.saved.extension if folder.saved is not None else NO_EXTENSION
    if isinstance(extension, Extension):
        # How the rows of the matrix lie is a fact of the folder, whatever is asked for.
        original = extension.original_tokens if extension.original_tokens is not None else saved.original_tokens
        return replace(extension, original_tokens=original, rows_per_position=saved.rows_per_position)
    return saved.changed({**(extension or {}), **given})


def _refuse_idle(folder: ModelFolder, chosen: Extension) -> None:
    """:class:`UsageError` for a trained length that nothing looks at, unless the folder was saved with it."""
    saved = folder.saved.extension.original_tokens if folder.saved is not None else None
    unused = chosen.method is None and chosen.logn is LogN.OFF and chosen.rows_per_position == 1
    if chosen.original_tokens not in (None, saved) and unused:
        raise UsageError(
            f"original_tokens={chosen.original_tokens} changes nothing by itself: it is what extend and logn start "
            "from. Add one of them, or leave it out."
        )


def _max_tokens(folder: ModelFolder, chosen: Extension, asked: int | None) -> int | None:
    """The window that was asked for, else the one that the folder was saved with by the same extension."""
    if asked is not None or folder.saved is None or chosen != folder.saved.extension:
        return asked
    return folder.saved.max_tokens


def _cutting(asked: Mapping[str, Any], folder: ModelFolder | None = None) -> dict[str, Any]:
    """The settings that say where documents are cut: those asked for, on top of what ``folder`` was saved with.

    A split that is asked for is another way to cut: nothing of what the folder has is then taken.
    """
    plain = {"split": Split.PROSE, "language": None, "header": False, "comments": True, "docstrings": True}
    saved = {} if folder is None or asked["split"] is not None else read_split(folder.path)
    return {**plain, **saved, **{name: value for name, value in asked.items() if value is not None}}


def _hashing(name: str, max_tokens: int | None, overlap: int, cutting: dict[str, Any]) -> Encoder:
    from unabridged.encoders.hashing import HashingEncoder

    _, _, dim = name.partition(":")
    if dim and not dim.isdecimal():
        raise UsageError(f"{name!r}: after 'hashing:' comes the width of the vectors, such as 'hashing:64'.")
    check_most(max_tokens=max_tokens)
    window = max_tokens if max_tokens is not None else 256
    if cutting.pop("header"):
        raise UsageError("The hashing encoder reads words by themselves: a header in front of them says nothing.")
    return HashingEncoder(int(dim or 64), window, overlap=overlap, **cutting)


def _sea(folder: Path, source: str, **options: Any) -> Encoder:
    from unabridged.encoders.sea.folder import load

    return load(folder, source=source, **options)


def _refuse_positions(folder: ModelFolder, extension: JSON, asked: Mapping[str, JSON], *late: int | None) -> None:
    """:class:`UsageError` for what only a transformer has."""
    if extension is not None or any(value is not None for value in asked.values()):
        raise UsageError(
            f"{folder.source} is a Mamba: it has no positions and no attention, reads texts of any length, and there "
            "is nothing to extend. Leave extend and its options out."
        )
    if any(value is not None for value in late):
        raise UsageError(
            f"{folder.source} is a Mamba: one pass gives the vectors of its segments, with all that comes before them. "
            "Leave late_tokens, late_overlap and landmark_tokens out; max_tokens is the size of a segment."
        )


def _mamba(
    folder: ModelFolder,
    devices: Sequence[str | None],
    backend: str,
    *,
    network: bool,
    cutting: dict[str, Any],
    **settings: Any,
) -> Encoder:
    from unabridged.encoders.mamba.encoder import MambaEncoder, Settings
    from unabridged.encoders.mamba.folder import tokenizer_folder

    if backend not in ("auto", "torch"):
        raise UsageError(f"A Mamba has kernels of its own, and no backend {backend!r}: leave backend out.")
    if cutting.pop("header"):
        raise UsageError(f"{folder.source} is a Mamba, whose segments follow each other without headers: leave it out.")
    words = tokenizer_folder(folder, network=network)
    return MambaEncoder(folder, Settings(**settings, **cutting), words=words, devices=devices)


def _backend(name: str, folder: ModelFolder, **options: Any) -> Any:
    import importlib

    if name not in BACKENDS:
        raise UsageError(f"Unknown backend {name!r}; choose one of {', '.join(BACKENDS)}.")
    module, kind = BACKENDS[name]
    return getattr(importlib.import_module(f"unabridged.encoders.{module}"), kind)(folder, **options)


def _precision(dtype: str | None, precision: str | None) -> str:
    if dtype is not None and precision is not None and dtype != precision:
        raise UsageError(f"dtype={dtype!r} and precision={precision!r} contradict each other; pass one of them.")
    named = precision or dtype or "float32"
    return SHORT.get(named, named)
