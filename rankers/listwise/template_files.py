"""Template files of users: YAML, JSON or TOML with the field's keys."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from unabridged._extras import require
from unabridged.errors import MissingFile, UsageError
from unabridged.rankers.listwise.labels import Labels
from unabridged.rankers.listwise.templates import Method, Template, Turn
from unabridged.rankers.lm.contracts import Role

MOST_BYTES = 1 << 20
"""A template is a page of text; a larger file is something else."""

_SINGLE = ("prefix", "body", "suffix")
_TURNS = ("prefix_user", "prefix_assistant", "body_user", "body_assistant", "suffix_user")
_REGEXES = ("output_validation_regex", "output_extraction_regex")
_COMMON = frozenset({"method", "system_message", "instruction", "labels", "separator", *_REGEXES})
_OWN = {
    "singleturn_listwise": frozenset(_SINGLE),
    "multiturn_listwise": frozenset(_TURNS),
    "pointwise": frozenset({*_SINGLE, "message_roles"}),
}
_INSTEAD = {
    "pairwise": "the strategy setwise:1 compares pairs with a listwise template",
    "rankfid": "it is a model of its own and not a prompt",
}
_LETTERS = {"letters": True, "numbers": False}


def load_template(path: Path) -> Template:
    """The template in ``path``, by its ending ``.yaml``, ``.yml``, ``.json`` or ``.toml``.

    Beside the field's keys, ``labels`` (``numbers`` or ``letters``) and ``separator`` say how ids are written.

    Raises:
        MissingFile: there is no such file.
        UsageError: it cannot be read as a template; the message names the key.
        MissingExtra: it is YAML and no parser is installed.
    """
    if not path.is_file():
        raise MissingFile(f"{path} does not exist. Name a template file.")
    if path.stat().st_size > MOST_BYTES:
        raise UsageError(f"{path} has {path.stat().st_size:,} bytes; a template has at most {MOST_BYTES:,}.")
    return read_template(_content(path), path.stem)


def read_template(keys: Mapping[str, Any], name: str) -> Template:
    """The template that ``keys`` describe; :class:`UsageError` names what is wrong with them."""
    method = str(keys.get("method"))
    if method in _INSTEAD:
        raise UsageError(f"Template {name!r}: method {method} is not used here: {_INSTEAD[method]}.")
    if method not in get_args(Method):
        raise UsageError(f"Template {name!r}: method {method!r} is none of {', '.join(get_args(Method))}.")
    own = _OWN[method]
    unknown = sorted(set(keys) - own - _COMMON)
    if unknown:
        raise UsageError(f"Template {name!r}: {method} has no key {unknown[0]!r}; it has {sorted(own | _COMMON)}.")
    for key in sorted((own | _COMMON) - {"message_roles"}):
        if not isinstance(keys.get(key, ""), str):
            raise UsageError(f"Template {name!r}: {key} should be text, got {type(keys[key]).__name__}.")
    texts = {key: str(keys.get(key, "")) for key in own | _COMMON if key != "message_roles"}
    opening, each, closing = _parts(method, texts, keys.get("message_roles"), name)
    if texts["system_message"]:
        opening = (Turn("system", texts["system_message"]), *opening)
    letters = texts["labels"] or "numbers"
    if letters not in _LETTERS:
        raise UsageError(f"Template {name!r}: labels are {' or '.join(_LETTERS)}, got {letters!r}.")
    body = "".join(turn.text for turn in each)
    validation, extraction = (_regex(texts[key], key, name) for key in _REGEXES)
    return Template(
        name=name,
        method=cast("Method", method),
        opening=opening,
        each=each,
        closing=closing,
        labels=Labels(letters=_LETTERS[letters], brackets="[{rank}]" in body or method == "pointwise"),
        separator=texts["separator"] or " > ",
        instruction=texts["instruction"],
        extraction=extraction,
        validation=validation,
    )


def _parts(
    method: str, texts: Mapping[str, str], roles: object, name: str
) -> tuple[tuple[Turn, ...], tuple[Turn, ...], tuple[Turn, ...]]:
    if method == "multiturn_listwise":
        user: Role = "user"
        assistant: Role = "assistant"
        opening = (Turn(user, texts["prefix_user"]), Turn(assistant, texts["prefix_assistant"]))
        each = (Turn(user, texts["body_user"]), Turn(assistant, texts["body_assistant"]))
        return opening, each, (Turn(user, texts["suffix_user"]),)
    if roles is None:
        roles = ["user"] * len(_SINGLE)
    known = get_args(Role)
    if not isinstance(roles, list) or len(roles) != len(_SINGLE) or not set(roles) <= set(known):
        raise UsageError(
            f"Template {name!r}: message_roles are the roles of {', '.join(_SINGLE)}, each one of {known}."
        )
    first, middle, last = (Turn(cast("Role", role), texts[key]) for role, key in zip(roles, _SINGLE, strict=True))
    return (first,), (middle,), (last,)


def _regex(text: str, key: str, name: str) -> re.Pattern[str] | None:
    """The pattern that ``text`` is: as it stands, or a quoted Python literal, which is read and never evaluated."""
    if not text:
        return None
    if re.match(r"""[rR]?["']""", text):
        try:
            text = str(ast.literal_eval(text))
        except (SyntaxError, ValueError) as error:
            raise UsageError(f"Template {name!r}: {key} begins like a quoted text and is none: {text!r}.") from error
    try:
        return re.compile(text)
    except re.error as error:
        raise UsageError(f"Template {name!r}: {key} is no regular expression: {error}.") from error


def _content(path: Path) -> Mapping[str, Any]:
    ending = path.suffix.lower()
    try:
        text = path.read_bytes().decode()
        if ending == ".json":
            found = json.loads(text)
        elif ending == ".toml":
            found = tomllib.loads(text)
        elif ending in (".yaml", ".yml"):
            found = _yaml(text, path)
        else:
            raise UsageError(f"{path}: templates end in .yaml, .yml, .json or .toml.")
    except (UnicodeDecodeError, json.JSONDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as {ending[1:].upper()}: {error}.") from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise UsageError(f"{path} should hold keys such as method and body, got {type(found).__name__}.")
    return found


def _yaml(text: str, path: Path) -> object:
    yaml = require("yaml", extra="torch", purpose="it reads templates in YAML; JSON and TOML need nothing")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{path} cannot be read as YAML: {error}.") from error


def template_keys(template: Template) -> dict[str, str]:
    """The keys from which :func:`read_template` makes ``template`` again; :class:`UsageError` where none do."""
    opening = list(template.opening)
    keys: dict[str, str] = {"method": template.method}
    if opening and opening[0].role == "system":
        keys["system_message"] = opening.pop(0).text
    named = (("prefix", tuple(opening)), ("body", template.each), ("suffix", template.closing))
    for name, part in named:
        if template.method == "multiturn_listwise":
            keys |= {f"{name}_{turn.role}": turn.text for turn in part if turn.text}
        else:
            keys[name] = "".join(turn.text for turn in part)
    keys |= {"labels": "letters" if template.labels.letters else "numbers", "separator": template.separator}
    if template.instruction:
        keys["instruction"] = template.instruction
    for key, pattern in zip(_REGEXES, (template.validation, template.extraction), strict=True):
        if pattern is not None:
            keys[key] = repr(pattern.pattern)
    again = read_template(keys, template.name)
    if _said(again) != _said(template) or again.labels != template.labels:
        raise UsageError(f"Template {template.name!r} cannot be said by the keys of a file.")
    return keys


def _said(template: Template) -> list[tuple[Turn, ...]]:
    """The turns that say something."""
    return [tuple(one for one in part if one.text) for part in (template.opening, template.each, template.closing)]
