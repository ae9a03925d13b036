"""``ask``: the model that was named, the answer while it is written, and its sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from unabridged.apps.answering import answer, check_writes, closed_after
from unabridged.apps.asked import Asked
from unabridged.apps.context_packs import Candidates, candidates_for
from unabridged.apps.output import EXIT_INTERRUPTED, Output, complain, emit, one_line, say, say_part
from unabridged.apps.search_reranking import end, told
from unabridged.errors import EXIT_PARTIAL, AnswerBroken, UsageError
from unabridged.rankers.generate.contracts import BY_CHOICE, BY_MODEL, BY_WORDS, EMPTY, NO_HITS, Answer, Citation
from unabridged.rankers.lm.contracts import LanguageModel
from unabridged.rankers.lm.load import OPENAI_PREFIX, LocalOptions, load_model
from unabridged.rankers.lm.pacing import Retry

SHOWN_CHARACTERS = 240
WEAK = 0.3
"""The share of a sentence's words in a passage below which that is told."""
_NOTHING = {
    NO_HITS: "Not found in these documents: there is no passage to read.",
    EMPTY: "No answer: the model was shown the passages and wrote nothing.",
}
_BY = {
    BY_MODEL: "named by the model",
    BY_WORDS: "by the words of the answer; the model named no source",
    BY_CHOICE: "the model's choice among the numbers; it named none itself",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """The model and how it writes."""

    model: str
    loading: Mapping[str, Any] = field(default_factory=dict)
    """Fields of :class:`~unabridged.rankers.lm.load.LocalOptions`."""
    server: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a server, and ``attempts``."""
    network: bool = False
    writing: Mapping[str, Any] = field(default_factory=dict)
    """Options of :func:`unabridged.apps.answering.answer`."""


def run_ask(asked: Asked, asking: Asking, require_found: bool, quiet: bool, output: Output) -> None:
    """Prints the answer as it is written, then where each sentence stands; exit codes as the command says."""
    if not asked.question.strip():
        raise UsageError("The question is empty; expected at least one word.")
    with closed_after(opened(asking)) as writer:
        given = candidates_for(asked)
        found = _answered(asked, asking, writer, given, output)
    if output is Output.JSON:
        emit(_in_json(found, given))
    else:
        say("" if found.text else _NOTHING[found.why])
        if not quiet:
            _tell(found, given)
    end({} if given.found is None else {asked.question: given.found})
    if given.failures or (require_found and not found.found):
        raise SystemExit(EXIT_PARTIAL)


def opened(asking: Asking) -> LanguageModel:
    """The model; :class:`UsageError` for options that it does not have."""
    if not asking.model.startswith((OPENAI_PREFIX, "http://", "https://")):
        check_writes(asking.model)
        for name in ("read_timeout", "attempts"):
            if name in asking.server:
                raise UsageError(f"--{name.removeprefix('read_')} is for servers, and {asking.model} is local weights.")
        return load_model(asking.model, local=LocalOptions(**asking.loading), network=asking.network)
    if "precision" in asking.loading:
        raise UsageError(f"--precision is for local weights, and {asking.model} is behind a server.")
    server = dict(asking.server)
    if (attempts := server.pop("attempts", None)) is not None:
        server["retry"] = Retry(attempts=attempts)
    return load_model(asking.model, server=server)


def _answered(asked: Asked, asking: Asking, writer: LanguageModel, given: Candidates, output: Output) -> Answer:
    """The answer; what has come of one that breaks off is shown before that is told."""
    pieces: list[str] = []

    def listen(piece: str) -> None:
        pieces.append(piece)
        if output is Output.TEXT:
            say_part(piece)

    try:
        found = answer(
            asked.question, given.hits, model=writer, sources=given.sources, listener=listen, **asking.writing
        )
        return replace(found, pack=given.accounted(found.pack))
    except AnswerBroken as error:
        _broke_off(type(error).__name__, str(error), error.exit_code, "".join(pieces), output)
    except KeyboardInterrupt:
        message = "Interrupted before the answer was finished: what had come is no answer."
        _broke_off("Interrupted", message, EXIT_INTERRUPTED, "".join(pieces), output)


def _broke_off(kind: str, message: str, code: int, partial: str, output: Output) -> NoReturn:
    """Ends with ``code``, and with what had come of the answer: text is on stdout already."""
    if output is Output.JSON:
        emit({"error": {"type": kind, "message": message, "exit_code": code}, "partial": partial})
    elif partial:
        say()
    complain(f"{kind}: {message}")
    raise SystemExit(code)


def _in_json(found: Answer, given: Candidates) -> dict[str, Any]:
    body = found.as_json()
    if given.select is not None:
        body["select"] = given.select
    if given.found is not None:
        body["rerank"] = given.found.as_json()
    if given.failures:
        body["failed"] = [{"where": one.where, "reason": one.reason, "message": one.message} for one in given.failures]
    return body


def _tell(found: Answer, given: Candidates) -> None:
    """Sources on stdout; on stderr what it took and what did not go as planned."""
    if found.citations or found.unsupported:
        say()
    for one in _once(found):
        say(_described(one))
    for start, end_ in found.unsupported:
        say(f"No source: {found.text[start:end_]}")
    if found.text and not found.found:
        say(f"\nThe documents shown do not hold the answer ({found.why}).")
    usage, pack = found.spent.usage, found.pack
    complain(
        f"{found.model}: {found.spent.calls:,} calls, {usage.prompt + usage.completion:,} tokens, "
        f"{found.spent.seconds:.1f} s; {len(pack.sources):,} spans shown, {pack.tokens:,} tokens; left out: "
        f"{len(pack.dropped):,}"
    )
    if found.finish == "length":
        complain("The answer was cut: allow more tokens with --max-tokens.")
    for note in found.notes:
        complain(note)
    if found.report.out_of_range:
        complain(f"The model named sources that there are not: {', '.join(map(str, found.report.out_of_range))}")
    for failure in given.failures:
        complain(f"could not be read: {one_line(failure.where)}: {failure.message}")
    if given.found is not None:
        complain(told(given.found).strip())


def _once(found: Answer) -> list[Citation]:
    """Each passage once, in the order of the answer."""
    return list({(one.number, one.start, one.end, one.by): one for one in found.citations}.values())


def _described(one: Citation) -> str:
    mark = f"[{one.number}]" if one.by == BY_MODEL else f"[~{one.number}]"
    text = " ".join(one.text.split())
    text = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + " ..."
    weak = "" if one.share >= WEAK else ", and hardly a word of it stands there"
    return f"{mark} {one_line(one.doc_id)}, characters {one.start:,}-{one.end:,} ({_BY[one.by]}{weak})\n     {text}"
