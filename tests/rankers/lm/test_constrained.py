"""Answers under a constraint: whatever the logits say, the answer is a permutation or one of the labels."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unabridged.errors import UsageError
from unabridged.rankers.lm.constrained import ConstrainedAnswer, TokenGrammar
from unabridged.rankers.lm.contracts import Choice, Permutation, Sampling
from unabridged.rankers.lm.grammar import Grammar
from unabridged.rankers.lm.vocabulary import Vocabulary

NAMES = ["byte level", "sentence piece"]
SHAPES = {
    "brackets": lambda n: tuple(f"[{i + 1}]" for i in range(n)),
    "numbers": lambda n: tuple(str(i + 1) for i in range(n)),
    "letters": lambda n: tuple(chr(0x41 + i % 26) + "'" * (i // 26) for i in range(n)),
    "words": lambda n: tuple(f"PASSAGE{i + 1}" for i in range(n)),
    "other scripts": lambda n: tuple(chr(0x4E00 + i) for i in range(n)),
}


@pytest.fixture(scope="module")
def vocabularies(tokenizers_by_name):
    return {name: Vocabulary(tokenizer) for name, tokenizer in tokenizers_by_name.items()}


def written(grammar, vocabulary, seed, *, temperature=0.0, favour=None):
    """The answer that a model of random logits gives; ``favour`` is a token it always likes best."""
    rng = np.random.default_rng(seed)
    answer = ConstrainedAnswer(grammar, Sampling(max_tokens=1, temperature=temperature, seed=seed), frozenset({1}))
    size = len(vocabulary.tokenizer)
    while True:
        logits = rng.standard_normal(size).astype(np.float32) * 10
        if favour is not None:
            logits[favour] = 1e4
        if not answer.take(logits):
            return answer


def is_permutation(text, labels, separator, expected):
    """By a reading of the text that knows no grammar: every way to take labels off its front."""

    def read(rest, left, count):
        if count == expected:
            return rest == ""
        return any(
            rest.startswith(label)
            and (
                read(rest[len(label) + len(separator) :], left - {label}, count + 1)
                if count + 1 < expected and rest[len(label) :].startswith(separator)
                else count + 1 == expected and rest == label
            )
            for label in left
        )

    return read(text, frozenset(labels), 0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 9, 10, 20, 100])
def test_random_logits_give_a_permutation(vocabularies, name, shape, count):
    labels = SHAPES[shape](count)
    grammar = TokenGrammar(Permutation(labels=labels), vocabularies[name])
    for seed in range(1 if count == 100 else 3):
        answer = written(grammar, vocabularies[name], seed)
        assert sorted(answer.text.split(" > ")) == sorted(labels)
        assert answer.finish == "stop"


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(NAMES),
    labels=st.lists(st.text("12a] ", min_size=1, max_size=4), min_size=1, max_size=6, unique=True),
    separator=st.text("12a> ", min_size=1, max_size=3),
    share=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
    temperature=st.sampled_from([0.0, 0.7, 50.0]),
)
def test_any_labels_and_separator_give_an_answer_that_can_be_taken_apart(
    vocabularies, name, labels, separator, share, seed, temperature
):
    most = min(share, len(labels))
    grammar = TokenGrammar(Permutation(labels=tuple(labels), separator=separator, most=most), vocabularies[name])
    answer = written(grammar, vocabularies[name], seed, temperature=temperature)
    assert is_permutation(answer.text, labels, separator, most)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_wants_to_end_at_once_still_gives_all_labels(vocabularies, name):
    labels = SHAPES["numbers"](30)
    answer = written(TokenGrammar(Permutation(labels=labels), vocabularies[name]), vocabularies[name], 0, favour=1)
    assert sorted(answer.text.split(" > ")) == sorted(labels)


@pytest.mark.parametrize("name", NAMES)
def test_a_label_that_begins_another_can_end_or_go_on_as_the_model_likes(vocabularies, name):
    vocabulary = vocabularies[name]
    grammar = TokenGrammar(Choice(labels=("1", "12", "123")), vocabulary)
    found = {written(grammar, vocabulary, seed).text for seed in range(40)}
    assert found == {"1", "12", "123"}
    assert written(grammar, vocabulary, 0, favour=1).text in {"1", "12"}


@pytest.mark.parametrize("name", NAMES)
def test_top_m_gives_m_different_labels(vocabularies, name):
    labels = SHAPES["brackets"](20)
    answer = written(TokenGrammar(Permutation(labels=labels, most=3), vocabularies[name]), vocabularies[name], 3)
    chosen = answer.text.split(" > ")
    assert len(chosen) == 3 == len(set(chosen))
    assert set(chosen) <= set(labels)


@pytest.mark.parametrize("name", NAMES)
def test_tokens_over_the_seam_of_label_and_separator_may_be_chosen(vocabularies, name):
    vocabulary = vocabularies[name]
    seam = vocabulary.pieces.index(b"1] > [".replace(b"1", b"", 1))
    grammar = TokenGrammar(Permutation(labels=("[1]", "[2]", "[1x]")), vocabulary)
    states = grammar.grammar.read(grammar.grammar.start, b"[1")
    assert seam in grammar.allowed(states)


@pytest.mark.parametrize("name", NAMES)
def test_allowed_tokens_are_those_that_keep_some_answer_possible(vocabularies, name):
    """Against all answers written out: a token is allowed iff the text with it begins one of them."""
    from itertools import permutations

    vocabulary = vocabularies[name]
    labels = ("1", "12", "[1]", "2")
    grammar = TokenGrammar(Permutation(labels=labels, most=3), vocabulary)
    answers = [" > ".join(chosen).encode() for chosen in permutations(labels, 3)]
    begun = {answer[:size] for answer in answers for size in range(len(answer) + 1)}
    for text in sorted(begun)[::3]:
        states = grammar.grammar.read(grammar.grammar.start, text)
        expected = {
            token
            for token, piece in enumerate(vocabulary.pieces)
            if piece and (text + piece in begun or (not text and piece[:1] == b" " and piece[1:] in begun))
        }
        assert set(grammar.allowed(states)) == expected, text
        assert grammar.grammar.accepts(states) == (text in answers)


def test_what_leaves_no_choice_is_written_without_asking_the_model(vocabularies):
    grammar = TokenGrammar(Permutation(labels=("[3]", "[4]", "[5]")), vocabularies["byte level"])
    answer = ConstrainedAnswer(grammar, Sampling(max_tokens=1), frozenset({1}))
    asked = 0
    new = [0]
    while new:
        new = answer.take(np.zeros(len(vocabularies["byte level"].tokenizer), dtype=np.float32))
        asked += 1
    # A space or the first bracket; then a digit, and another: the third follows from the two.
    assert asked <= 1 + 2 * 3
    assert len(answer.tokens) > asked


def test_the_higher_logit_of_two_labels_decides(vocabularies):
    vocabulary = vocabularies["byte level"]
    grammar = TokenGrammar(Choice(labels=("A", "B")), vocabulary)
    for label in ("A", "B"):
        logits = np.zeros(len(vocabulary.tokenizer), dtype=np.float32)
        logits[vocabulary.encode(label)[0]] = 1.0
        logits[5] = 99.0  # not allowed, whatever it says
        answer = ConstrainedAnswer(grammar, Sampling(max_tokens=1), frozenset({1}))
        assert answer.take(logits) == []
        assert answer.text == label


def test_a_label_the_tokenizer_cannot_write_is_refused_by_name():
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    small = Tokenizer(models.BPE({letter: i for i, letter in enumerate("ab> ")}, []))
    small.decoder = decoders.Fuse()
    vocabulary = Vocabulary(PreTrainedTokenizerFast(tokenizer_object=small))
    with pytest.raises(UsageError, match="é"):
        TokenGrammar(Choice(labels=("a", "é")), vocabulary)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["[1]", "12", " > ", "the end", "é漢🙂", "\n", "a b  c"])
def test_a_continuation_is_the_tokens_that_write_it_inside_a_text(vocabularies, name, text):
    vocabulary = vocabularies[name]
    ids = vocabulary.encode(text)
    assert vocabulary.bytes_of(ids) == text.encode()
    lead = vocabulary.tokenizer.encode("x", add_special_tokens=False)
    assert vocabulary.tokenizer.decode(lead + ids) == "x" + text


@pytest.mark.parametrize("name", NAMES)
def test_pieces_are_what_decoding_shows_for_every_token(vocabularies, name):
    vocabulary = vocabularies[name]
    lead = vocabulary.tokenizer.encode("x", add_special_tokens=False)
    for token, piece in enumerate(vocabulary.pieces):
        shown = vocabulary.tokenizer.decode([*lead, token], skip_special_tokens=True)[1:]
        if "\N{REPLACEMENT CHARACTER}" not in shown:
            assert shown == (piece or b"").decode(), token


def test_constraints_that_mean_nothing_are_refused():
    for wrong in ((), ("a", "a"), ("a", "")):
        with pytest.raises(UsageError):
            Choice(labels=wrong)
    for options in ({"most": 0}, {"most": 3}, {"separator": ""}):
        with pytest.raises(UsageError):
            Permutation(labels=("a", "b"), **options)


def test_the_longest_answer_is_as_long_as_the_grammar_says():
    grammar = Grammar(Permutation(labels=("a", "bcd", "ef"), separator="--", most=2))
    assert grammar.longest == len(" bcd--ef")
