"""Cross-encoders over whole documents: every passage is scored, winners are named."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tests_support import one_thread  # noqa: F401  a fixture for all that is here
from unabridged.errors import MissingFile, ShapeError, UsageError
from unabridged.rankers.aggregate import aggregate
from unabridged.rankers.contracts import Candidate, Ranker, Request, Status
from unabridged.rankers.cross import CrossRanker, CrossSettings

_SPEC = importlib.util.spec_from_file_location("tiny_models", Path(__file__).parents[1] / "encoders" / "tiny_models.py")
tiny = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tiny)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random BERT of 64 positions with one output."""
    import torch
    from tokenizers import Tokenizer, processors
    from transformers import BertConfig, BertForSequenceClassification

    place = tmp_path_factory.mktemp("cross")
    tiny.bert(place, plain=True)
    tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(place / "tokenizer.json"))
    config = BertConfig.from_pretrained(place)
    config.num_labels = 1
    torch.manual_seed(3)
    BertForSequenceClassification(config).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def ranker(folder):
    return CrossRanker.load(str(folder))


def request_of(*texts: str, query: str = "the cat") -> Request:
    return Request(query, tuple(Candidate(str(place), text) for place, text in enumerate(texts)))


def score_alone(ranker, query: str, text: str) -> float:
    """The model's logit for a pair, by transformers alone."""
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(ranker.label.partition(":")[0]).eval()
    found = ranker.model.tokenizer([[query, text]], return_tensors="pt")
    assert found["input_ids"].shape[1] <= 64
    with torch.inference_mode():
        return float(model(**found).logits[0, 0])


TEXTS = (
    "the cat sat",
    " ".join("acdefmqs"[n * n % 97 % 8] * (n % 5 + 1) for n in range(120)),
    "",
    "mat " * 40 + "the query",
)


def test_every_passage_of_every_document_is_scored_with_what_the_model_says_alone(ranker):
    assert isinstance(ranker, Ranker)
    [ranking] = ranker.rank([request_of(*TEXTS)])
    assert ranking.status is Status.OK
    assert sorted(ranking.order) == [0, 1, 2, 3]
    import torch

    activation = ranker.model.activation_fn
    for place, score in zip(ranking.order, ranking.scores, strict=True):
        exposure, text = ranking.exposures[place], TEXTS[place]
        assert exposure.shown == exposure.total
        assert exposure.spans[0][0] == 0
        assert exposure.spans[-1][1] == len(text)
        assert all(one[1] == other[0] for one, other in zip(exposure.spans, exposure.spans[1:], strict=False))

        alone = [score_alone(ranker, "the cat", text[slice(*span)]) for span in exposure.spans]
        alone = [float(activation(torch.tensor(one))) for one in alone]
        assert score == pytest.approx(max(alone), abs=1e-5)
        assert exposure.best == (exposure.spans[int(np.argmax(alone))],)
    assert len(ranking.exposures[1].spans) > 4
    assert list(ranking.scores) == sorted(ranking.scores, reverse=True)


def test_a_word_at_the_very_end_of_a_long_document_changes_its_score(ranker):
    filler = "long document " * 100
    found = [ranker.rank([request_of(filler + end)])[0].scores for end in ("", "cat", "query")]
    sums = CrossRanker(ranker.model, settings=CrossSettings(aggregate="sum"))
    found = [sums.rank([request_of(filler + end)])[0].scores[0] for end in ("", "cat sat", "query mat")]
    assert len(set(found)) == 3


def test_scores_do_not_depend_on_the_batch(ranker):
    wide = ranker.rank([request_of(*TEXTS)])[0]
    narrow = CrossRanker(ranker.model, settings=CrossSettings(batch_tokens=1)).rank([request_of(*TEXTS)])[0]
    assert narrow.order == wide.order
    assert narrow.scores == pytest.approx(wide.scores, abs=1e-5)


def test_a_query_without_room_for_passages_leaves_the_first_stage_and_says_so(ranker):
    [ranking] = ranker.rank([request_of("a", "b", query="the cat sat on the mat " * 20)])
    assert (ranking.order, ranking.status) == ((0, 1), Status.FAILED)
    assert "no room" in ranking.steps[0].reason
    assert ranker.rank([request_of()])[0].order == ()


def test_settings_change_passages_and_scores(ranker):
    def found(**settings):
        return CrossRanker(ranker.model, settings=CrossSettings(**settings)).rank([request_of(TEXTS[1])])[0]

    plain = found()
    assert len(found(passage_tokens=16).exposures[0].spans) > len(plain.exposures[0].spans)
    assert found(overlap=8).exposures[0].spans != plain.exposures[0].spans
    scores = {found(**settings).scores for settings in ({}, {"aggregate": "first"}, {"aggregate": "sum"},
              {"aggregate": "mean-top"}, {"aggregate": "mean-top", "top": 2})}  # fmt: skip
    assert len(scores) == 5
    for wrong in ({"aggregate": "best"}, {"top": 0}, {"passage_tokens": 3}, {"overlap": -1}, {"batch_tokens": 0}):
        with pytest.raises(UsageError):
            CrossSettings(**wrong)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cross-encoder"):
        CrossRanker.load(str(tmp_path))


def test_passages_are_put_together_by_hand_made_sums():
    scores = np.array([-3.0, -1.0, -2.0, -1.0], dtype=np.float32)
    assert aggregate(scores) == (-1.0, (1,))
    assert aggregate(scores, "first") == (-3.0, (0,))
    assert aggregate(scores, "mean-top", 3) == (pytest.approx(-4 / 3), (1, 3, 2))
    assert aggregate(scores, "mean-top", 9)[0] == pytest.approx(-7 / 4)
    value, places = aggregate(scores, "sum")
    assert value == pytest.approx(sum(1 / (1 + np.exp(-s)) for s in scores))
    assert places == (1, 3, 2, 0)
    more = aggregate(np.append(scores, np.float32(-9)), "sum")[0]
    assert more > value
    for wrong in (np.zeros(0, np.float32), np.array([np.nan], np.float32), np.zeros((1, 1), np.float32)):
        with pytest.raises(ShapeError):
            aggregate(wrong)


class Refusing:
    """The model, on a device that has room for ``most`` pairs and none for passages with the word ``never``."""

    def __init__(self, model, most=10**9, never=None):
        self.model, self.most, self.never, self.sizes = model, most, never, []

    def __getattr__(self, name):
        return getattr(self.model, name)

    def predict(self, pairs, **options):
        import torch

        self.sizes.append(len(pairs))
        if len(pairs) > self.most or any(self.never in passage for _, passage in pairs if self.never):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.model.predict(pairs, **options)


def test_pairs_that_do_not_fit_together_go_in_smaller_batches_with_the_same_scores(ranker):
    [wide] = ranker.rank([request_of(*TEXTS)])
    model = Refusing(ranker.model, most=2)
    narrow = CrossRanker(model)
    [ranking] = narrow.rank([request_of(*TEXTS)])
    assert ranking.order == wide.order
    assert ranking.scores == pytest.approx(wide.scores, abs=1e-5)
    (use,) = narrow.memory_report()
    assert use.halved > 0 == use.alone
    model.sizes.clear()
    narrow.rank([request_of(*TEXTS)])
    assert max(model.sizes) <= 3, "what was learned holds for the next request"


def test_a_passage_that_does_not_fit_even_alone_costs_its_own_document_only_and_is_recorded(ranker):
    [whole] = ranker.rank([request_of(*TEXTS)])
    [ranking] = CrossRanker(Refusing(ranker.model, never="query")).rank([request_of(*TEXTS)])
    kept = [place for place in whole.order if place != 3]
    assert [place for place in ranking.order if place != 3] == kept
    scores = dict(zip(whole.order, whole.scores, strict=True))
    found = dict(zip(ranking.order, ranking.scores, strict=True))
    assert [found[place] for place in kept] == pytest.approx([scores[place] for place in kept], abs=1e-5)
    (step,) = ranking.steps
    assert step.items == (3,)
    assert step.reason.startswith("OutOfMemory: 1 passages")
    assert "kept" in ranking.exposures[3].flags


def test_a_cross_encoder_that_is_not_there_and_a_device_that_is_none_are_told_by_name(tmp_path):
    with pytest.raises(MissingFile, match="There is no cross-encoder at"):
        CrossRanker.load(str(tmp_path / "nope"))
    with pytest.raises(UsageError, match="nonsense"):
        CrossRanker.load(str(tmp_path), device="nonsense")
