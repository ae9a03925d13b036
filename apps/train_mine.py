"""``train mine``: hard negatives for training pairs, from an index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unabridged.apps import options as o
from unabridged.apps.output import Output, emit, exit_codes, say
from unabridged.retrievers.result import Mode


def mine(  # noqa: PLR0913 - one parameter per option
    pairs: Annotated[
        list[Path], typer.Argument(metavar="DATA", help="Pairs, as train mamba reads them: JSON lines, .tsv, BEIR.")
    ],
    index: Annotated[Path, typer.Option("--index", help="The index folder that is searched.")],
    out: Annotated[Path, typer.Option("--out", help="The .jsonl file to make: {query, positive, negative}.")],
    split: Annotated[str, typer.Option("--split", help="Of BEIR folders.")] = "train",
    mode: o.ModeOption = Mode.HYBRID,
    k: Annotated[int, typer.Option("--k", help="Documents that are looked at for each query.")] = 50,
    keep: Annotated[int, typer.Option("--keep", help="Wrong answers of a query, at most.")] = 8,
    skip: Annotated[int, typer.Option("--skip", help="The best so many are not taken.")] = 0,
    margin: Annotated[
        float, typer.Option("--margin", help="Of the right answer's cosine: what is more alike is left out; 0: off.")
    ] = 0.95,
    encoder: o.EncoderOption = None,
    network: o.Network = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Find hard negatives for training pairs: what an index ranks high, without the judged and their like."""
    with exit_codes(output):
        from unabridged.encoders.load import load_encoder
        from unabridged.retrievers.api import open_index
        from unabridged.training.mining import Miner, Mining, write_mined
        from unabridged.training.pairs import Source

        mining = Mining(k, keep, mode.value, skip, margin or None)
        sources = [Source(path, split) for path in pairs]
        with open_index(index) as opened:
            judge = load_encoder(encoder, network=network) if encoder else None
            if mining.margin is not None and judge is None:
                judge = opened.encoder
            miner = Miner(opened, mining, judge)
            write_mined(out, miner.mine(pair for source in sources for pair in source))
        found = miner.found
        if output is Output.JSON:
            emit({"out": str(out), **found.as_json()})
            return
        say(f"{out}: {found.negatives:,} wrong answers for {found.queries:,} queries, {found.without:,} without any")
        say(
            f"left out: {found.judged:,} judged, {found.duplicates:,} near-duplicates of a right answer, "
            f"{found.too_similar:,} too like the query"
        )
