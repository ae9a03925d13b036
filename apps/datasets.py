"""The ``eval`` commands that make retrieval sets: real ones from packages, synthetic ones by generators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from unabridged.apps import options as o
from unabridged.apps.advise import own_texts
from unabridged.apps.advising import aligned, numbers
from unabridged.apps.evaluating import evaluation
from unabridged.apps.generating import Edges, Made, Order, Sizing, make, statistics, task_named
from unabridged.apps.loading import load_corpus
from unabridged.apps.output import Output, complain, emit, exit_codes, say
from unabridged.apps.places import check_folder
from unabridged.encoders.load import load_encoder
from unabridged.errors import EXIT_PARTIAL, UnabridgedError, UsageError
from unabridged.eval.synth.needle import Depth
from unabridged.eval.synth.niah import Kind
from unabridged.eval.synth.passkey import LENGTHS
from unabridged.files import check_free

Out = Annotated[Path, typer.Option("--out", help="Folder in which each set gets a folder of its own.")]


@evaluation.command("fetch-local-sets")
def fetch_local_sets(
    out: Out,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SET",
            help="aafaq, pydoc, stdlibmod, stdlibcode, manpages, gensimwiki, perldoc, pgdoc, books, longcode, "
            "codesearch [all].",
        ),
    ] = None,
    packages: Annotated[
        Path | None,
        typer.Option(
            "--packages",
            help="Folder of .deb, .whl and .tgz files; what is not there is downloaded into it [OUT/packages].",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Build real retrieval sets of long documents from packages and from this Python, as BEIR folders.

    Technical documentation: pydoc, pgdoc, perldoc, manpages, stdlibmod. Books: books. Questions over long articles:
    aafaq. Code: longcode; codesearch (functions of seven languages; it needs the extra "code"). Controls: stdlibcode
    (short documents), gensimwiki (the answer always at the start).

    A set that is there already is checked and kept. Exit code 7: some sets could not be built, the others are there.
    """
    with exit_codes(output):
        from unabridged.eval.local_sets.build import BUILDERS

        chosen = names or list(BUILDERS)
        unknown = [name for name in chosen if name not in BUILDERS]
        if unknown:
            raise UsageError(f"there is no local set {unknown[0]!r}; there are {', '.join(BUILDERS)}.")
        if packages is not None and not packages.is_dir():
            raise UsageError(f"--packages {packages} is no folder. Make it, or leave the option out to download.")
        check_folder(out, "--out")
        built, failed = _built(chosen, out, packages, quiet)
        if output is Output.JSON:
            emit({"sets": built, "failed": failed})
        else:
            say(aligned(sets_table(built)))
        if failed:
            raise SystemExit(EXIT_PARTIAL)


TaskName = Annotated[
    str,
    typer.Argument(help="Sets: passkey, needle. Samples: niah, vartrack (vt), twohop (multihop).", metavar="TASK"),
]


@evaluation.command("make-synth")
def make_synth(  # noqa: PLR0913 - one parameter per option
    task: TaskName,
    out: Out,
    lengths: Annotated[
        str, typer.Option("--lengths", help="Tokens, comma-separated; nominal ones of 0.75 word.")
    ] = ",".join(map(str, LENGTHS)),
    seed: Annotated[int, typer.Option("--seed", help="Equal seeds and options give equal bytes.")] = 0,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="Record true token counts: embedded, a model folder or hub id.")
    ] = None,
    sizing: Annotated[
        Sizing, typer.Option("--sizing", help="Of samples; tokens: fill each to its length in tokens of --encoder.")
    ] = Sizing.NOMINAL,
    samples: Annotated[
        int | None, typer.Option("--samples", help="niah, vartrack, twohop: samples of each length [20].")
    ] = None,
    documents: Annotated[int | None, typer.Option("--documents", help="passkey, needle: of each length [100].")] = None,
    queries: Annotated[int | None, typer.Option("--queries", help="passkey, needle: of each length [50].")] = None,
    edges: Annotated[
        Edges | None, typer.Option("--edges", help="passkey: needles at the start or end of a text [published].")
    ] = None,
    depth: Annotated[Depth | None, typer.Option("--depth", help="needle: places of the facts [stratified].")] = None,
    distractors: Annotated[int | None, typer.Option("--distractors", help="needle: other facts a text [0].")] = None,
    haystack: Annotated[
        list[str] | None, typer.Option("--haystack", help="needle: your texts, a file or folder; may be repeated.")
    ] = None,
    keys: Annotated[int | None, typer.Option("--keys", help="niah: keys that have values [4].")] = None,
    values: Annotated[int | None, typer.Option("--values", help="niah: values of each key [1].")] = None,
    key_kind: Annotated[Kind | None, typer.Option("--key-kind", help="niah: what keys are [words].")] = None,
    value_kind: Annotated[Kind | None, typer.Option("--value-kind", help="niah: what values are [numbers].")] = None,
    chains: Annotated[int | None, typer.Option("--chains", help="vartrack: chains of assignments [2].")] = None,
    hops: Annotated[int | None, typer.Option("--hops", help="vartrack: copies in each [4].")] = None,
    pairs: Annotated[int | None, typer.Option("--pairs", help="twohop: persons with a town and a river [18].")] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Show characters; of passkey beside the published.")] = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Make synthetic sets whose evidence is known: one folder a length, with a record of how it was made.

    passkey and needle become BEIR folders with evidence.jsonl; niah, vartrack and twohop samples.jsonl.
    """
    with exit_codes(output):
        options = o.given(documents=documents, queries=queries, edges=edges, depth=depth, distractors=distractors)
        options |= o.given(keys=keys, values=values, key_kind=key_kind, value_kind=value_kind)
        options |= o.given(chains=chains, hops=hops, pairs=pairs, samples=samples, texts=haystack)
        sizes = list(dict.fromkeys(numbers(lengths, "--lengths")))
        order = Order(task_named(task), sizes, seed, sizing, options)
        if sizing is Sizing.TOKENS and encoder is None:
            raise UsageError("--sizing tokens needs --encoder: whose tokens?")
        check_folder(out, "--out")
        for length in order.lengths:
            check_free(order.folder(length, out))
        if haystack:
            order = replace(order, options=options | {"texts": own_texts(load_corpus(haystack, {}))})
        model = None if encoder is None else load_encoder(encoder)
        made = [make(order, length, out, model) for length in order.lengths]
        if output is Output.JSON:
            emit({"made": [one.as_json() for one in made], "statistics": statistics(made) if stats else None})
            return
        say(aligned(made_table(made)))
        if stats:
            say()
            say(aligned(statistics_table(made)))


def made_table(made: Sequence[Made]) -> list[list[str]]:
    """One row per folder, a head first."""
    table = [["length", "texts", "queries", "tokens, most", "tokenizer", "folder"]]
    for one in made:
        texts = one.record.get("documents", one.record.get("samples"))
        queries = one.record.get("queries", texts)
        tokens = "" if one.record["tokens"] is None else f"{max(one.record['tokens']):,}"
        counts = [f"{count:,}" for count in (one.record["length"], texts, queries)]
        table.append([*counts, tokens, one.record["tokenizer"], str(one.folder)])
    return table


def statistics_table(made: Sequence[Made]) -> list[list[str]]:
    """Characters of the documents of each set, and below them the published ones, a head first."""
    keys = ("least", "mean", "most", "total", "documents", "queries")
    table = [["length", "characters of", *keys, "equal"]]
    for row in statistics(made):
        for whose in ("made", "published"):
            if row[whose] is not None:
                numbers_ = [f"{row[whose][key]:,.2f}" if key == "mean" else f"{row[whose][key]:,}" for key in keys]
                verdict = {True: "yes", False: "no", None: ""}[row["equal"]] if whose == "published" else ""
                table.append([f"{row['length']:,}", whose, *numbers_, verdict])
    return table


def sets_table(records: Sequence[dict[str, Any]]) -> list[list[str]]:
    """One row per set, a head first; words are those between white space, and the hash is that of the content."""
    table = [["set", "documents", "queries", "evidence", "words mean", "median", "max", "origin", "licence", "hash"]]
    keys = ("documents", "queries", "evidence", "words_mean", "words_median", "words_max")
    for one in records:
        numbers = [f"{one[key]:,}" for key in keys]
        table.append([one["name"], *numbers, one["origin"], one["licence"], one["revision"][:16]])
    return table


def _built(
    names: Sequence[str], out: Path, packages: Path | None, quiet: bool
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Records of the sets that are there now, and why the others are not; raises where none is."""
    from unabridged.eval.local_sets.build import build

    built: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    last: UnabridgedError | None = None
    for name in names:
        try:
            built.append(build(name, out, packages) | {"folder": str(out / name)})
            if not quiet:
                complain(f"{name}: {built[-1]['documents']:,} documents")
        except UnabridgedError as error:
            failed[name], last = str(error), error
            if len(names) > 1:
                complain(f"{name}: {type(error).__name__}: {error}")
    if last is not None and not built:
        raise last
    return built, failed
