"""The ``info`` command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from unabridged.apps.output import Output, emit, one_line, say
from unabridged.manifest import NAME
from unabridged.retrievers.failures import read_failures
from unabridged.retrievers.opened import Index
from unabridged.retrievers.state import IndexState


def run_info(folder: Path, ledger: bool, verify: bool, output: Output, index_device: str | None = None) -> None:
    """Prints what the manifest says; with ``verify`` after checking every byte.

    With ``index_device`` the vectors are put where it says, and that place is shown.
    """
    index = Index(folder, verify=verify or None, device=index_device or "cpu")
    places = {} if index_device is None else index.placements
    state = index.state
    size = sum(int(facts["bytes"]) for facts in state.files().values()) + (folder / NAME).stat().st_size
    body = {
        **state.summary(),
        "folder": str(folder),
        "bytes": size,
        "shards": len(state.shard_entries),
        "encoder": {
            "source": state.passport.source,
            "dim": state.passport.dim,
            "fingerprint": state.passport.fingerprint,
        },
        "settings": state.settings.as_json(),
        "versions": dict(state.versions),
        "generation": state.generation,
        "manifest": load_checksum(folder),
        "failed": len(read_failures(folder)),
        "verified": verify,
        **({"placements": {name: place.as_json() for name, place in places.items()}} if places else {}),
    }
    if output is Output.JSON:
        lines = [{**asdict(line), "status": line.status} for line in index.ledger()] if ledger else []
        emit({**body, "ledger": lines} if ledger else body)
        return
    held = f"{body['documents']:,} documents, {body['segments']:,} segments, {body['vectors']:,} vectors"
    say(f"{held}, {size / 1e6:,.1f} MB")
    read = f"{body['tokens_seen']:,} of {body['tokens_total']:,} tokens read"
    say(f"ledger: {read}, {body['truncated']:,} documents cut short, {body['empty']:,} empty")
    if "tokens_left_out" in body:
        say(f"left out as asked: {body['tokens_left_out']:,} tokens of {body['left_out']:,} documents")
    say(f"encoder: {state.passport.source} ({state.passport.dim} dimensions, {state.passport.fingerprint[:16]})")
    say(f"index: {body['index']['recipe']}, recall@10 {body['index']['recall_at_10']}; failed items: {body['failed']}")
    for name, facts in built(state):
        say(f"{name} built on {facts}")
    for name, place in places.items():
        say(f"{name} searched on {place}")
    if verify:
        say("every byte agrees with the manifest")
    if ledger:
        noted = any(shard.noted for shard in index.shards)
        left_out = any(shard.left_out is not None for shard in index.shards)
        head = "document\ttokens_total\ttokens_seen\tsegments\tpolicy\tstatus"
        say(head + "\tsplit" * noted + "\ttokens_left_out" * left_out)
        for line in index.ledger():
            counts = f"{line.tokens_total}\t{line.tokens_seen}\t{line.segments}"
            split = f"\t{line.split}" if noted else ""
            left = f"\t{line.tokens_left_out}" if left_out else ""
            say(f"{one_line(line.doc_id)}\t{counts}\t{line.policy}\t{line.status}{split}{left}")


def built(state: IndexState) -> Iterator[tuple[str, str]]:
    """Vector sets with an index that a GPU helped to build, or was asked to, and what it did."""
    for name, base in state.dense.items():
        facts = base["facts"]
        if "built_on" in facts:
            reason = f" ({facts['built_on_reason']})" if "built_on_reason" in facts else ""
            yield name, f"{facts['built_on']}{reason}"


def load_checksum(folder: Path) -> str:
    """The checksum of a manifest that opening the index has found to be sound."""
    return str(json.loads((folder / NAME).read_bytes())["checksum"])
