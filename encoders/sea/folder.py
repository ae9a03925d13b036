"""A SEA encoder as a folder: an aggregator of a few kilobytes, and which encoder's blocks it is for.

::

    unabridged_sea.json
        format        1
        aggregator    kind, and the shape of each parameter
        base          source, width, facts and fingerprint of the encoder, as its passport has them
    aggregator.safetensors      the parameters, float32; absent where the formula has none
    base/                       the encoder's own folder, where it has no name by which it is found again
    README.md                   how it was trained

The base is loaded from ``base/`` if that is there, else by its source: ``embedded``, a hub id, ``mamba``, or the
hashing encoder.  An aggregator weighs blocks of one encoder: any other one, and any other way to split, is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from unabridged.contracts import JSON, Encoder, Floats, Passport
from unabridged.encoders._extension_file import read_json
from unabridged.encoders._hashes import canonical_sha256
from unabridged.encoders._resolve import EMBEDDED, SEA_NAME, SHIPPED
from unabridged.encoders.export import save_folder
from unabridged.encoders.sea.aggregators import Aggregator
from unabridged.encoders.sea.encoder import SeaEncoder
from unabridged.errors import MissingFile, PassportMismatch, UsageError, ValidationError

WEIGHTS_NAME = "aggregator.safetensors"
BASE_NAME = "base"
FORMAT = 1


def load(
    folder: Path,
    *,
    source: str | None = None,
    device: str | None = None,
    devices: Sequence[str] | None = None,
    precision: str | None = None,
    network: bool = False,
    trust_remote_code: bool = False,
    batch_tokens: int | None = None,
) -> SeaEncoder:
    """The encoder of ``folder``; neither torch nor weights of the base are loaded before the first vector.

    Raises:
        ValidationError: a file that is not understood, or parameters that do not fit.
        MissingFile: a file, or the base encoder, is not there.
        PassportMismatch: the base is not the encoder that the aggregator was trained with; says what differs.
    """
    config = _config(folder)
    aggregator = _aggregator(folder, config["aggregator"])
    wanted = _passport(folder, config["base"])
    where = {
        "device": device,
        "devices": devices,
        "network": network,
        "trust_remote_code": trust_remote_code,
        "batch_tokens": batch_tokens,
    }
    base = _base(folder, wanted, None, where)
    _check_base(folder, wanted, base.passport)
    if precision not in (None, wanted.facts.get("backend", {}).get("precision")):
        base = _base(folder, wanted, precision, where)
    return SeaEncoder(base, aggregator, source=source or str(folder))


def save(encoder: SeaEncoder, path: Path) -> Path:
    """Writes ``encoder`` as the folder ``path``; a kill at any moment leaves nothing by that name.

    :class:`UsageError` if there is something at ``path`` already, or the base has no name and cannot be saved.
    """
    return save_folder(path, lambda work: write(encoder, work))


def write(encoder: SeaEncoder, path: Path) -> None:
    """Writes all files into the folder ``path``, which is there."""
    passport = encoder.base.passport
    source = passport.source
    if _is_place(source):
        keep = getattr(encoder.base, "save", None)
        if keep is None:
            raise UsageError(f"The encoder {source!r} cannot be saved. Name one that loads by a name or from a folder.")
        keep(path / BASE_NAME)
        source = BASE_NAME
    parameters = encoder.aggregator.parameters
    if parameters:
        from safetensors.numpy import save as serialised

        plain = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in sorted(parameters.items())}
        (path / WEIGHTS_NAME).write_bytes(serialised(plain))
    content = {
        "format": FORMAT,
        "aggregator": {
            "kind": encoder.aggregator.kind,
            "parameters": {name: list(value.shape) for name, value in sorted(parameters.items())},
        },
        "base": {
            "source": source,
            "dim": passport.dim,
            "facts": dict(passport.facts),
            "fingerprint": passport.fingerprint,
        },
    }
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    (path / SEA_NAME).write_text(f"{text}\n", encoding="utf-8")


def _is_place(source: str) -> bool:
    """Whether the encoder's source is a folder: of this machine, so the encoder itself goes along."""
    return source not in (EMBEDDED, *SHIPPED) and Path(source).is_dir()


def _config(folder: Path) -> dict[str, JSON]:
    path = folder / SEA_NAME
    content = read_json(path)
    if content.get("format") != FORMAT:
        raise ValidationError(
            f"{path} has format {content.get('format')!r}, this version reads {FORMAT}. Update unabridged."
        )
    expected = {"format", "aggregator", "base"}
    if set(content) != expected:
        raise ValidationError(f"{path} holds {sorted(content)} and should hold {sorted(expected)}. Restore the file.")
    for name, keys in (
        ("aggregator", {"kind", "parameters"}),
        ("base", {"source", "dim", "facts", "fingerprint"}),
    ):
        part = content[name]
        if not isinstance(part, dict) or set(part) != keys:
            raise ValidationError(f"{path}: {name} should be an object of {sorted(keys)}. Restore the file.")
    return content


def _aggregator(folder: Path, said: Mapping[str, JSON]) -> Aggregator:
    parameters = _parameters(folder / WEIGHTS_NAME) if said["parameters"] else {}
    found = {name: list(value.shape) for name, value in parameters.items()}
    if found != said["parameters"]:
        raise ValidationError(
            f"{folder / WEIGHTS_NAME} holds {found}, and {SEA_NAME} says {said['parameters']}. Restore the files."
        )
    try:
        return Aggregator(str(said["kind"]), parameters)
    except UsageError as error:
        raise ValidationError(f"{folder / SEA_NAME}: {error}") from error


def _parameters(path: Path) -> dict[str, Floats]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        raise MissingFile(f"{path} is missing: it holds the parameters of the aggregator. Restore the file.")
    try:
        found = load_file(str(path))
    except SafetensorError as error:
        raise ValidationError(f"{path} is no safetensors file ({error}). Restore the file.") from error
    return {name: value.astype(np.float32) for name, value in found.items()}


def _passport(folder: Path, said: Mapping[str, JSON]) -> Passport:
    """The passport of the base, as it was when the aggregator was trained."""
    facts = said["facts"]
    path = folder / SEA_NAME
    if not isinstance(facts, dict) or canonical_sha256(facts) != said["fingerprint"]:
        raise ValidationError(f"{path}: the base's facts do not have its fingerprint. Restore the file.")
    return Passport(str(said["source"]), int(said["dim"]), facts, str(said["fingerprint"]))


def _base(folder: Path, wanted: Passport, precision: str | None, where: Mapping[str, JSON]) -> Encoder:
    from unabridged.encoders.load import HASHING, encoder_from_settings

    kind = str(wanted.facts.get("kind"))
    place = str(folder / BASE_NAME) if wanted.source == BASE_NAME else wanted.source
    changed = {} if precision is None or kind == HASHING else {"precision": precision}
    return encoder_from_settings(kind, place, {**wanted.facts.get("settings", {}), **changed}, **where)


def _check_base(folder: Path, wanted: Passport, found: Passport) -> None:
    from unabridged.encoders.load import differences

    if wanted.fingerprint == found.fingerprint:
        return
    key, old, new = next(differences(wanted.facts, found.facts), ("fingerprint", "", ""))
    raise PassportMismatch(
        f"{folder} aggregates blocks of {wanted.source!r} with fingerprint {wanted.fingerprint}, and that encoder has "
        f"{found.fingerprint} here. First difference: {key} was {old!r} and is {new!r}. Restore the encoder, or train "
        "again: unabridged train sea --help."
    )
