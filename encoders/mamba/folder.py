"""What a folder says of a Mamba encoder beside what sentence-transformers has a place for.

::

    unabridged_mamba.json
        format         1
        carry          whether the state goes on from one segment of a document to the next
        max_tokens     content tokens of a segment
        truncate_dim   leading components that are kept; null: all

Pooling, normalisation and prompts stand where sentence-transformers has them (:mod:`unabridged.encoders._hf`).  A
published checkpoint has neither: the state of the closing token, of norm 1, no prompt, carried through.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from unabridged.contracts import JSON
from unabridged.encoders._extension_file import read_json
from unabridged.encoders._hf import TOKENIZER_FILES, ModelFolder
from unabridged.errors import MissingFile, ValidationError

SETTINGS_NAME = "unabridged_mamba.json"
FORMAT = 1
SEGMENT_TOKENS = 256
"""Content tokens of a segment where nothing else is said: the window of the embedded encoder."""
POOLINGS = ("last", "mean")

TOKENIZER_ID = "EleutherAI/gpt-neox-20b"
"""Of the checkpoints that were published without a tokenizer: what their authors' own code loads."""
TOKENIZER_VOCABULARY = 50_277
"""What config.json states with that tokenizer."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What the file says, or what holds without it."""

    carry: bool = True
    max_tokens: int = SEGMENT_TOKENS
    truncate_dim: int | None = None

    @classmethod
    def read(cls, folder: Path) -> Saved:
        """Of ``folder``; :class:`ValidationError` names what is not understood."""
        path = folder / SETTINGS_NAME
        if not path.is_file():
            return cls()
        content = read_json(path)
        if content.pop("format", None) != FORMAT:
            raise ValidationError(f"{path} is not of format {FORMAT}, which this version reads. Update unabridged.")
        saved = asdict(cls())
        if unknown := sorted(set(content) - set(saved)):
            raise ValidationError(f"{path} holds {unknown}, which this version does not understand. Update unabridged.")
        saved |= content
        for name, fits, kind in (
            ("carry", type(saved["carry"]) is bool, "true or false"),
            ("max_tokens", _is_count(saved["max_tokens"]), "a whole number above 0, of 31 bits"),
            ("truncate_dim", saved["truncate_dim"] is None or _is_count(saved["truncate_dim"]), "a width or null"),
        ):
            if not fits:
                raise ValidationError(f"{path}: {name} should hold {kind} and holds {saved[name]!r}. Restore the file.")
        return cls(**saved)

    def write(self, folder: Path) -> None:
        """Writes the file into ``folder``."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=2, sort_keys=True)
        (folder / SETTINGS_NAME).write_text(f"{text}\n", encoding="utf-8")


def _is_count(value: JSON) -> bool:
    return type(value) is int and 0 < value < 1 << 31


def tokenizer_folder(folder: ModelFolder, *, network: bool) -> ModelFolder:
    """``folder``, or where it has no tokenizer the same with the path of the one that its authors use.

    :class:`MissingFile` if there is none: for other vocabularies than the published one none is known.
    """
    if any((folder.path / name).is_file() for name in TOKENIZER_FILES):
        return folder
    known = folder.config.get("vocab_size") == TOKENIZER_VOCABULARY
    if not known:
        raise MissingFile(
            f"{folder.path} has no tokenizer. Put the tokenizer.json and tokenizer_config.json of the model into it."
        )
    from unabridged.encoders._resolve import from_hub

    try:
        path = from_hub(TOKENIZER_ID, None, network, only=TOKENIZER_FILES)
    except MissingFile as error:
        raise MissingFile(
            f"{folder.path} has no tokenizer, and that of {TOKENIZER_ID}, which its authors use, is not at hand. Put "
            "its tokenizer.json and tokenizer_config.json into the folder, or allow the network (--network, or "
            "network=True in Python)."
        ) from error
    return replace(folder, path=path)


def eos_token(folder: ModelFolder) -> str:
    """The token that closes a text, by the tokenizer's configuration.

    config.json is not asked: transformers writes an ``eos_token_id`` of 0 there for models that have none.
    :class:`ValidationError` if there is none.
    """
    token = named_token(folder, "eos_token")
    if token is None:
        raise ValidationError(
            f"The tokenizer of {folder.path} names no end-of-sequence token, and a Mamba's vector is read behind it. "
            'Add "eos_token": "<|endoftext|>", or what the model was trained with, to tokenizer_config.json.'
        )
    return token


def named_token(folder: ModelFolder, *keys: str) -> str | None:
    """The first of the special tokens ``keys`` that the tokenizer's configuration names; None if it names none."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder.path / name
        content = read_json(path) if path.is_file() else {}
        for key in keys:
            found = content.get(key)
            token = found.get("content") if isinstance(found, Mapping) else found
            if isinstance(token, str) and token:
                return token
    return None
