"""An encoder as a ranker: the best segment of each candidate, and nothing left unread."""

import threading

import numpy as np
import pytest

from unabridged.encoders.hashing import HashingEncoder
from unabridged.encoders.load import load_encoder
from unabridged.errors import UsageError
from unabridged.rankers.contracts import Candidate, Ranker, Request, Status
from unabridged.rankers.encoded import EncoderRanker

TEXTS = ("the cat sat on the mat", "stocks fell. " * 900 + "Lima is the capital of Peru.", "", "capital letters")


def request_of(*texts, query="capital of Peru"):
    return Request(query, tuple(Candidate(str(place), text) for place, text in enumerate(texts)))


def test_the_score_is_that_of_the_best_segment_and_its_span_is_named():
    encoder = HashingEncoder()
    ranker = EncoderRanker(encoder)
    assert isinstance(ranker, Ranker)
    ranking, empty = ranker.rank([request_of(*TEXTS), request_of()])
    assert (ranking.status, empty.order) == (Status.OK, ())
    query = encoder.encode_queries(["capital of Peru"])[0]
    for place, score in zip(ranking.order, ranking.scores, strict=True):
        alone = encoder.encode_documents([TEXTS[place]])
        values = alone.segments @ query
        assert score == pytest.approx(float(values.max()), abs=1e-6)
        exposure = ranking.exposures[place]
        assert exposure.best == (tuple(int(one) for one in alone.spans[int(np.argmax(values))]),)
        assert exposure.shown == exposure.total == int(alone.coverage.total[0])
        assert exposure.prompts == len(alone.spans)
    assert len(ranking.exposures[1].spans) > 1
    assert "Peru" in TEXTS[1][slice(*ranking.exposures[1].best[0])]


def test_other_sums_change_scores_and_a_cancelled_run_ranks_nothing():
    encoder = HashingEncoder()
    scores = {EncoderRanker(encoder, how=how).rank([request_of(*TEXTS)])[0].scores for how in ("max", "first", "sum")}
    assert len(scores) == 3
    with pytest.raises(UsageError):
        EncoderRanker(encoder, how="best")
    cancel = threading.Event()
    cancel.set()
    [ranking] = EncoderRanker(encoder).rank([request_of(*TEXTS)], cancel=cancel)
    assert (ranking.order, ranking.status) == ((0, 1, 2, 3), Status.FAILED)
    assert ranking.steps[0].action == "stopped"


def test_comments_that_are_left_out_by_choice_are_not_counted_as_cut_off():
    pytest.importorskip("tree_sitter_python")
    code = "# a remark that nobody asked for\nimport os\n\ndef size(path):\n    return os.stat(path).st_size\n"
    every, bare = (
        EncoderRanker(load_encoder("hashing", split="syntax", language="python", comments=read))
        for read in (True, False)
    )
    [whole], [part] = (ranker.rank([request_of(code)])[0].exposures for ranker in (every, bare))
    assert whole.shown == whole.total
    assert 0 < part.shown == part.total < whole.total
