"""All texts of a training, each once, as tokens and as text, on disk: memory holds numbers of texts only.

::

    ids.i32        tokens of every text, prompt and special tokens included, one after another
    texts.utf8     the texts, as far as they are read
    rows.npz       where each text begins in both; which texts are pairs
    facts.json     counts, and what the shelf was made from; written last, so that a shelf is whole or absent

A text longer than ``max_tokens`` is cut there, for the teacher too, and counted: nothing is cut without a record.

Letters::

    N texts     P pairs     L texts without a partner
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import JSON, Document, Failure, Rows
from unabridged.encoders._tokens import Ids, Tokenizer
from unabridged.encoders.extension import check_most
from unabridged.encoders.mamba.tokens import Words, tokenise
from unabridged.errors import CorpusError, UsageError
from unabridged.files import disk_errors, sync_file, write_atomic
from unabridged.training.pairs import Pair
from unabridged.training.texts import SHORTEST

QUERY, DOCUMENT = 0, 1
"""Roles: a text that is asked and the same text that is found are two, for they have their own prompts."""
FLUSH_TEXTS = 2048
FLUSH_CHARACTERS = 1 << 21


@dataclass(frozen=True)
class Framing:
    """How a text becomes a sequence: special tokens, prompt, own tokens up to ``max_tokens``, closing tokens."""

    tokenizer: Tokenizer
    frame: tuple[Ids, Ids]
    prompts: tuple[str, str] = ("", "")
    """By role."""
    max_tokens: int = 256
    """Own tokens of a text, at most."""

    def __post_init__(self) -> None:
        check_most(max_tokens=self.max_tokens)
        if self.max_tokens < 1:
            raise UsageError(f"A text holds at least 1 token, got max_tokens={self.max_tokens}.")

    def words(self, texts: Sequence[str], role: int) -> list[Words]:
        """The own tokens of each text, whole."""
        return tokenise(self.tokenizer, texts, self.prompts[role])

    def sequence(self, words: Words, start: int = 0, end: int | None = None) -> Ids:
        """Own tokens from ``start`` to ``end``, framed."""
        before, after = self.frame
        return np.concatenate((before, words.prompt, words.ids[start:end], after))

    def sequences(self, texts: Sequence[str], role: int) -> list[Ids]:
        """Each text as it is trained on, cut where it is too long."""
        return [self.sequence(words, 0, self.max_tokens) for words in self.words(texts, role)]

    @property
    def facts(self) -> dict[str, JSON]:
        """What changes the tokens of a text."""
        return {
            "tokenizer": self.tokenizer.folder.tokenizer_sha256,
            "frame": [part.tolist() for part in self.frame],
            "prompts": list(self.prompts),
            "max_tokens": self.max_tokens,
        }


@dataclass
class Counts:
    """What was read of one kind of text."""

    texts: int = 0
    tokens: int = 0
    """Own tokens that are read."""
    cut: int = 0
    """Texts that were longer than ``max_tokens``."""
    tokens_cut: int = 0
    """Own tokens behind it, which nobody reads."""
    empty: int = 0
    """Texts without any token."""


@dataclass(frozen=True)
class Shelf:
    """N texts in rows; pairs and lone texts are rows of it."""

    folder: Path
    ids: Ids  # (T,) int32, mapped
    offsets: Rows  # (N + 1,) int64
    places: Rows  # (N + 1,) int64, bytes of texts.utf8
    roles: NDArray[np.uint8]  # (N,)
    queries: Rows  # (P,)
    positives: tuple[Rows, Rows]  # values, offsets (P + 1,)
    negatives: tuple[Rows, Rows]
    lone: Rows  # (L,)
    facts: Mapping[str, JSON]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Rows:
        """Tokens of each text, prompt and specials included, ``(N,)``."""
        lengths: Rows = np.diff(self.offsets)
        return lengths

    @property
    def documents(self) -> Rows:
        """Rows of the texts that are found."""
        return np.flatnonzero(self.roles == DOCUMENT)

    @property
    def digest(self) -> str:
        """SHA-256 of tokens and pairs."""
        return str(self.facts["digest"])

    def packed(self, rows: Rows) -> tuple[Rows, Rows]:
        """Tokens ``(T,)`` int64 of ``rows`` one after another, and their offsets."""
        parts = [self.ids[self.offsets[row] : self.offsets[row + 1]] for row in rows.tolist()]
        offsets = np.concatenate(([0], np.cumsum(self.lengths[rows]))).astype(np.int64)
        return np.concatenate(parts).astype(np.int64), offsets

    def texts(self, start: int, end: int) -> list[str]:
        """The texts of rows ``start`` to ``end``."""
        with (self.folder / "texts.utf8").open("rb") as file:
            file.seek(int(self.places[start]))
            block = file.read(int(self.places[end] - self.places[start]))
        ends = (self.places[start : end + 1] - self.places[start]).tolist()
        return [block[a:b].decode("utf-8", "surrogatepass") for a, b in pairwise(ends)]


def open_shelf(folder: Path, key: JSON) -> Shelf | None:
    """The shelf that was made from ``key``; None if there is none, one of something else, or one that is damaged."""
    path = folder / "facts.json"
    if not path.is_file():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["key"] != json.loads(json.dumps(key)):
            return None
        with np.load(folder / "rows.npz") as rows:
            found = {name: rows[name] for name in rows.files}
        ids = np.memmap(folder / "ids.i32", dtype=np.int32, mode="r")
        whole = len(ids) == found["offsets"][-1], (folder / "texts.utf8").stat().st_size == found["places"][-1]
    except (FileNotFoundError, ValueError, LookupError, EOFError, zipfile.BadZipFile):
        return None
    if not all(whole):
        return None
    return Shelf(
        folder, ids, found["offsets"], found["places"], found["roles"], found["queries"],
        (found["positives"], found["positive_offsets"]), (found["negatives"], found["negative_offsets"]),
        found["lone"], facts,
    )  # fmt: skip


def make_shelf(
    folder: Path,
    framing: Framing,
    key: JSON,
    pairs: Iterable[Pair],
    lone: Iterable[Document | Failure] = (),
    seed: int = 0,
) -> Shelf:
    """Reads everything once; ``key`` names what it is made from.

    ``lone`` documents are cut into pieces side by side, from a few tokens to ``max_tokens``, drawn from ``seed``.
    :class:`CorpusError` if there is no text at all, or for a fault of the data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "facts.json").unlink(missing_ok=True)
    with disk_errors(folder), (folder / "ids.i32").open("wb") as ids, (folder / "texts.utf8").open("wb") as texts:
        filling = _Filling(framing, ids, texts, np.random.default_rng([seed, 0]))
        for pair in pairs:
            filling.add(pair)
        filling.flush()
        for document in lone:
            filling.add_lone(document)
        if not filling.rows:
            raise CorpusError("There is no text to train on: the data hold no pair and the corpora no readable text.")
        np.savez(folder / "rows.npz", **filling.arrays())  # type: ignore[arg-type]
    with disk_errors(folder):  # a disk may say only now that it is full
        for name in ("ids.i32", "texts.utf8", "rows.npz"):
            sync_file(folder / name)
    write_atomic(folder / "facts.json", json.dumps({"key": key, **filling.facts()}, indent=1).encode())
    made = open_shelf(folder, key)
    if made is None:
        raise CorpusError(f"{folder} does not hold what was written just now. Is another training writing there?")
    return made


@dataclass
class _Filling:
    """A shelf while it is written."""

    framing: Framing
    ids: IO[bytes]
    texts: IO[bytes]
    chance: np.random.Generator
    rows: int = 0
    known: dict[bytes, int] = field(default_factory=dict)
    waiting: list[tuple[int, str]] = field(default_factory=list)
    waiting_characters: int = 0
    lengths: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    roles: list[int] = field(default_factory=list)
    queries: list[int] = field(default_factory=list)
    positives: list[list[int]] = field(default_factory=list)
    negatives: list[list[int]] = field(default_factory=list)
    lone: list[int] = field(default_factory=list)
    counts: dict[str, Counts] = field(
        default_factory=lambda: {name: Counts() for name in ("queries", "documents", "pieces")}
    )
    unreadable: int = 0
    hashed: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, pair: Pair) -> None:
        self.queries.append(self._row(QUERY, pair.query))
        self.positives.append(list(dict.fromkeys(self._row(DOCUMENT, text) for text in pair.positives)))
        self.negatives.append(list(dict.fromkeys(self._row(DOCUMENT, text) for text in pair.negatives)))
        if len(self.waiting) >= FLUSH_TEXTS or self.waiting_characters >= FLUSH_CHARACTERS:
            self.flush()

    def add_lone(self, document: Document | Failure) -> None:
        if isinstance(document, Failure):
            self.unreadable += 1
            return
        text = document.source
        words = self.framing.words([text], DOCUMENT)[0]
        most = self.framing.max_tokens
        low = min(SHORTEST, most)
        start = 0
        while start < len(words.ids):
            end = start + int(np.exp(self.chance.uniform(np.log(low), np.log(most + 1))))
            end = min(end, len(words.ids))
            piece = text[int(words.places[start, 0]) : int(words.places[end - 1, 1])]
            self.lone.append(self._write(words, DOCUMENT, piece, start, end, self.counts["pieces"]))
            self.rows += 1
            start = end

    def flush(self) -> None:
        found = {
            role: iter(self.framing.words([text for other, text in self.waiting if other == role], role))
            for role in (QUERY, DOCUMENT)
        }
        for role, text in self.waiting:
            words = next(found[role])
            counts = self.counts["queries" if role == QUERY else "documents"]
            most = self.framing.max_tokens
            if len(words.ids) > most:
                counts.cut += 1
                counts.tokens_cut += len(words.ids) - most
            end = min(most, len(words.ids))
            counts.empty += not end
            read = text[: int(words.places[end - 1, 1])] if end < len(words.ids) else text
            self._write(words, role, read, 0, end, counts)
        self.waiting, self.waiting_characters = [], 0

    def _row(self, role: int, text: str) -> int:
        """The row of a text, which is new or known."""
        key = hashlib.blake2b(bytes([role]) + text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        row = self.known.setdefault(key, self.rows)
        if row == self.rows:
            self.rows += 1
            self.waiting.append((role, text))
            self.waiting_characters += len(text)
        return row

    def _write(self, words: Words, role: int, text: str, start: int, end: int, counts: Counts) -> int:
        """Writes the next row and gives its number."""
        sequence = self.framing.sequence(words, start, end).astype(np.int32)
        stored = text.encode("utf-8", "surrogatepass")
        for file, data in ((self.ids, sequence.tobytes()), (self.texts, stored)):
            file.write(data)
            self.hashed.update(data)
        counts.texts += 1
        counts.tokens += end - start
        self.lengths.append(len(sequence))
        self.sizes.append(len(stored))
        self.roles.append(role)
        return len(self.lengths) - 1

    def arrays(self) -> dict[str, NDArray[np.int64] | NDArray[np.uint8]]:
        return {
            "offsets": _ends(self.lengths),
            "places": _ends(self.sizes),
            "roles": np.array(self.roles, dtype=np.uint8),
            "queries": np.array(self.queries, dtype=np.int64),
            "positives": _flat(self.positives),
            "positive_offsets": _ends(list(map(len, self.positives))),
            "negatives": _flat(self.negatives),
            "negative_offsets": _ends(list(map(len, self.negatives))),
            "lone": np.array(self.lone, dtype=np.int64),
        }

    def facts(self) -> dict[str, JSON]:
        for name, array in self.arrays().items():
            self.hashed.update(name.encode() + array.tobytes())
        return {
            "digest": self.hashed.hexdigest(),
            "pairs": len(self.queries),
            "negatives": sum(map(len, self.negatives)),
            "unreadable": self.unreadable,
            "read": {name: vars(counts) for name, counts in self.counts.items()},
        }


def _ends(lengths: list[int]) -> Rows:
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)


def _flat(lists: list[list[int]]) -> Rows:
    return np.array([row for rows in lists for row in rows], dtype=np.int64)


def rows_of(ragged: tuple[Rows, Rows], number: int) -> Rows:
    """List ``number`` of a ragged array."""
    values, offsets = ragged
    return values[offsets[number] : offsets[number + 1]]


def blocks(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most ``size`` that cover ``count``."""
    for start in range(0, count, size):
        yield start, min(count, start + size)
