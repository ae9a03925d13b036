"""``train fullrank-labels``: complete lists for ``train fullrank``, made by any ranker from a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unabridged.apps import options as o
from unabridged.apps.output import Output, complain, emit, exit_codes, say
from unabridged.errors import EXIT_PARTIAL, CorpusError, UsageError

if TYPE_CHECKING:
    from unabridged.rankers.contracts import Ranker, Request
    from unabridged.training.fullrank.labels import Taught

ENCODER = "encoder:"


def fullrank_labels(  # noqa: PLR0913 - one parameter per option
    run: Annotated[Path, typer.Argument(help="A TREC run: the lists, best first.")],
    queries: Annotated[Path, typer.Option("--queries", help="The queries of the run.")],
    corpus: Annotated[list[str], typer.Option("--corpus", help="The documents; may be repeated.")],
    out: Annotated[Path, typer.Option("--out", help="The file of labels to make.")],
    teacher: Annotated[str, typer.Option("--teacher", help="embedded, cross:FOLDER, encoder:NAME, ...")],
    strategy: Annotated[str | None, typer.Option("--strategy", help="Of the teacher: multipass settles all.")] = None,
    depth: Annotated[int, typer.Option("--depth", help="Documents of a list.")] = 100,
    cache: Annotated[Path | None, typer.Option("--cache", help="What was answered is not asked again.")] = None,
    format: o.Format = None,  # noqa: A002 - the name of the option
    id_field: o.IdField = None,
    text_field: o.TextField = None,
    title_field: o.TitleField = None,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Make complete lists of a run's documents: labels to train a listwise reranker with."""
    with exit_codes(output):
        from unabridged.apps.train_fullrank import texts_of
        from unabridged.corpora import read_queries
        from unabridged.eval.trec import read_run
        from unabridged.training.fullrank.labels import teach, write_labels

        if depth < 2:
            raise UsageError(f"--depth {depth}: a list has two documents or more.")
        lists = {qid: _best(scores, depth) for qid, scores in read_run(run).items()}
        reading = o.given(format=format, id_field=id_field, text_field=text_field, title_field=title_field)
        texts = texts_of({one for ids in lists.values() for one in ids}, corpus, reading)
        asked = {query.id: query.text for query in read_queries(queries)}
        requests = [_request(qid, ids, asked, texts) for qid, ids in lists.items()]
        taught = teach(_teacher(teacher, strategy, cache), requests)
        write_labels(out, taught.labels)
        _show(taught, out, output)
        if taught.failures:
            raise SystemExit(EXIT_PARTIAL)


def _teacher(name: str, strategy: str | None, cache: Path | None) -> Ranker:
    """The ranker that ``name`` says; ``encoder:`` and a name or folder: an encoder."""
    from unabridged.apps.rankers import RankerOptions, load_ranker

    if not name.startswith(ENCODER):
        return load_ranker(name, strategy, RankerOptions(cache=cache))
    from unabridged.encoders.load import load_encoder
    from unabridged.rankers.encoded import EncoderRanker

    if strategy is not None or cache is not None:
        raise UsageError("An encoder has no --strategy and no --cache: leave them out.")
    return EncoderRanker(load_encoder(name.removeprefix(ENCODER)))


def _best(scores: Mapping[str, float], depth: int) -> list[str]:
    """The best ``depth`` documents; equals in the order of the run."""
    return sorted(scores, key=lambda one: -scores[one])[:depth]


def _request(qid: str, ids: Sequence[str], queries: Mapping[str, str], texts: Mapping[str, str]) -> Request:
    from unabridged.rankers.contracts import Candidate, Request

    if qid not in queries:
        raise CorpusError(f"Query {qid!r} of the run is not among the queries.")
    missing = next((one for one in ids if one not in texts), None)
    if missing is not None:
        raise CorpusError(f"Document {missing!r} of the run (query {qid!r}) is not in the corpus.")
    return Request(queries[qid], tuple(Candidate(one, texts[one]) for one in ids), qid)


def _show(taught: Taught, out: Path, output: Output) -> None:
    calls = sum(ranking.spent.calls for ranking in taught.rankings)
    prompt = sum(ranking.spent.usage.prompt for ranking in taught.rankings)
    if output is Output.JSON:
        failures = [{"qid": one.id, "reason": one.reason, "message": one.message} for one in taught.failures]
        emit({"out": str(out), "lists": len(taught.labels), "calls": calls, "tokens": prompt, "failures": failures})
        return
    say(f"{out}: {len(taught.labels):,} complete lists from {calls:,} calls, {prompt:,} tokens of prompts")
    for failure in taught.failures:
        complain(f"Left out: query {failure.id}: {failure.reason}: {failure.message}")
