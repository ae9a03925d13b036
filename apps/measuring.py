"""The ``eval trec`` and ``eval compare`` commands: what run files score, and whether they differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from unabridged.apps import options as o
from unabridged.apps.advising import aligned, words
from unabridged.apps.evaluating import evaluation
from unabridged.apps.loading import load_corpus
from unabridged.apps.output import Output, emit, exit_codes, say
from unabridged.contracts import Failure
from unabridged.corpora import read_qrels
from unabridged.errors import CorpusError, UsageError
from unabridged.eval._resample import LEVEL, RESAMPLES
from unabridged.eval.duplicates import collapse, text_keys
from unabridged.eval.measures import Evaluation, Measure, evaluate
from unabridged.eval.significance import FLIPS, Comparison
from unabridged.eval.significance import compare as compared
from unabridged.eval.trec import read_run

MEASURES = ("nDCG@10", "R@100")
SHOWN_IDS = 5

Qrels: TypeAlias = Annotated[Path, typer.Option("--qrels", help="Judgements: TREC, BEIR or Tevatron.")]
Measures: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("-m", "--measure", help="nDCG@10, R@100, AP, RR, P@5, Success@1; may be repeated [nDCG@10, R@100]."),
]
Seed: TypeAlias = Annotated[int, typer.Option("--seed", help="Of everything that is drawn.")]
IgnoreUnjudged: TypeAlias = Annotated[
    bool, typer.Option("--ignore-unjudged", help="Leave out queries of a run that have no judgements.")
]


@evaluation.command()
def trec(
    run: Annotated[Path, typer.Option("--run", help="A run in six columns, as search --run writes it.")],
    qrels: Qrels,
    measures: Measures = None,
    per_query: Annotated[bool, typer.Option("--per-query", help="Also the value of every query.")] = False,
    corpus: Annotated[
        list[str] | None,
        typer.Option("--corpus", help="The documents: adds scores in which equal texts count once."),
    ] = None,
    ignore_unjudged: IgnoreUnjudged = False,
    seed: Seed = 0,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Score a run.  Queries that it leaves out count 0; what ties could change is shown."""
    with exit_codes(output):
        wanted = parsed(measures)
        found, judged = read(run), read_qrels(qrels)
        scores = evaluate(found, judged, wanted, ignore_unjudged=ignore_unjudged)
        body = {"run": str(run), "qrels": str(qrels), **as_json(scores, seed)}
        if corpus:
            keys = text_keys(whole(corpus))
            once = evaluate(*collapse(found, judged, keys), wanted, ignore_unjudged=ignore_unjudged)
            share = 1 - len(set(keys.values())) / len(keys) if keys else 0.0
            body["duplicates"] = {"share": share, "measures": by_measure(once, once.means.tolist())}
        if per_query:
            body["per_query"] = {
                query: by_measure(scores, row)
                for query, row in zip(scores.queries, scores.values.T.tolist(), strict=True)
            }
        if output is Output.JSON:
            emit(body)
        else:
            describe(scores, body)


@evaluation.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more runs in six columns.")],
    qrels: Qrels,
    measures: Measures = None,
    flips: Annotated[int, typer.Option("--flips", help="Of the randomisation test.")] = FLIPS,
    resamples: Annotated[int, typer.Option("--resamples", help="Of the bootstrap intervals.")] = RESAMPLES,
    ignore_unjudged: IgnoreUnjudged = False,
    seed: Seed = 0,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Compare runs pair by pair: difference, interval, p of paired tests, corrected for their number (Holm)."""
    with exit_codes(output):
        wanted = parsed(measures)
        judged = read_qrels(qrels)
        systems = {
            name: evaluate(read(path), judged, wanted, ignore_unjudged=ignore_unjudged)
            for name, path in named(runs).items()
        }
        _enough(systems, qrels)
        pairs = compared(systems, flips=flips, resamples=resamples, seed=seed)
        if output is Output.JSON:
            scores = {name: as_json(one, seed, resamples) for name, one in systems.items()}
            drawn = {"seed": seed, "flips": flips, "resamples": resamples, "level": LEVEL}
            emit({"qrels": str(qrels), "runs": scores, "comparisons": [pair_json(one) for one in pairs], **drawn})
            return
        say(aligned(scores_table(systems, seed, resamples)))
        say()
        say(aligned(pairs_table(pairs)))
        say()
        say(f"{pairs[0].queries:,} queries; difference = first run - second run; intervals of {LEVEL:.0%}, seed {seed}")
        for name, one in systems.items():
            for note in notes(one):
                say(f"{name}: {note}")


def _enough(systems: dict[str, Evaluation], qrels: Path) -> None:
    """:class:`CorpusError` where one query is all there is: its difference says nothing of others."""
    found = min(len(one.queries) for one in systems.values())
    if found < 2:
        raise CorpusError(
            f"compare needs at least two queries with judgements, {qrels} has {found}. Add judgements of other "
            "queries, or score each run alone: unabridged eval trec --run RUN --qrels QRELS"
        )


def parsed(texts: Sequence[str] | None) -> list[Measure]:
    """The measures of all ``-m`` options, each once; an option may also hold several with commas between them."""
    return list(dict.fromkeys(Measure.parse(word) for text in texts or MEASURES for word in words(text)))


def read(path: Path) -> dict[str, dict[str, float]]:
    """A run; in one that an evaluation wrote, beside its record, ids are percent-encoded, which is undone."""
    from unabridged.apps.runs import RECORD, RUN

    return read_run(path, escaped=path.name == RUN and path.with_name(RECORD).is_file())


def named(paths: Sequence[Path]) -> dict[str, Path]:
    """Runs by short names: the file's without its suffix where that tells them apart, else the whole path."""
    if len(set(paths)) < max(2, len(paths)):
        raise UsageError(f"compare needs two or more different runs, got {', '.join(map(str, paths))}.")
    stems = [path.stem for path in paths]
    return {path.stem if stems.count(path.stem) == 1 else str(path): path for path in paths}


def whole(sources: list[str]) -> Any:
    """The documents of ``sources``; one that cannot be read is an error, since its copies would not be known."""
    for one in load_corpus(sources, {}):
        if isinstance(one, Failure):
            raise CorpusError(f"{one.where}: {one.message}; --corpus needs every document")
        yield one


def as_json(scores: Evaluation, seed: int, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Everything but the values of single queries; the ends of intervals are None where there is one query."""
    ends = scores.intervals(seed=seed, resamples=resamples).T.tolist()
    if len(scores.queries) < 2:
        ends = [[None] * len(scores.measures)] * 2
    rows = zip(scores.means.tolist(), *ends, scores.worst.tolist(), scores.best.tolist(), strict=True)
    keys = ("mean", "low", "high", "worst", "best")
    return {
        "queries": len(scores.queries),
        "measures": {
            str(one): dict(zip(keys, row, strict=True)) for one, row in zip(scores.measures, rows, strict=True)
        },
        "missing": list(scores.missing),
        "tied": list(scores.tied),
        "unjudged": list(scores.unjudged),
        "level": LEVEL,
        "resamples": resamples,
        "seed": seed,
    }


def by_measure(scores: Evaluation, values: Sequence[Any]) -> dict[str, Any]:
    """One value per measure, under its name."""
    return dict(zip(map(str, scores.measures), values, strict=True))


def pair_json(one: Comparison) -> dict[str, Any]:
    """One comparison with the names of its numbers."""
    return {name: getattr(one, name) for name in Comparison.__slots__} | {"measure": str(one.measure)}


def describe(scores: Evaluation, body: dict[str, Any]) -> None:
    """The scores for people, with what could flatter them."""
    table = [["measure", "score", f"{LEVEL:.0%} interval", *(["ties, worst", "ties, best"] if scores.tied else [])]]
    for name, one in body["measures"].items():
        ties = [f"{one['worst']:.4f}", f"{one['best']:.4f}"] if scores.tied else []
        table.append([name, f"{one['mean']:.4f}", span(one["low"], one["high"]), *ties])
    if "duplicates" in body:
        table[0].append("equal texts once")
        for row, value in zip(table[1:], body["duplicates"]["measures"].values(), strict=True):
            row.append(f"{value:.4f}")
    say(aligned(table))
    alone = "; an interval needs at least two" if len(scores.queries) < 2 else ""
    say(f"{body['queries']:,} {'query' if alone else 'queries'}{alone}")
    for note in notes(scores):
        say(note)
    if "duplicates" in body:
        say(f"{body['duplicates']['share']:.1%} of the documents have a text that another one has already")
    if "per_query" in body:
        names = list(body["measures"])
        rows = [[query, *(f"{row[name]:.4f}" for name in names)] for query, row in body["per_query"].items()]
        say()
        say(aligned([["query", *names], *rows]))


def notes(scores: Evaluation) -> list[str]:
    """What to know before believing a score."""
    said = (
        (scores.missing, "queries that the run leaves out, counted 0"),
        (scores.tied, "queries with equal scores at a depth that counts, broken by document id as in trec_eval"),
        (scores.unjudged, "queries of the run without judgements, left out"),
    )
    return [f"{what}: {len(names):,} ({some(names)})" for names, what in said if names]


def some(names: Sequence[str]) -> str:
    """The first few names."""
    shown = ", ".join(names[:SHOWN_IDS])
    return f"{shown}, ..." if len(names) > SHOWN_IDS else shown


def span(low: float | None, high: float | None) -> str:
    """An interval as text."""
    return "not defined" if low is None or high is None else f"[{low:.4f}, {high:.4f}]"


def scores_table(systems: dict[str, Evaluation], seed: int, resamples: int) -> list[list[str]]:
    """One row per run and measure, a head first."""
    table = [["run", "measure", "score", f"{LEVEL:.0%} interval", "missing", "tied"]]
    for name, scores in systems.items():
        ends = scores.intervals(seed=seed, resamples=resamples).tolist()
        for measure, mean, (low, high) in zip(scores.measures, scores.means.tolist(), ends, strict=True):
            counts = [f"{len(scores.missing):,}", f"{len(scores.tied):,}"]
            table.append([name, str(measure), f"{mean:.4f}", span(low, high), *counts])
    return table


def pairs_table(pairs: Sequence[Comparison]) -> list[list[str]]:
    """One row per pair and measure, a head first."""
    table = [["runs", "measure", "difference", f"{LEVEL:.0%} interval", "p randomisation", "p t-test", "p Holm"]]
    for one in pairs:
        ps = [f"{p:.3g}" for p in (one.p_randomization, one.p_t, one.p_holm)]
        table.append([f"{one.a} - {one.b}", str(one.measure), f"{one.difference:+.4f}", span(one.low, one.high), *ps])
    return table
