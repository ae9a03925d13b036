"""Lists as tokens: ranks of tokens by their places, a seam that no token crosses, nothing cut in silence."""

import importlib.util
import itertools
import random
from pathlib import Path

import numpy as np
import pytest
from tests_rankers import request_of

from unabridged.errors import Overflow, UsageError
from unabridged.rankers.contracts import Candidate, Request
from unabridged.rankers.listwise.parsing import parse
from unabridged.rankers.listwise.prompts import LETTERED, LISTWISE, YES_NO
from unabridged.training.fullrank.examples import Making, answer_tokens, collate, make_example, token_ranks
from unabridged.training.fullrank.losses import IGNORED

_PLACE = Path(__file__).parents[1] / "rankers" / "lm" / "tiny_language_models.py"
_SPEC = importlib.util.spec_from_file_location("tiny_language_models", _PLACE)
tiny = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tiny)


@pytest.fixture(scope="module", params=["byte level", "sentence piece"])
def local(request, tmp_path_factory):
    from unabridged.rankers.lm.local import LocalModel

    made = {"byte level": tiny.byte_tokenizer, "sentence piece": tiny.sentence_piece_tokenizer}[request.param]
    folder = tmp_path_factory.mktemp("fullrank") / "model"
    return LocalModel.load(tiny.llama(folder, tokenizer=made()), device="cpu")


def ranks_by_loop(text: str, offsets) -> list[int]:
    """The rank of each token: of the first character in it that is part of an id."""
    of_character, rank, at = [], 1, 0
    while at < len(text):
        if text.startswith(" > ", at):
            of_character += [0, 0, 0]
            rank += 1
            at += 3
        else:
            of_character.append(rank)
            at += 1
    return [next((one for one in of_character[start:end] if one), 0) for start, end in offsets]


@pytest.mark.parametrize("seed", range(20))
def test_ranks_of_tokens_are_those_of_a_loop_however_the_text_is_cut(seed):
    rng = random.Random(seed)
    order = rng.sample(range(1, 120), rng.randint(1, 40))
    text = " > ".join(f"[{one}]" for one in order)
    cuts = sorted({0, len(text), *(rng.randrange(len(text)) for _ in range(rng.randint(0, 80)))})
    offsets = np.array(list(itertools.pairwise(cuts)), dtype=np.int64)
    assert token_ranks(text, " > ", offsets).tolist() == ranks_by_loop(text, offsets.tolist())


def test_each_letter_its_own_token_gives_the_weights_of_the_definition():
    text = "[3] > [10]"
    offsets = np.array([[at, at + 1] for at in range(len(text))])
    assert token_ranks(text, " > ", offsets).tolist() == [1, 1, 1, 0, 0, 0, 2, 2, 2, 2]


def test_the_answers_tokens_write_the_order_and_end(local):
    order = random.Random(1).sample(range(100), 100)
    ids, ranks = answer_tokens(local, Making(template=LISTWISE), order)
    assert ids[-1] == local.tokenizer.eos_token_id
    assert ranks[-1] == 0
    text = local.vocabulary.bytes_of(list(ids[:-1])).decode()
    assert parse(text, 100).order == tuple(order)
    assert set(ranks[:-1]) - {0} == set(range(1, 101))
    known = [rank for rank in ranks if rank]
    assert known == sorted(known)
    top, _ = answer_tokens(local, Making(template=LISTWISE, most=10, end=False), order)
    assert parse(local.vocabulary.bytes_of(list(top)).decode(), 100, expected=10).order[:10] == tuple(order[:10])
    letters, ranks = answer_tokens(local, Making(template=LETTERED, end=False), (2, 0, 1))
    assert local.vocabulary.bytes_of(list(letters)) == b"[C] > [A] > [B]"


def test_prompt_and_answer_are_joined_as_numbers(local):
    example = make_example(local, Making(template=LISTWISE), request_of([3, 1, 2]), (0, 2, 1))
    answer, _ = answer_tokens(local, Making(template=LISTWISE), (0, 2, 1))
    assert example.answer == answer
    shown = local.tokenizer.decode(list(example.prompt))
    assert "[2] worth 1" in shown
    assert example.shown == tuple((total, total) for _, total in example.shown)
    assert len(example) == len(example.prompt) + len(answer)


def test_what_does_not_fit_is_shown_by_segments_and_counted(local):
    long = "filler. " * 300 + "Lima is the capital of Peru. " + "filler. " * 300
    request = Request("capital of Peru", (Candidate("a", "short"), Candidate("b", long)), "q")
    example = make_example(local, Making(template=LISTWISE, passage_tokens=60), request, (1, 0))
    assert example.shown[0][0] == example.shown[0][1]
    assert example.shown[1][0] <= 60 < example.shown[1][1]
    assert "capital of Peru. " in local.tokenizer.decode(list(example.prompt))
    tight = make_example(local, Making(template=LISTWISE, passage_tokens=None, context=900), request, (1, 0))
    assert len(tight) <= 900
    many = request_of(range(90), words=20)
    with pytest.raises(Overflow, match="90 candidates"):
        make_example(local, Making(template=LISTWISE, context=900), many, tuple(range(90)))


def test_batches_are_padded_and_prompts_are_not_learned(local):
    examples = [
        make_example(local, Making(template=LISTWISE), request_of(values), tuple(range(len(values))))
        for values in ([1, 2], [5, 6, 7, 8])
    ]
    tokens, mask, targets, ranks = collate(examples, padding=2)
    assert tokens.shape == mask.shape == targets.shape == ranks.shape == (2, len(examples[1]))
    for row, example in enumerate(examples):
        size, start = len(example), len(example.prompt)
        assert tokens[row, :size].tolist() == [*example.prompt, *example.answer]
        assert mask[row].tolist() == [1] * size + [0] * (len(examples[1]) - size)
        assert targets[row, start:size].tolist() == list(example.answer)
        assert set(targets[row, :start].tolist()) == {IGNORED}
        assert set(targets[row, size:].tolist()) <= {IGNORED}
        assert ranks[row, start:size].tolist() == list(example.ranks)


def test_makings_that_cannot_be_meant_are_refused():
    for wrong in ({"template": YES_NO}, {"floor": 0}, {"passage_tokens": 3}, {"most": 0}):
        with pytest.raises(UsageError):
            Making(**({"template": LISTWISE} | wrong))
