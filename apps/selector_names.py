"""Selectors by name: ``bm25``, ``hybrid``, ``cross:MODEL``, ``bm25>xl3m`` and whatever else stands in :data:`KINDS`.

::

    bm25                    by the question's words
    vectors:hashing:64      by an encoder; what follows the first colon is its name or folder
    hybrid                  both, by ranks
    linked                  words, and the passages that these lead to by rare terms: for chains of evidence
    iterative:hybrid        questions that grow by what was found; what follows the colon answers each
    cross:path/to/folder    a cross-encoder
    xl3m                    a language model, the embedded one where no other is named
    likelihood:openai:MODEL@http://host/v1
    bm25>xl3m               the best 32 by words, scored by the second
    bm25>64>xl3m            the best 64
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Literal, cast

from unabridged.contracts import JSON, Encoder, Passport
from unabridged.errors import UsageError
from unabridged.rankers.lm.contracts import LanguageModel
from unabridged.rankers.select.contracts import Selector

EMBEDDED = "embedded"
AROUND = ("linked", "iterative")
"""Kinds that another one stands in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectorOptions:
    """How what a name stands for is loaded; an option that would change nothing is refused."""

    encoder: Encoder | None = None
    """A loaded one, in place of that by name."""
    language: LanguageModel | None = None
    """A loaded one, in place of that by name."""
    depth: int | None = None
    """Passages that go from one stage to the next; None: 32."""
    device: str | None = None
    precision: str | None = None
    context: int | None = None
    """Most tokens that a language model reads; None: its own."""
    network: bool = False
    """Allows a model to be downloaded by its hub id."""
    server: Mapping[str, JSON] = field(default_factory=dict)
    """Further fields of :class:`~unabridged.rankers.lm.server.Server`, for models behind one."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One word that a name may begin with."""

    build: Callable[[str, SelectorOptions], Selector]
    """What follows the colon ("" for nothing), and the options, to the selector."""
    takes: frozenset[str]
    """The options that change something."""
    about: str


def load_selector(name: str, options: SelectorOptions | None = None, **more: object) -> Selector:
    """The selector that ``name`` stands for; ``more`` are fields of :class:`SelectorOptions`.

    Raises:
        UsageError: a name that none of :data:`KINDS` begins, an option that has no effect, a model that is needed and
            not named.
        MissingFile, MissingExtra: there is no such model, or a package is not installed.
    """
    if not isinstance(name, str):
        raise UsageError(f"A selector is named by a text such as 'bm25' or 'bm25>xl3m', got {name!r}.")
    known = [one.name for one in fields(SelectorOptions)]
    if unknown := sorted(set(more) - set(known)):
        raise UsageError(f"A selector has no option {unknown[0]!r}; options are {', '.join(known)}.")
    given = options or SelectorOptions(**more)  # type: ignore[arg-type]
    if options is not None and more:
        raise UsageError(f"Give options or {', '.join(sorted(more))}, not both.")
    _check(name, given)
    (_, first), *rest = _stages(name)
    found = _built(first, given)
    for depth, stage in rest:
        found = _cascade(found, _built(stage, given), given.depth if depth is None else depth)
    return found


def identity(selector: Selector) -> dict[str, JSON]:
    """What tells two selectors' scores apart: the label, and the fingerprints of all models inside."""
    return {"label": selector.label, "models": sorted(set(_fingerprints(selector)))}


def _fingerprints(part: object) -> Iterator[str]:
    if isinstance(passport := getattr(part, "passport", None), Passport):
        yield passport.fingerprint
    if isinstance(own := getattr(part, "fingerprint", None), str):
        yield own
    for name in _PARTS:
        inner = getattr(part, name, ())
        for one in inner if isinstance(inner, tuple) else (inner,):
            yield from _fingerprints(one)


_PARTS = ("encoder", "language", "model", "local", "ranker", "base", "first", "second", "selectors")
"""Where selectors keep what they are made of."""


def _stages(name: str) -> list[tuple[int | None, str]]:
    """The selectors of a name in their order, each with the number that stands before it."""
    stages: list[tuple[int | None, str]] = []
    depth: int | None = None
    for part in (one.strip() for one in name.split(">")):
        if part.isdecimal() and depth is None and stages:
            depth = int(part)
        elif part.isdecimal():
            raise UsageError(f"{name!r}: a number stands between two selectors, as in bm25>64>xl3m.")
        else:
            stages.append((depth, part))
            depth = None
    if depth is not None:
        raise UsageError(f"{name!r}: a number stands between two selectors, as in bm25>64>xl3m.")
    return stages


def options_of(name: str) -> frozenset[str]:
    """The fields of :class:`SelectorOptions` that change something for ``name``.

    :class:`UsageError` for an unknown name, which lists those that there are.
    """
    stages = [stage for _, stage in _stages(name)]
    known = {"depth"} if len(stages) > 1 else set()
    for kind in (kind for stage in stages for kind in _kinds(stage)):
        if kind not in KINDS:
            listed = "; ".join(f"{word} ({one.about})" for word, one in KINDS.items())
            raise UsageError(f"{name!r} names no selector: {kind!r} is none of {listed}. Join stages by '>'.")
        known |= KINDS[kind].takes
    return frozenset(known)


def _check(name: str, given: SelectorOptions) -> None:
    """:class:`UsageError` for an unknown name, and for an option without effect."""
    known = options_of(name)
    default = SelectorOptions()
    for one in fields(SelectorOptions):
        if getattr(given, one.name) != getattr(default, one.name) and one.name not in known:
            raise UsageError(f"{name} has no {one.name}; it has {', '.join(sorted(known)) or 'no options'}.")


def _kinds(stage: str) -> list[str]:
    """The words that a stage is made of, as ``iterative:hybrid`` of two."""
    kind, _, rest = stage.partition(":")
    return [kind, *(_kinds(rest) if kind in AROUND and rest else [])]


def _built(stage: str, given: SelectorOptions) -> Selector:
    kind, _, rest = stage.partition(":")
    return KINDS[kind].build(rest, given)


def _cascade(first: Selector, second: Selector, depth: int | None) -> Selector:
    from unabridged.rankers.select.cascade import DEPTH, CascadeSelector

    return CascadeSelector(first, second, depth=DEPTH if depth is None else depth)


def _bm25(rest: str, given: SelectorOptions) -> Selector:
    from unabridged.index.lexical.variants import Formula
    from unabridged.rankers.select.words import FORMULA, WordSelector

    return WordSelector(formula=Formula(rest, FORMULA.k1, FORMULA.b) if rest else FORMULA)


def _vectors(rest: str, given: SelectorOptions) -> Selector:
    from unabridged.rankers.select.vectors import VectorSelector

    if given.encoder is not None:
        if rest:
            raise UsageError(f"An encoder is given, and {rest!r} is named besides. Do one of the two.")
        return VectorSelector(given.encoder)
    from unabridged.encoders.load import load_encoder

    encoder = load_encoder(rest or None, device=given.device, precision=given.precision, network=given.network)
    return VectorSelector(encoder)


def _hybrid(rest: str, given: SelectorOptions) -> Selector:
    from unabridged.rankers.select.fused import FusedSelector

    return FusedSelector([_bm25("", given), _vectors(rest, given)])


def _cross(rest: str, given: SelectorOptions) -> Selector:
    from unabridged.rankers.cross import CrossRanker
    from unabridged.rankers.select.ranked import RankerSelector, cross_cost

    if not rest:
        raise UsageError("cross names no model. Name the folder of a cross-encoder, as in cross:path/to/folder.")
    ranker = CrossRanker.load(rest, device=given.device)
    return RankerSelector(ranker, cross_cost(ranker), at_once=CROSS_AT_ONCE)


def _xl3m(kind: Literal["entropy", "mean", "contrast"]) -> Callable[[str, SelectorOptions], Selector]:
    """A builder of selectors by how sure a language model is."""

    def build(rest: str, given: SelectorOptions) -> Selector:
        from unabridged.rankers.select.xl3m import EntropySelector, EntropySettings

        return EntropySelector(_language(rest, given), EntropySettings(kind=kind))

    return build


def _likelihood(rest: str, given: SelectorOptions) -> Selector:
    from unabridged.rankers.select.likely import LikelihoodSelector

    return LikelihoodSelector(_language(rest, given))


def _attention(rest: str, given: SelectorOptions) -> Selector:
    from unabridged.rankers.attention import AttentionRanker, LocalWeights
    from unabridged.rankers.select.grouped import GroupedSelector, GroupSettings

    if _behind_server(rest):
        raise UsageError(f"{rest} is behind a server, and attention needs local weights. Use a local model.")
    language = _language(rest, given)
    ranker = AttentionRanker(cast("LocalWeights", language))
    tokens = GroupSettings().tokens
    if language.capabilities.context is not None:
        tokens = min(tokens, max(2, language.capabilities.context // 2))
    return GroupedSelector(ranker, language.count_texts, GroupSettings(tokens=tokens, calls=2))


def _language(rest: str, given: SelectorOptions) -> LanguageModel:
    """The model that was loaded, or the one that is named, or the embedded one."""
    if given.language is not None:
        if rest:
            raise UsageError(f"A language model is given, and {rest!r} is named besides. Do one of the two.")
        return given.language
    from unabridged.rankers.lm.load import LocalOptions, load_model

    if _behind_server(rest):
        if given.device is not None or given.precision is not None:
            raise UsageError(f"{rest} is behind a server: device and precision are chosen there.")
        context = {} if given.context is None else {"context": given.context}
        return load_model(rest, server={**given.server, **context})
    if given.server:
        raise UsageError(f"{rest or EMBEDDED} is on this machine and has no server. Leave server out.")
    local = LocalOptions(device=given.device, precision=given.precision, context=given.context)
    return load_model(rest or EMBEDDED, local=local, network=given.network)


def _behind_server(name: str) -> bool:
    return name.startswith(("openai:", "http://", "https://"))


def _linked(rest: str, given: SelectorOptions) -> Selector:
    from unabridged.rankers.select.linked import LinkedSelector

    return LinkedSelector(_inner(rest, given))


def _iterative(rest: str, given: SelectorOptions) -> Selector:
    from unabridged.rankers.select.iterative import IterativeSelector

    return IterativeSelector(_inner(rest, given))


def _inner(rest: str, given: SelectorOptions) -> Selector:
    """What follows ``linked:`` or ``iterative:``."""
    return _built(rest, given) if rest else _bm25("", given)


CROSS_AT_ONCE = 128
"""Passages that a cross-encoder scores between two looks at whether it should stop."""
_ENCODER = frozenset({"encoder", "device", "precision", "network"})
_LANGUAGE = frozenset({"language", "device", "precision", "context", "network", "server"})
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "bm25": Kind(_bm25, frozenset(), "words; bm25:VARIANT"),
        "vectors": Kind(_vectors, _ENCODER, "an encoder; vectors:ENCODER"),
        "hybrid": Kind(_hybrid, _ENCODER, "words and vectors; hybrid:ENCODER"),
        "linked": Kind(_linked, frozenset(), "words and the rare terms that passages share; linked:SELECTOR"),
        "iterative": Kind(_iterative, frozenset(), "questions that grow by what is found; iterative:SELECTOR"),
        "cross": Kind(_cross, frozenset({"device"}), "a cross-encoder; cross:MODEL"),
        "attention": Kind(_attention, _LANGUAGE, "what a local language model looks at; attention:MODEL"),
        "xl3m": Kind(_xl3m("entropy"), _LANGUAGE, "how sure a language model is of its next token; xl3m:MODEL"),
        "xl3m-mean": Kind(_xl3m("mean"), _LANGUAGE, "the same over several tokens"),
        "contrast": Kind(_xl3m("contrast"), _LANGUAGE, "how much surer the passage makes it; contrast:MODEL"),
        "likelihood": Kind(_likelihood, _LANGUAGE, "how likely it finds the question; likelihood:MODEL"),
    }
)
