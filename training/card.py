"""The model card of a trained folder: what it was made from, by which command, and how good it is."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unabridged.contracts import JSON
from unabridged.versions import installed

PACKAGES = ("unabridged", "torch", "numpy", "tokenizers", "numba")
"""Whose versions a reader needs to make the model again."""


@dataclass(frozen=True, slots=True)
class Card:
    """Everything that is said; every number comes from the run."""

    title: str
    licence: str
    command: str
    model: Mapping[str, JSON]
    objective: Mapping[str, JSON]
    schedule: Mapping[str, JSON]
    data: Sequence[Mapping[str, JSON]]
    """Sources: name, SHA-256 of each file."""
    read: Mapping[str, JSON]
    """Counts of texts and tokens, and of what was cut."""
    report: Mapping[str, JSON]
    evaluations: Sequence[tuple[int, float]]
    held_out: Mapping[str, JSON] | None
    teacher: Mapping[str, JSON] | None
    tags: str = "mamba, retrieval, sentence-similarity"
    about: str = "A bi-encoder for retrieval, read in one pass."
    measure: str = "nDCG@10"
    """Of the evaluations."""
    more: Sequence[str] = ()
    """Lines behind the evaluations."""

    def markdown(self) -> str:
        """README.md, with the header that model hubs read."""
        head = ["---", f"license: {self.licence}" if self.licence else "license: unknown", "library_name: unabridged"]
        head += [f"tags: [{self.tags}]", "---", ""]
        body = [f"# {self.title}", "", self.about, ""]
        body += [
            "```python",
            "from unabridged.encoders.load import load_encoder",
            "",
            'encoder = load_encoder("FOLDER")',
        ]
        body += ["```", "", "## Model", "", *_table(self.model), "", "## Training", ""]
        body += ["```", self.command, "```", "", *_table({**self.objective, **self.schedule}), ""]
        if self.teacher is not None:
            body += ["Teacher:", "", *_table(self.teacher), ""]
        body += ["## Data", "", *_data(self.data), "", *_read(self.read), "", "## Result", "", *_table(self.report), ""]
        if self.held_out is not None:
            body += [_held_out(self.held_out), "", f"| step | {self.measure} |", "|---:|---:|"]
            body += [f"| {step:,} | {value:.4f} |" for step, value in self.evaluations]
            body += [""]
        body += [*self.more, "## Made with", "", *_table(versions()), ""]
        return "\n".join((*head, *body))


def versions() -> dict[str, JSON]:
    """Python, and the packages whose versions matter; what is not installed is not named."""
    return {"python": platform.python_version(), "machine": platform.machine(), **installed(PACKAGES)}


def _table(values: Mapping[str, JSON]) -> list[str]:
    rows = [f"| {name} | {_shown(value)} |" for name, value in values.items()]
    return ["| | |", "|---|---|", *rows]


def _shown(value: JSON) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in value.items())
    return str(value).replace("|", "\\|")


def _data(data: Sequence[Mapping[str, JSON]]) -> list[str]:
    rows = ["| source | file | SHA-256 |", "|---|---|---|"]
    for source in data:
        named = str(source["name"]) + "".join(f", {source[key]}" for key in ("split", "dataset") if key in source)
        rows += [f"| {named} | {file} | `{sha}` |" for file, sha in source["files"].items()]
    return rows


def _read(read: Mapping[str, JSON]) -> list[str]:
    rows = ["| texts | number | tokens read | longer than was read | tokens cut | empty |", "|---|--:|--:|--:|--:|--:|"]
    for name, counts in read["read"].items():
        numbers = (counts[key] for key in ("texts", "tokens", "cut", "tokens_cut", "empty"))
        rows.append(f"| {name} | " + " | ".join(f"{number:,}" for number in numbers) + " |")
    return [*rows, "", f"{read['pairs']:,} pairs, {read['negatives']:,} given wrong answers, "
            f"{read['unreadable']:,} documents that could not be read."]  # fmt: skip


_CUT = {"cut": "documents", "queries_cut": "queries"}


def _held_out(facts: Mapping[str, JSON]) -> str:
    text = f"Held out: {facts['name']}, {facts['queries']:,} queries, {facts['documents']:,} documents"
    if cut := [f"{facts[key]:,} {kind}" for key, kind in _CUT.items() if facts.get(key)]:
        return f"{text}; longer than was read: {', '.join(cut)}."
    return f"{text}."
