"""The ``plan`` command's options."""

from __future__ import annotations

from typing import Annotated

import typer

from unabridged.apps import options as o
from unabridged.apps.output import Output, exit_codes
from unabridged.errors import UsageError

SCALE = "Without a corpus"


def plan(  # noqa: PLR0913 - one parameter per option
    sources: Annotated[
        list[str] | None, typer.Argument(help="Files, globs, folders, a BEIR folder, or -; with --documents a sample.")
    ] = None,
    encoder: o.EncoderOption = None,
    overflow: o.OverflowOption = None,
    level: o.LevelOption = None,
    recipe: o.RecipeOption = None,
    max_tokens: o.MaxTokens = None,
    overlap: o.Overlap = 0,
    late_tokens: o.LateTokens = None,
    late_overlap: o.LateOverlap = None,
    pooling: o.Pooling = None,
    landmark_tokens: o.LandmarkTokens = None,
    split: o.SplitOption = None,
    language: o.LanguageOption = None,
    header: o.Header = False,
    comments: o.Comments = None,
    docstrings: o.Docstrings = None,
    extend: o.Extend = None,
    target_tokens: o.TargetTokens = None,
    original_tokens: o.OriginalTokens = None,
    temperature: o.Temperature = None,
    logn: o.LogNOption = None,
    extend_option: o.ExtendOption = None,
    device: o.Device = None,
    precision: o.Precision = None,
    network: o.Network = False,
    format: o.Format = None,  # noqa: A002 - the name of the option
    id_field: o.IdField = None,
    text_field: o.TextField = None,
    title_field: o.TitleField = None,
    max_file_mb: o.MaxFileMb = None,
    skip_generated: o.SkipGenerated = False,
    calibrate: Annotated[
        bool | None,
        typer.Option(
            "--calibrate/--no-calibrate", help="Try the encoder on parts of the corpus for some seconds [yes]."
        ),
    ] = None,
    documents: Annotated[
        float | None, typer.Option("--documents", help="Plan so many documents, such as 3e9.", rich_help_panel=SCALE)
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option("--backend", help="local, shards, gpu, milvus or pgvector [local].", rich_help_panel=SCALE),
    ] = None,
    tokens_per_document: Annotated[
        float | None,
        typer.Option("--tokens-per-document", help="On average [1000, or the sample's].", rich_help_panel=SCALE),
    ] = None,
    dim: Annotated[
        int | None, typer.Option("--dim", help="Width of vectors [the encoder's].", rich_help_panel=SCALE)
    ] = None,
    recall_target: Annotated[
        float | None, typer.Option("--recall-target", help="Recall at 10 to reach [0.95].", rich_help_panel=SCALE)
    ] = None,
    k: Annotated[int | None, typer.Option("-k", help="Hits per query [10].", rich_help_panel=SCALE)] = None,
    machines: Annotated[
        int | None, typer.Option("--machines", help="That hold the index [as many as it takes].", rich_help_panel=SCALE)
    ] = None,
    encoding_machines: Annotated[
        int | None, typer.Option("--encoding-machines", help="That encode [the same].", rich_help_panel=SCALE)
    ] = None,
    ram: Annotated[
        float | None, typer.Option("--ram", help="GiB of memory of a machine [64].", rich_help_panel=SCALE)
    ] = None,
    disk: Annotated[
        float | None, typer.Option("--disk", help="GiB of disk of a machine [2000].", rich_help_panel=SCALE)
    ] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", help="In each machine [0].", rich_help_panel=SCALE)] = None,
    gpu_memory: Annotated[
        float | None, typer.Option("--gpu-memory", help="GiB of memory of a GPU [80].", rich_help_panel=SCALE)
    ] = None,
    cpu_tokens_per_second: Annotated[
        float | None,
        typer.Option("--cpu-tokens-per-second", help="Of a machine [recorded].", rich_help_panel=SCALE),
    ] = None,
    gpu_tokens_per_second: Annotated[
        float | None,
        typer.Option("--gpu-tokens-per-second", help="Of a GPU; no time without it.", rich_help_panel=SCALE),
    ] = None,
    load_rows_per_second: Annotated[
        float | None,
        typer.Option("--load-rows-per-second", help="Vectors into an engine, indexed.", rich_help_panel=SCALE),
    ] = None,
    price_per_hour: Annotated[
        float | None, typer.Option("--price-per-hour", help="Of a machine; no costs without it.", rich_help_panel=SCALE)
    ] = None,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Count documents and tokens, try the encoder on a sample, and estimate time, memory and disk.

    With --documents: vectors, machines, hours and costs of a corpus that is not at hand, with every sum shown.
    """
    with exit_codes(output):
        from unabridged.apps.planning import run_plan
        from unabridged.apps.scaling import run_scale

        reading = o.given(
            format=format,
            id_field=id_field,
            text_field=text_field,
            title_field=title_field,
            max_file_mb=max_file_mb,
            skip_generated=skip_generated or None,
        )
        loading = o.given(
            max_tokens=max_tokens,
            overlap=overlap or None,
            late_tokens=late_tokens,
            late_overlap=late_overlap,
            pooling=pooling,
            landmark_tokens=landmark_tokens,
            split=split,
            language=language,
            header=header or None,
            comments=comments,
            docstrings=docstrings,
            device=device,
            precision=precision,
            network=network or None,
            extension=o.extension(extend, target_tokens, original_tokens, temperature, logn, extend_option),
        )
        building = o.given(overflow=overflow, level=level, recipe=recipe)
        asked = o.given(
            backend=backend,
            tokens_per_document=tokens_per_document,
            dim=dim,
            recall_target=recall_target,
            k=k,
            machines=machines,
            encoding_machines=encoding_machines,
            ram=ram,
            disk=disk,
            gpus=gpus,
            vram=gpu_memory,
            cpu_tokens_per_second=cpu_tokens_per_second,
            gpu_tokens_per_second=gpu_tokens_per_second,
            load_rows_per_second=load_rows_per_second,
            price_per_hour=price_per_hour,
        )
        if documents is not None:
            asked["documents"] = documents
            run_scale(sources or [], reading, encoder, loading, building, asked, output, calibrate)
            return
        if asked:
            names = ", ".join("--gpu-memory" if name == "vram" else f"--{name.replace('_', '-')}" for name in asked)
            raise UsageError(
                f"{names} plan a corpus that is not at hand: give --documents too, such as --documents 3e9."
            )
        if not sources:
            raise UsageError("Name what to plan: files or folders, or --documents for a corpus that is not at hand.")
        run_plan(sources, reading, encoder, loading, building, output, calibrate)
