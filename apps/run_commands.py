"""Commands that evaluate one system on retrieval sets, and that show and check what they left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from unabridged.apps import options as o
from unabridged.apps.advising import words
from unabridged.apps.bins import bin_lines
from unabridged.apps.evaluating import evaluation
from unabridged.apps.output import Output, complain, emit, exit_codes, say
from unabridged.apps.places import check_file
from unabridged.apps.rerank_options import FEW, Rerank, RerankDepth, RerankOption, pairs, ranker_options
from unabridged.contracts import Encoder, Level, OverflowPolicy
from unabridged.encoders.code.split import Split
from unabridged.encoders.methods import LogN, Method
from unabridged.errors import EXIT_PARTIAL, MissingFile, UsageError
from unabridged.retrievers.result import Mode

if TYPE_CHECKING:
    from unabridged.apps.runs import Evidence, Record
    from unabridged.apps.second_stage import SecondStage
    from unabridged.eval.sets import RetrievalSet

Out: TypeAlias = Annotated[Path, typer.Option("--out", help="Folder for indexes and runs; the same line continues.")]
Measures: TypeAlias = Annotated[
    list[str] | None, typer.Option("-m", "--measure", help="May be repeated [nDCG@10, R@100, RR@10].")
]
Name: TypeAlias = Annotated[str | None, typer.Option("--name", help="What the system is called [from its options].")]
Rank: TypeAlias = Annotated[Level, typer.Option("--rank", help="What is ranked: documents, or their best segments.")]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]
Runs: TypeAlias = Annotated[Path, typer.Argument(help="A folder that evaluations wrote into.")]
Baseline: TypeAlias = Annotated[str | None, typer.Option("--baseline", help="The system that others are held against.")]
TEST = "test"
ANSWERS = "answers.sqlite"
"""In the folder of the runs: the response cache of rerankers."""
DOCUMENTS = 16
QUERIES = 32


@evaluation.command()
def beir(  # noqa: PLR0913 - one parameter per option
    folders: Annotated[list[Path], typer.Argument(help="Folders of BEIR's layout or the hub's (CoIR, MLDR, ...).")],
    out: Out,
    split: Annotated[str, typer.Option("--split", help="The judgements to use.")] = TEST,
    subset: Annotated[
        str | None, typer.Option("--subset", help="One of several sets in a folder, as a language.")
    ] = None,
    measures: Measures = None,
    name: Name = None,
    encoder: o.EncoderOption = None,
    mode: o.ModeOption = Mode.HYBRID,
    rank: Rank = Level.DOC,
    overflow: o.OverflowOption = None,
    level: o.LevelOption = None,
    recipe: o.RecipeOption = None,
    max_tokens: o.MaxTokens = None,
    cut: o.Cut = None,
    language: o.LanguageOption = None,
    header: o.Header = False,
    comments: o.Comments = None,
    docstrings: o.Docstrings = None,
    late_tokens: o.LateTokens = None,
    carry: o.Carry = None,
    extend: o.Extend = None,
    target_tokens: o.TargetTokens = None,
    temperature: o.Temperature = None,
    logn: o.LogNOption = None,
    device: o.Device = None,
    backend: o.Backend = None,
    precision: o.Precision = None,
    network: o.Network = False,
    rerank: Rerank = None,
    rerank_depth: RerankDepth = FEW,
    rerank_option: RerankOption = None,
    quiet: Quiet = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Score the whole pipeline on retrieval sets; truncation, speed and an interval stand beside every score.

    With --rerank the scores of the first stage, calls, tokens and seconds stand there too; answers are kept in the
    folder of the runs, so that the same line continues.
    """
    with exit_codes(output):
        from unabridged.eval.sets import read_set

        system = Options(
            name, encoder, mode, rank,
            o.given(overflow=overflow, level=level, recipe=recipe),
            o.given(
                max_tokens=max_tokens, split=cut, language=language, header=header or None, comments=comments,
                docstrings=docstrings, late_tokens=late_tokens, carry=carry, device=device, backend=backend,
                precision=precision, network=network or None,
                extension=o.extension(extend, target_tokens, None, temperature, logn, None),
            ),
            None if rerank is None else Second(rerank, rerank_depth, pairs(rerank_option)),
        )  # fmt: skip
        if rerank is None and rerank_option:
            raise UsageError("--rerank-option is for a reranker: name one with --rerank.")
        found = [named(read_set(folder, split, subset=subset), split) for folder in folders]
        sets = [(one, evidence_in(folder, one)) for one, folder in zip(found, folders, strict=True)]
        run_sets(system, sets, measures, out, quiet, output)


@evaluation.command()
def loco(  # noqa: PLR0913 - one parameter per option
    queries: Annotated[Path, typer.Argument(help="A local copy of LoCoV1-Queries.")],
    documents: Annotated[Path, typer.Argument(help="A local copy of LoCoV1-Documents.")],
    datasets: Annotated[list[str], typer.Option("--dataset", help="Such as qasper_title_test; may be repeated.")],
    out: Out,
    split: Annotated[str, typer.Option("--split", help="Where the copies are divided.")] = "test",
    measures: Measures = None,
    name: Name = None,
    encoder: o.EncoderOption = None,
    mode: o.ModeOption = Mode.HYBRID,
    rank: Rank = Level.DOC,
    overflow: o.OverflowOption = None,
    max_tokens: o.MaxTokens = None,
    extend: o.Extend = None,
    target_tokens: o.TargetTokens = None,
    temperature: o.Temperature = None,
    logn: o.LogNOption = None,
    device: o.Device = None,
    network: o.Network = False,
    quiet: Quiet = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Score the whole pipeline on tasks of LoCo V1."""
    with exit_codes(output):
        from unabridged.eval.sets import read_loco

        extension = o.extension(extend, target_tokens, None, temperature, logn, None)
        loading = o.given(max_tokens=max_tokens, device=device, network=network or None, extension=extension)
        system = Options(name, encoder, mode, rank, o.given(overflow=overflow), loading)
        none: Evidence = {}
        sets = [(read_loco(queries, documents, dataset, split), none) for dataset in datasets]
        run_sets(system, sets, measures, out, quiet, output)


@evaluation.command()
def report(runs: Runs, baseline: Baseline = None, output: o.OutputOption = Output.TEXT) -> None:
    """Write one HTML page with the tables and plots of all runs in a folder."""
    with exit_codes(output):
        from unabridged.apps.leaderboard import Board, collect
        from unabridged.apps.reporting import write_report

        board = Board(collect(runs))
        board.check_baseline(baseline)
        path = write_report(board, runs, baseline)
        emit({"report": str(path)}) if output is Output.JSON else say(f"{path}: open it in a browser")


@evaluation.command()
def leaderboard(
    runs: Runs,
    out: Annotated[Path | None, typer.Option("--out", help="Write the page here instead of printing it.")] = None,
    baseline: Baseline = None,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Show every system on every set as tables: scores, differences, costs."""
    with exit_codes(output):
        from unabridged.apps.leaderboard import Board, collect, render
        from unabridged.files import write_atomic

        board = Board(collect(runs))
        board.check_baseline(baseline)
        page = render(board, baseline, "unabridged eval leaderboard")
        if out is not None:
            check_file(out, "--out")
            write_atomic(out, page.encode())
        if output is Output.JSON:
            emit({"page": page, "out": None if out is None else str(out)})
        else:
            say(page if out is None else f"{out} written")


def verify(
    run: Annotated[Path, typer.Argument(help="A run.json that an evaluation wrote.")],
    documents: Annotated[int, typer.Option("--documents", help="Documents to encode again.")] = DOCUMENTS,
    queries: Annotated[int, typer.Option("--queries", help="Queries to search again.")] = QUERIES,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Compute a hash-chosen part of a run again and compare.  Exit code 5: something differs."""
    with exit_codes(output):
        from unabridged.apps.verifying import SCORES, VECTORS, verify_run

        if documents < 1 or queries < 1:
            raise UsageError(f"verify needs at least 1 document and 1 query, got {documents} and {queries}.")
        if not run.is_file():
            raise MissingFile(f"There is no file {run}; name the run.json of an evaluation.")
        found = verify_run(run, documents=documents, queries=queries)
        if output is Output.JSON:
            emit(found.as_json())
        else:
            say(
                f"{found.vectors:,} vectors of {found.documents:,} documents: largest cosine distance "
                f"{found.worst_distance:.1e} (tolerance {VECTORS:g})"
            )
            say(f"{found.queries:,} queries: {len(found.moved):,} with other documents (near-ties within {SCORES:g})")
            for label, names in (
                ("changed documents", found.changed), ("changed queries", found.moved), ("other scores", found.other),
                ("counts that are not the index's", found.coverage), ("files edited after the run", found.edited),
            ):  # fmt: skip
                if names:
                    say(f"{label}: {', '.join(names)}")
            if not found.sealed:
                say("the record has no SHA-256 of itself: its speeds, bins and failed queries cannot be checked")
            say("the run holds" if found.holds else "the run does NOT hold")
    if not found.holds:
        raise SystemExit(5)


@dataclass(frozen=True, slots=True)
class Second:
    """The options that make a second stage."""

    model: str
    depth: int
    given: Mapping[str, Any]

    def load(self, out: Path) -> SecondStage:
        """The stage; its answers are kept in ``out`` unless a file is named."""
        from unabridged.apps.rankers import load_ranker
        from unabridged.apps.second_stage import SecondStage

        options = ranker_options({"cache": out / ANSWERS, **self.given})
        return SecondStage(load_ranker(self.model, options=options), self.depth)

    @property
    def words(self) -> dict[str, Any]:
        """For the name of a system: what changes an order."""
        silent = ("cache", "concurrency", "price", "timeout", "attempts", "device", "network")
        return {"rerank": self.model, "depth": self.depth} | {k: v for k, v in self.given.items() if k not in silent}


class Options:
    """The options that make a system."""

    def __init__(
        self,
        name: str | None,
        encoder: str | None,
        mode: Mode,
        rank: Level,
        building: Mapping[str, Any],
        loading: Mapping[str, Any],
        second: Second | None = None,
    ) -> None:
        self.encoder, self.mode, self.rank, self.building, self.loading = encoder, mode, rank, building, loading
        self.second = second
        self.name = name or self._called()

    def load(self) -> Encoder:
        """The encoder; see :func:`unabridged.apps.loading.load_for_mode`."""
        from unabridged.apps.loading import load_for_mode

        return load_for_mode(self.mode, self.encoder, self.loading)

    def _called(self) -> str:
        """``MODEL-mode`` and every option that was given."""
        model = Path(self.encoder).name if self.encoder else "default"
        given = {**self.building, **{k: v for k, v in self.loading.items() if k not in ("network", "device")}}
        given |= given.pop("extension", None) or {}
        if self.rank is not Level.DOC:
            given["rank"] = self.rank
        given |= {} if self.second is None else self.second.words
        said = [f"{key}={_word(value)}" for key, value in given.items()]
        return "-".join([model, self.mode.value, *said])


def _word(value: object) -> str:
    return str(value.value) if isinstance(value, (Mode, Level, Method, LogN, OverflowPolicy, Split)) else str(value)


def evidence_in(folder: Path, whole: RetrievalSet) -> Evidence:
    """The evidence that a set's folder knows, in characters of the sources: behind the titles; nothing without any."""
    from unabridged.eval.evidence import EVIDENCE, read_evidence

    if not (folder / EVIDENCE).is_file():
        return {}
    held = read_evidence(folder)
    judged = {one.doc_id for one in held}
    titles = {one.id: len(one.source) - len(one.text) for one in whole.corpus if one.id in judged}
    return {
        (one.query_id, one.doc_id): (titles.get(one.doc_id, 0) + one.start, titles.get(one.doc_id, 0) + one.end)
        for one in held
    }


def named(whole: RetrievalSet, split: str) -> RetrievalSet:
    """The set, named with its split unless that is test, so that its run takes no other split's place."""
    return whole if split == TEST else replace(whole, name=f"{whole.name}.{split}")


def run_sets(
    options: Options,
    sets: Sequence[tuple[RetrievalSet, Evidence]],
    measures: Sequence[str] | None,
    out: Path,
    quiet: bool,
    output: Output,
) -> None:
    """Runs the sets one after another and prints the records; exits with 7 when queries or documents failed."""
    from unabridged.apps.pipeline import Pipeline
    from unabridged.apps.progress import progress
    from unabridged.apps.runs import MEASURES, System, file_name, run_system
    from unabridged.eval.measures import Measure
    from unabridged.eval.sets import facts

    wanted = list(dict.fromkeys(str(Measure.parse(word)) for text in measures or MEASURES for word in words(text)))
    places = [file_name(whole.name) for whole, _ in sets]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice is not None:
        raise UsageError(f"Two sets are called {twice}, and one run would replace the other: use an --out for each.")
    rerank = None if options.second is None else options.second.load(out)
    pipeline = Pipeline(options.mode, options.rank, options.building, rerank=rerank)
    system = System(options.name, options.load(), pipeline)
    records = []
    for whole, evidence in sets:
        known = facts(whole)
        if not quiet and output is Output.TEXT:
            say(f"{whole.name}: {known.documents:,} documents, {known.queries:,} queries")
        with progress(quiet) as listener:
            record = run_system(
                whole, known, system, out, measures=wanted, evidence=evidence, listener=listener, notice=complain
            )
        records.append(record)
        if output is Output.TEXT:
            say(describe(record))
    if output is Output.JSON:
        emit({"runs": records, "out": str(out)})
    if any(r["missing"] or r["coverage"]["failed"] or r.get("rerank", {}).get("failed") for r in records):
        raise SystemExit(EXIT_PARTIAL)


def describe(record: Record) -> str:
    """A record for people."""
    from unabridged.apps.second_stage import described

    lines = [f"{record['system']['name']} on {record['set']['name']}"]
    for name, found in record["measures"].items():
        spread = f", {found['worst']:.4f} to {found['best']:.4f} by ties" if found["best"] > found["worst"] else ""
        lines.append(f"  {name:<10} {found['value']:.4f}  (95 %: {found['low']:.4f} to {found['high']:.4f}{spread})")
    cover, speed = record["coverage"], record["speed"]
    share = 100 * (1 - cover["tokens_seen"] / max(1, cover["tokens_total"]))
    rate = speed["tokens_per_second"]
    unread = f"{cover['truncated']:,} of {cover['documents']:,} documents not read to the end"
    lines.append(
        f"  {unread}, {share:.1f} % of all tokens; "
        + (f"{rate:,.0f} tokens/s, " if rate else "")
        + f"{speed['query_ms_p50']:.1f} ms per query (p95 {speed['query_ms_p95']:.1f})"
    )
    lines += described(record, record["primary"])
    lines += bin_lines(record["by_length"], record["by_depth"], record["primary"])
    lines += [f"  kept in {record['place']}"] if "place" in record else []
    return "\n".join([*lines, *_notes(record)])


def _notes(record: Record) -> list[str]:
    """What to know before believing a score."""
    said = (
        (record["set"].get("unknown_documents"), "judged documents are not in the corpus: no run can find them"),
        (record["set"].get("queries_without_judgement"), "queries have no judgement and are left out"),
        (record["coverage"].get("empty"), "documents are empty"),
        (record["coverage"]["failed"], "documents failed: see failed.jsonl of the index"),
    )
    lines = [f"  {count:,} {what}" for count, what in said if count]
    if record["missing"]:
        name, reason = next(iter(record["missing"].items()))
        lines.append(f"  {len(record['missing']):,} queries failed and count 0, the first: {name}: {reason}")
    return lines
