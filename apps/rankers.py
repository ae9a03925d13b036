"""One front door from a text to a ranker: language models under any strategy, and cross-encoders."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from threading import Event
from typing import Any, cast

from unabridged.apps.kept_rankings import KeptRanker
from unabridged.apps.ranker_names import ATTENTION, LIKELIHOOD, POINTWISE, Named, read_name
from unabridged.contracts import JSON
from unabridged.encoders._hashes import canonical_sha256, files_sha256
from unabridged.errors import UsageError
from unabridged.rankers.aggregate import TOP, Aggregate
from unabridged.rankers.contracts import Ranker, Ranking, Request
from unabridged.rankers.listwise.asking import Settings
from unabridged.rankers.listwise.engine import ListwiseRanker
from unabridged.rankers.listwise.plans import Strategy
from unabridged.rankers.listwise.prompts import CHOICE, LETTERED, LISTWISE, PROMPTS, YES_NO
from unabridged.rankers.listwise.strategies import STRATEGIES, read_strategy
from unabridged.rankers.listwise.template_files import load_template
from unabridged.rankers.listwise.templates import Template
from unabridged.rankers.lm.budget import Limits, MeteredModel, Prices
from unabridged.rankers.lm.cache import CachedModel, ResponseCache
from unabridged.rankers.lm.contracts import LanguageModel
from unabridged.rankers.lm.load import OPENAI_PREFIX, LocalOptions, load_model

SERVER_WORKERS = 8
"""Queries at the same time behind a server; local weights take one after the other."""
_NUMBERS = ("window", "step", "passes")
_EVERYWHERE = frozenset({"cache", "passage_tokens"})
_MODELS = _EVERYWHERE | {"context", "device", "precision", "network", "server"}
_ASKING = _MODELS | {"template", "limits", "prices", "workers"}
_OPTIONS: Mapping[str, frozenset[str]] = {
    ATTENTION: _MODELS,
    LIKELIHOOD: _MODELS,
    POINTWISE: _ASKING,
}
"""The options that change a ranking or its cost, by strategy; of listwise ones see :func:`_known`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerOptions:
    """How a ranker is loaded and asked; an option that would change nothing is refused."""

    window: int | None = None
    step: int | None = None
    passes: int | None = None
    template: str | None = None
    """A name of :data:`~unabridged.rankers.listwise.prompts.PROMPTS`, or a file."""
    passage_tokens: int | None = None
    """Most tokens of a candidate in any prompt, of a cross-encoder those of a passage; None: as many as fit."""
    thinking: int = 0
    """Tokens for a thought before the answer."""
    first_token: bool = False
    """A group is ordered by the log-probabilities of its ids at the first position."""
    workers: int | None = None
    """Queries at the same time, and requests."""
    cache: Path | None = None
    """File of the response cache: what was answered is not asked again."""
    limits: Limits | None = None
    prices: Prices | None = None
    context: int | None = None
    """Most tokens of prompt and answer; None: the model's own."""
    device: str | None = None
    precision: str | None = None
    network: bool = False
    """Allows a model to be downloaded by its hub id."""
    server: Mapping[str, JSON] = field(default_factory=dict)
    """Further fields of :class:`~unabridged.rankers.lm.server.Server`."""


@dataclass(frozen=True, slots=True)
class OpenRanker:
    """A ranker, with what it is: satisfies :class:`~unabridged.rankers.contracts.Ranker`."""

    ranker: Ranker
    name: str
    facts: Mapping[str, JSON]
    """All that decides a ranking: model, strategy, template, sizes."""
    at_once: int
    """Requests that it is best given together."""
    listwise: ListwiseRanker | None = None
    meter: MeteredModel | None = None
    """Knows what was used and what it cost; None for rankers that are not asked in words."""

    @property
    def label(self) -> str:
        """The model and how it ranks."""
        return self.ranker.label

    def rank(self, requests: Sequence[Request], *, cancel: Event | None = None) -> list[Ranking]:
        """One ranking per request, in their order."""
        return self.ranker.rank(requests, cancel=cancel)


def load_ranker(model: str, strategy: str | None = None, options: RankerOptions | None = None) -> OpenRanker:
    """The ranker that ``model`` names, as in ``embedded:likelihood`` (:mod:`unabridged.apps.ranker_names`).

    Raises:
        UsageError: an unknown strategy, or an option that the strategy or the model does not have.
        MissingFile, MissingExtra: there is no such model, or a package is not installed.
    """
    given = options or RankerOptions()
    named = read_name(model, strategy)
    _check(named, given)
    cache = None if given.cache is None else ResponseCache(given.cache)
    if named.cross:
        return _cross(named, given, cache)
    language = _language(named, given)
    if named.kind in (ATTENTION, LIKELIHOOD):
        return _inside(named, language, given, cache)
    return _asked(named, language, given, cache)


def _check(named: Named, given: RankerOptions) -> None:
    """:class:`UsageError` for an option that has no effect here."""
    server = _behind_server(named.model) and not named.cross
    known = _known(named) - ({"device", "precision", "network"} if server else {"server", "workers"})
    default = RankerOptions()
    for one in fields(RankerOptions):
        if getattr(given, one.name) != getattr(default, one.name) and one.name not in known:
            where = f"{named.model} with the strategy {named.strategy}"
            raise UsageError(f"{where} has no {one.name}; it has {', '.join(sorted(known))}.")


def _known(named: Named) -> frozenset[str]:
    if named.cross:
        return _EVERYWHERE | {"device"}
    if named.kind in _OPTIONS:
        return _OPTIONS[named.kind]
    return _ASKING | {"thinking", "first_token"} | (set(STRATEGIES[named.kind][1]) & set(_NUMBERS))


def _behind_server(model: str) -> bool:
    return model.startswith((OPENAI_PREFIX, "http://", "https://"))


def _language(named: Named, given: RankerOptions) -> LanguageModel:
    if _behind_server(named.model):
        server = {**given.server, "concurrency": SERVER_WORKERS if given.workers is None else given.workers}
        if given.context is not None:
            server["context"] = given.context
        return load_model(named.model, server=server)
    local = LocalOptions(device=given.device, precision=given.precision, context=given.context)
    return load_model(named.model, local=local, network=given.network)


def _asked(named: Named, language: LanguageModel, given: RankerOptions, cache: ResponseCache | None) -> OpenRanker:
    """A ranker that asks in words; the cache lies around the meter, for what it holds costs nothing."""
    meter = MeteredModel(language, limits=given.limits, prices=given.prices)
    model: LanguageModel = meter if cache is None else CachedModel(meter, cache)
    workers = given.workers or (SERVER_WORKERS if _behind_server(named.model) else 1)
    at_once = 1 if workers == 1 else 4 * workers
    if named.kind == POINTWISE:
        from unabridged.rankers.pointwise import PointwiseRanker, PointwiseSettings

        template = _template(given.template, YES_NO)
        ranker = PointwiseRanker(
            model, PointwiseSettings(template=template, passage_tokens=given.passage_tokens, workers=workers)
        )
        return OpenRanker(ranker, named.model, _facts(named, language, given, template), at_once, meter=meter)
    template = _template(given.template, LETTERED if given.first_token else LISTWISE)
    settings = Settings(
        template=template,
        choice=CHOICE if given.template is None else None,
        passage_tokens=given.passage_tokens,
        thinking=given.thinking,
        first_token=given.first_token,
        workers=workers,
    )
    strategy = _strategy(named, given)
    listwise = ListwiseRanker(model, strategy, settings)
    facts = {**_facts(named, language, given, template), "strategy": strategy.label}
    return OpenRanker(listwise, named.model, facts, at_once, listwise, meter)


def _inside(named: Named, language: LanguageModel, given: RankerOptions, cache: ResponseCache | None) -> OpenRanker:
    """A ranker that looks into the model itself."""
    ranker: Ranker
    facts = _facts(named, language, given, None)
    if named.kind == ATTENTION:
        from unabridged.rankers.attention import AttentionRanker, AttentionSettings, LocalWeights

        if _behind_server(named.model):
            raise UsageError(f"{named.model} is behind a server, and attention needs local weights. Use a local model.")
        looking = AttentionRanker(
            cast("LocalWeights", language), AttentionSettings(passage_tokens=given.passage_tokens)
        )
        ranker, facts = looking, {**facts, **looking.facts}
    else:
        from unabridged.rankers.pointwise import ASKED, PointwiseSettings, QueryLikelihoodRanker

        settings = PointwiseSettings(template=ASKED, passage_tokens=given.passage_tokens)
        ranker = QueryLikelihoodRanker(language, settings)
        facts = {**facts, "template": _template_facts(ASKED)}
    return OpenRanker(ranker if cache is None else KeptRanker(ranker, cache, facts), named.model, facts, 1)


def _cross(named: Named, given: RankerOptions, cache: ResponseCache | None) -> OpenRanker:
    from unabridged.rankers.cross import CrossRanker, CrossSettings

    how, _, top = named.strategy.partition(":")
    settings = CrossSettings(
        aggregate=cast("Aggregate", how), top=int(top) if top else TOP, passage_tokens=given.passage_tokens
    )
    ranker: Ranker = CrossRanker.load(named.model, device=given.device, settings=settings)
    facts: dict[str, JSON] = {
        "model": named.model,
        "fingerprint": _weights(Path(named.model)),
        "strategy": f"cross:{named.strategy}",
        "settings": asdict(settings),
    }
    return OpenRanker(ranker if cache is None else KeptRanker(ranker, cache, facts), named.model, facts, 1)


def _strategy(named: Named, given: RankerOptions) -> Strategy:
    """The strategy with the numbers behind its name and those of the options."""
    build, known = STRATEGIES[named.kind]
    options: dict[str, Any] = {
        name: value for name in _NUMBERS if (value := getattr(given, name)) is not None and name in known
    }
    strategy = read_strategy(named.strategy)
    if not options:
        return strategy
    stated = dict(zip(known, map(int, named.strategy.split(":")[1:]), strict=False))
    if both := sorted(stated.keys() & options.keys()):
        raise UsageError(f"{named.strategy} says its {both[0]} already. Say it once.")
    return build(**stated, **options)


def _template(name: str | None, default: Template) -> Template:
    if name is None:
        return default
    return PROMPTS[name] if name in PROMPTS else load_template(Path(name))


def _facts(named: Named, language: LanguageModel, given: RankerOptions, template: Template | None) -> dict[str, JSON]:
    """Plain values that tell two rankings apart."""
    facts: dict[str, JSON] = {
        "model": named.model,
        "fingerprint": language.fingerprint,
        "strategy": named.strategy,
        "template": None if template is None else _template_facts(template),
    }
    for name in ("passage_tokens", "thinking", "first_token", "context"):
        value = getattr(given, name)
        if value:
            facts[name] = value
    return facts


def _template_facts(template: Template) -> dict[str, JSON]:
    """Name and hash of every word and rule of a template."""
    said = {one.name: getattr(template, one.name) for one in fields(Template) if one.name != "name"}
    # A pattern's own text: what it prints as ends after 200 characters.
    plain = {name: value.pattern if isinstance(value, re.Pattern) else str(value) for name, value in said.items()}
    return {"name": template.name, "sha256": canonical_sha256(plain)}


def _weights(folder: Path) -> str | None:
    """SHA-256 of the files of a model's folder; None of a name."""
    if not folder.is_dir():
        return None
    kinds = ("*.safetensors", "*.bin", "*.json", "*.txt", "*.model")
    return files_sha256(sorted({path for kind in kinds for path in folder.rglob(kind)}))
