"""From command-line options to a corpus and an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unabridged.contracts import Corpus, Encoder
from unabridged.corpora import read_corpus
from unabridged.retrievers.api import encoder_for


def load_corpus(sources: Sequence[str], reading: Mapping[str, Any]) -> Corpus:
    """The corpus that the sources name."""
    return read_corpus(*sources, **reading)


def load_for(folder: Path, encoder: str | None, loading: Mapping[str, Any]) -> Encoder:
    """The encoder named on the command line, else that of the index at ``folder``, else the default."""
    return encoder_for(folder, encoder, **loading)
