"""SuRe: the decision by hand, seven calls in four rounds, and replies that cannot be read."""

import itertools

import pytest

from unabridged.errors import AuthFailed, ModelCancelled, ServerUnavailable
from unabridged.rankers.generate.sure import decide
from unabridged.rankers.generate.sure_prompts import read_candidates, read_place, read_validity
from unabridged.rankers.generate.sure_run import sure


@pytest.mark.parametrize(
    ("valid", "orders", "rank", "votes", "winner"),
    [
        # Both valid or both not: the rank decides.
        ((True, True), (0, 0), (1, 0), (1, 0), 0),
        ((True, True), (1, 1), (0, 1), (0, 1), 1),
        ((False, False), (1, 1), (0, 1), (0, 1), 1),
        # The two orders disagree: halves, and of equals the first.
        ((True, True), (0, 1), (0.5, 0.5), (0.5, 0.5), 0),
        ((False, False), (1, 0), (0.5, 0.5), (0.5, 0.5), 0),
        # Exactly one valid: half of the rank and half of it.
        ((True, False), (0, 0), (1, 0), (1, 0), 0),
        ((False, True), (0, 0), (1, 0), (0.5, 0.5), 0),
        ((True, False), (1, 1), (0, 1), (0.5, 0.5), 0),
        ((False, True), (1, 1), (0, 1), (0, 1), 1),
        ((False, True), (0, 1), (0.5, 0.5), (0.25, 0.75), 1),
        ((True, False), (1, 0), (0.5, 0.5), (0.75, 0.25), 0),
        # Unreadable: half a vote to each in that order, and nobody is the only valid one.
        ((True, True), (None, 1), (0.25, 0.75), (0.25, 0.75), 1),
        ((True, True), (None, None), (0.5, 0.5), (0.5, 0.5), 0),
        ((None, True), (0, 0), (1, 0), (1, 0), 0),
        ((None, True), (0, 1), (0.5, 0.5), (0.5, 0.5), 0),
    ],
)
def test_the_decision_is_that_of_the_table(valid, orders, rank, votes, winner):
    found = decide(valid, orders)
    assert (found.rank, found.votes, found.winner) == (rank, votes, winner)
    assert (found.valid, found.orders) == (valid, orders)


def test_swapping_the_candidates_swaps_every_decision_but_ties():
    for valid in itertools.product((True, False, None), repeat=2):
        for orders in itertools.product((0, 1, None), repeat=2):
            one = decide(valid, orders)
            turned = decide(valid[::-1], [None if place is None else 1 - place for place in orders])
            assert turned.votes == one.votes[::-1]
            assert sum(one.votes) == 1
            if one.votes[0] != one.votes[1]:
                assert turned.winner == 1 - one.winner
            else:
                assert turned.winner == one.winner == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(a) Sioux Indians (b) Ricaree tribe", ["Sioux Indians", "Ricaree tribe"]),
        ("(a) 5,000\n(b) 1889.", ["5,000", "1889"]),
        ("Sure! (A): the Senate, (B): the House", ["the Senate", "the House"]),
        ("(a) one and (b) two\nmore words", ["one", "two"]),
        ("(b) two only", ["two only"]),
        ("Paris.\nBecause it is.", ["Paris"]),
        ("  \n ", []),
    ],
)
def test_candidates_are_read(text, expected):
    assert read_candidates(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("True", True), ("false.", False), ("It is True", True), ("True or False", None), ("", None)]
)
def test_verdicts_are_read(text, expected):
    assert read_validity(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Passage 1", 0), ("**passage 2** is better", 1), ("2", 1), ("Passage 1 over Passage 2", None), ("neither", None)],
)
def test_places_are_read(text, expected):
    assert read_place(text) == expected


def script(pair=("Passage 2", "Passage 1"), valid=("True", "True"), candidates="(a) Sioux (b) Ricaree"):
    return [candidates, "The first is right. (end)", "The second is right.", *valid, *pair]


def test_seven_calls_in_four_rounds(writing):
    model = writing.Scripted(*script())
    found = sure("who attacked?", "[1] text", model)
    assert model.batches == [1, 2, 2, 2]
    assert found.spent.calls == 7
    assert found.candidates == ("Sioux", "Ricaree")
    # "Passage 2" with the first shown first, "Passage 1" with the second shown first: both mean the second.
    assert found.decision.orders == (1, 1)
    assert (found.winner, found.notes) == (1, ())


def test_the_steps_ask_what_the_paper_asks(writing):
    model = writing.Scripted(*script())
    sure("who attacked?", "[1] the passages", model)
    asked = [prompt[-1].content for prompt in model.prompts]
    assert all("the passages" in text for text in asked[:3])
    assert all("[1] the passages" not in text for text in asked[3:])
    assert all("who attacked?" in text for text in asked)
    assert [("(a) Sioux" in text, "(b) Ricaree" in text) for text in asked[1:3]] == [(True, True)] * 2
    assert "Predicted answer: (a) Sioux" in asked[1]
    assert "Predicted answer: (b) Ricaree" in asked[2]
    assert "Predicted answer: Sioux" in asked[3]
    assert "The first is right." in asked[3]
    assert asked[5].index("The first is right.") < asked[5].index("The second is right.")
    assert asked[6].index("The first is right.") > asked[6].index("The second is right.")


def test_replies_that_cannot_be_read_are_noted_and_vote_for_both(writing):
    model = writing.Scripted(*script(pair=("the first", "Passage 1"), valid=("perhaps", "False")))
    found = sure("q", "c", model)
    assert found.decision.valid == (None, False)
    assert found.decision.orders == (None, 1)
    assert found.decision.votes == (0.25, 0.75)
    assert [note.split(":")[0] for note in found.notes] == ["validity", "pairwise"]


def test_one_candidate_is_the_answer_and_nothing_more_is_asked(writing):
    for text in ("Paris", "(a) Paris (b) Paris"):
        model = writing.Scripted(text)
        found = sure("q", "c", model)
        assert (found.candidates, found.winner, found.decision, model.batches) == (("Paris",), 0, None, [1])
        assert len(found.notes) == 1


def test_calls_that_fail_vote_for_both_and_the_first_one_is_raised(writing):
    down = ServerUnavailable("down")
    model = writing.Scripted("(a) x (b) y", "s", down, "True", down, "Passage 1", "Passage 1")
    found = sure("q", "c", model)
    assert found.decision.valid == (True, None)
    assert (found.spent.calls, found.spent.failed) == (7, 2)
    assert sum("down" in note for note in found.notes) == 2
    with pytest.raises(ServerUnavailable):
        sure("q", "c", writing.Scripted(down))


def test_what_the_caller_takes_back_is_not_decided(writing):
    with pytest.raises(ModelCancelled):
        sure("q", "c", writing.Scripted("(a) x (b) y", "s", ModelCancelled("back")))


def test_refused_keys_are_raised(writing):
    class Refused(writing.Scripted):
        def complete(self, prompts, sampling, **more):
            raise AuthFailed("no")

    with pytest.raises(AuthFailed):
        sure("q", "c", Refused())


def test_models_that_can_be_bound_have_only_the_two_words(writing):
    model = writing.Scripted(*script(), constrained=True)
    sure("q", "c", model)
    assert [one and one.labels for one in model.constraints] == [
        None, None, ("True", "False"), ("Passage 1", "Passage 2"),
    ]  # fmt: skip


def test_a_model_with_local_weights_votes_readably(tiny_model):
    found = sure("who?", "[1] someone did", tiny_model)
    if found.decision is not None:
        assert None not in (*found.decision.valid, *found.decision.orders)
    again = sure("who?", "[1] someone did", tiny_model)
    assert again.as_json() == found.as_json()


def test_what_the_model_wrote_is_made_inert_before_it_is_shown_again(writing):
    from unabridged.rankers.generate.sure_run import sure

    replies = ["(a) Anna <|im_end|> (b) Boris <X>", "one <|im_start|> [7]", "two", "True", "False"]
    model = writing.Scripted(*replies, "Passage 1", "Passage 2")
    record = sure("who?", "passages", model, controls=("<X>",))
    assert record.candidates == ("Anna <|im_end|>", "Boris <X>")
    told = [message.content for prompt in model.prompts[1:] for message in prompt]
    assert any("\u2039|im_end|\u203a" in text for text in told)
    assert not any(one in text for text in told for one in ("<|im_end|>", "<|im_start|>", "[7]", "<X>"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Sioux Indians (b) Ricaree", "Sioux Indians"),
        (" [2] 5,000.\n\nThe answer is (b).", "5,000"),
        ("\n\n 1889", "1889"),
        (' "the Senate" ', "the Senate"),
        ("(b) only", ""),
        (" \n ", ""),
    ],
)
def test_a_candidate_behind_a_given_label_is_read(text, expected):
    from unabridged.rankers.generate.sure_prompts import read_candidate

    assert read_candidate(text) == expected


def test_a_model_that_goes_on_with_an_answer_is_given_the_labels(writing):
    model = writing.Scripted(" [1] Sioux <|im_end|>", " Ricaree (c) x", "s one", "s two", "True", "False", "Passage 1",
                             "Passage 2", prefix=True)  # fmt: skip
    found = sure("who?", "[1] text", model)
    assert found.candidates == ("Sioux <|im_end|>", "Ricaree")
    assert [prompt[-1].content for prompt in model.prompts[:2]] == ["(a)", "(a) Sioux \u2039|im_end|\u203a (b)"]
    assert (model.batches, found.spent.calls, found.notes) == ([1, 1, 2, 2, 2], 8, ())
    assert found.decision.winner == 0


@pytest.mark.parametrize("second", ["Sioux", " \n", "(b)"])
def test_a_second_candidate_that_is_none_leaves_the_first(writing, second):
    model = writing.Scripted("Sioux", second, prefix=True)
    found = sure("who?", "[1] text", model)
    assert (found.candidates, found.decision, len(found.notes)) == (("Sioux",), None, 1)
