"""From command-line options to a corpus and an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unabridged.contracts import Corpus, Encoder
from unabridged.corpora import read_corpus
from unabridged.encoders.load import HASHING, load_encoder
from unabridged.retrievers.api import encoder_for
from unabridged.retrievers.result import Mode


def load_corpus(sources: Sequence[str], reading: Mapping[str, Any]) -> Corpus:
    """The corpus that the sources name."""
    return read_corpus(*sources, **reading)


def load_for(folder: Path, encoder: str | None, loading: Mapping[str, Any]) -> Encoder:
    """The encoder named on the command line, else that of the index at ``folder``, else the default."""
    return encoder_for(folder, encoder, **loading)


def load_for_mode(mode: Mode, encoder: str | None, loading: Mapping[str, Any]) -> Encoder:
    """The encoder named.  BM25 needs no vectors: where no model is asked for it gets the encoder without weights."""
    plain = mode is Mode.BM25 and encoder is None and not loading.keys() - {"network", "device"}
    return load_encoder(HASHING) if plain else load_encoder(encoder, **loading)
