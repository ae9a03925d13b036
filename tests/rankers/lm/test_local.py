"""Local models against transformers' own generation and forward passes, on tiny random weights."""

import threading

import numpy as np
import pytest

from unabridged.errors import BadRequest, ContextOverflow, MissingFile, ModelCancelled, RuntimeFailure, UsageError
from unabridged.rankers.lm.chat import ChatFormat
from unabridged.rankers.lm.contracts import (
    Choice,
    LanguageModel,
    Likelihood,
    Message,
    Permutation,
    Sampling,
)
from unabridged.rankers.lm.local import LocalModel

LABELS = tuple(f"[{i + 1}]" for i in range(12))


def ask(text, *, system=None):
    lead = [Message("system", system)] if system else []
    return [*lead, Message("user", text)]


def fresh(model, **options):
    """The same weights with nothing held from earlier prompts."""
    return LocalModel(model.model, model.tokenizer, name="fresh", folder=model._folder, **options)


def reference(model, prompt, **options):
    """Text by transformers' generate, the oracle of greedy decoding."""
    import torch

    ids = torch.tensor([model.ids(prompt)])
    with torch.inference_mode():
        out = model.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=2, **options)
    return out[0, ids.shape[1] :].tolist()


def naive_log_probability(model, prompt, text):
    import torch

    ids = model.ids(prompt)
    more = model.vocabulary.encode(text)
    with torch.inference_mode():
        logits = model.model(torch.tensor([ids + more])).logits[0].double()
    values = torch.log_softmax(logits, dim=-1)
    return sum(float(values[len(ids) - 1 + i, token]) for i, token in enumerate(more))


def test_it_is_a_language_model_with_likelihoods(tiny_model):
    assert isinstance(tiny_model, LanguageModel)
    assert isinstance(tiny_model, Likelihood)


@pytest.mark.parametrize("text", ["the cat", "a", "é漢🙂 " * 20, "x " * 300])
def test_greedy_answers_are_those_of_transformers(tiny_model, text):
    prompt = ask(text)
    (answer,) = tiny_model.complete([prompt], Sampling(max_tokens=24))
    expected = reference(tiny_model, prompt, max_new_tokens=24)
    assert answer.usage.completion == len(expected)
    assert answer.text == tiny_model.tokenizer.decode(expected, skip_special_tokens=True)
    assert answer.finish == ("stop" if expected[-1] == 1 else "length")
    assert answer.usage.prompt == tiny_model.count_tokens(prompt)


def test_what_prompts_share_is_computed_once_and_changes_no_answer(tiny_model):
    prompts = [ask("instruction " * 30 + tail) for tail in ("one", "two", "one", "three and more")]
    model = fresh(tiny_model)
    together = model.complete(prompts, Sampling(max_tokens=12))
    alone = [fresh(tiny_model).complete([prompt], Sampling(max_tokens=12))[0] for prompt in prompts]
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    assert all(answer.usage.cached == 0 for answer in alone)
    cached = sorted(answer.usage.cached for answer in together)
    assert cached[0] == 0
    assert min(cached[1:]) >= 30 * len("instruction ") - 1


@pytest.mark.parametrize("constraint", [None, Permutation(labels=LABELS)])
def test_a_batch_with_padding_on_the_left_answers_as_one_by_one(tiny_model, constraint):
    shared = "shared beginning of some length, forty tokens and more. "
    prompts = [ask(shared + "word " * n) for n in (1, 40, 3, 17, 2, 90)] + [ask("q")]
    batched = fresh(tiny_model, batch_tokens=4096).complete(prompts, Sampling(max_tokens=16), constraint=constraint)
    single = fresh(tiny_model).complete(prompts, Sampling(max_tokens=16), constraint=constraint)
    assert [(a.text, a.finish, a.usage.completion) for a in batched] == [
        (a.text, a.finish, a.usage.completion) for a in single
    ]
    if constraint is not None:
        assert all(sorted(a.text.split(" > ")) == sorted(LABELS) and a.constrained for a in batched)


def test_a_shared_beginning_of_a_batch_is_computed_once(tiny_model):
    prompts = [ask("shared beginning of some length, forty tokens. " + "word " * n) for n in (1, 5, 9)]
    answers = fresh(tiny_model, batch_tokens=4096).complete(prompts, Sampling(max_tokens=4))
    assert sorted(answer.usage.cached > 40 for answer in answers) == [False, True, True]


def test_prompts_that_do_not_fit_are_told_before_any_forward_pass(tiny_model, monkeypatch):
    passes = []
    model = fresh(tiny_model)
    real = model._weights.forward
    monkeypatch.setattr(model._weights, "forward", lambda *a, **k: passes.append(1) or real(*a, **k))
    outcomes = model.complete([ask("x" * 3000)], Sampling(max_tokens=8))
    assert not passes
    assert isinstance(outcomes[0], ContextOverflow)
    assert (outcomes[0].limit, outcomes[0].got) == (2048, model.count_tokens(ask("x" * 3000)) + 8)
    mixed = model.complete([ask("x" * 3000), ask("fits")], Sampling(max_tokens=8))
    assert isinstance(mixed[0], ContextOverflow)
    assert mixed[1].usage.completion <= 8
    with pytest.raises(ContextOverflow):
        model.score([ask("x" * 3000)], ["y"])


def test_a_prompt_may_fill_the_context_to_the_last_token(tiny_model):
    room = 2048 - tiny_model.count_tokens(ask("")) - 3
    answers = fresh(tiny_model).complete([ask("x" * room), ask("x" * (room + 1))], Sampling(max_tokens=3))
    assert answers[0].usage.prompt == 2045
    assert isinstance(answers[1], ContextOverflow)


def test_scores_are_sums_of_log_probabilities(tiny_model):
    prompts = [ask("rank these"), ask("rank those"), ask("rank these"), ask("rank these")]
    texts = ["[1]", "[12] > [1]", "the end", ""]
    found = fresh(tiny_model).score(prompts, texts)
    expected = [naive_log_probability(tiny_model, *pair) for pair in zip(prompts, texts, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("labels", [("A", "B", "C"), LABELS, ("1", "12", "123")])
def test_label_scores_are_those_of_whole_labels(tiny_model, labels):
    prompt = ask("which one")
    (answer,) = fresh(tiny_model).complete(
        [prompt], Sampling(max_tokens=9, top_logprobs=1), constraint=Permutation(labels=labels)
    )
    assert list(answer.first) == list(labels)
    expected = [naive_log_probability(tiny_model, prompt, label) for label in labels]
    np.testing.assert_allclose(list(answer.first.values()), expected, atol=1e-4)


def test_asking_for_label_scores_changes_no_answer(tiny_model):
    prompt = ask("which one")
    plain, scored = (
        fresh(tiny_model).complete(
            [prompt], Sampling(max_tokens=9, top_logprobs=top), constraint=Permutation(labels=LABELS)
        )[0]
        for top in (0, 5)
    )
    assert plain.text == scored.text
    assert plain.first is None


def test_first_log_probabilities_are_the_likeliest_tokens_in_order(tiny_model):
    import torch

    prompt = ask("hello")
    (answer,) = tiny_model.complete([prompt], Sampling(max_tokens=1, top_logprobs=4))
    with torch.inference_mode():
        logits = tiny_model.model(torch.tensor([tiny_model.ids(prompt)])).logits[0, -1]
    best = torch.log_softmax(logits, dim=-1).topk(4)
    np.testing.assert_allclose(list(answer.first.values()), best.values.numpy(), atol=1e-5)
    for name, token in zip(answer.first, best.indices.tolist(), strict=True):
        assert name in (tiny_model.tokenizer.decode([token]), tiny_model.tokenizer.convert_ids_to_tokens(token))


def test_equal_seeds_give_equal_answers_and_other_seeds_others(tiny_model):
    prompts = [ask("one"), ask("two")]
    drawn = [tiny_model.complete(prompts, Sampling(max_tokens=12, temperature=1.0, seed=s)) for s in (1, 1, 2, None)]
    texts = [[answer.text for answer in answers] for answers in drawn]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]
    assert texts[0] != texts[3]
    swapped = tiny_model.complete(prompts[::-1], Sampling(max_tokens=12, temperature=1.0, seed=1))
    assert [answer.text for answer in swapped] == texts[0][::-1]


def test_draws_follow_the_softmax_of_the_logits():
    from unabridged.rankers.lm.answers import Picker

    logits = np.log(np.array([0.5, 0.3, 0.2], dtype=np.float32))
    counts = np.zeros(3)
    for seed in range(3000):
        counts[Picker(Sampling(max_tokens=1, temperature=1.0, seed=seed)).pick(logits)] += 1
    np.testing.assert_allclose(counts / 3000, [0.5, 0.3, 0.2], atol=0.03)


def test_stop_strings_end_the_answer_and_are_left_out(tiny_model):
    prompt = ask("the cat")
    whole = tiny_model.complete([prompt], Sampling(max_tokens=24))[0].text
    stop = whole[5:7]
    (answer,) = tiny_model.complete([prompt], Sampling(max_tokens=24, stop=(stop, "never seen")))
    assert answer.text == whole[: whole.index(stop)]
    assert answer.finish == "stop"


def test_min_tokens_keep_an_answer_from_ending(tiny_model):
    from unabridged.rankers.lm.answers import FreeAnswer

    logits = np.zeros(len(tiny_model.tokenizer), dtype=np.float32)
    logits[1] = 9
    for least in (0, 1, 5):
        answer = FreeAnswer(Sampling(max_tokens=8, min_tokens=least), tiny_model.vocabulary, frozenset({1}))
        while answer.take(logits):
            pass
        assert len(answer.tokens) == least + 1


def test_logits_that_are_not_numbers_are_an_error_and_no_answer(tiny_model):
    from unabridged.rankers.lm.answers import Picker

    with pytest.raises(RuntimeFailure, match="float32"):
        Picker(Sampling(max_tokens=1)).pick(np.array([0.0, np.nan, 1.0], dtype=np.float32))


def test_options_without_meaning_under_a_constraint_are_refused(tiny_model):
    for options in ({"stop": ("x",)}, {"min_tokens": 2}):
        with pytest.raises(UsageError, match="constraint"):
            tiny_model.complete([ask("q")], Sampling(max_tokens=9, **options), constraint=Choice(labels=("A", "B")))


def test_cancelled_calls_say_so_and_the_model_goes_on_afterwards(tiny_model):
    cancel = threading.Event()
    cancel.set()
    model = fresh(tiny_model)
    outcomes = model.complete([ask("one"), ask("two")], Sampling(max_tokens=4), cancel=cancel)
    assert all(isinstance(outcome, ModelCancelled) for outcome in outcomes)
    assert model.complete([ask("one")], Sampling(max_tokens=4))[0].text == (
        tiny_model.complete([ask("one")], Sampling(max_tokens=4))[0].text
    )


def test_a_call_cancelled_in_the_middle_stops_at_the_next_token(tiny_model):
    cancel = threading.Event()
    model = fresh(tiny_model)
    real = model._weights.forward
    steps = []

    def forward(*args, **kwargs):
        steps.append(1)
        if len(steps) == 3:
            cancel.set()
        return real(*args, **kwargs)

    model._weights.forward = forward
    (outcome,) = model.complete([ask("one")], Sampling(max_tokens=500, min_tokens=500), cancel=cancel)
    assert isinstance(outcome, ModelCancelled)
    assert len(steps) == 3


def test_a_call_that_waits_for_the_model_can_be_cancelled(tiny_model):
    cancel = threading.Event()
    model = fresh(tiny_model)
    found = []
    with model.lock:
        waiting = threading.Thread(
            target=lambda: found.extend(model.complete([ask("one")], Sampling(max_tokens=4), cancel=cancel))
        )
        waiting.start()
        cancel.set()
        waiting.join(timeout=5)
        assert not waiting.is_alive()
    assert isinstance(found[0], ModelCancelled)


def test_a_batch_is_halved_until_it_fits_into_memory(tiny_model):
    import torch

    model = fresh(tiny_model, batch_tokens=10_000)
    real = model._weights.forward
    sizes = []

    def forward(ids, **kwargs):
        sizes.append(ids.shape[0])
        if ids.shape[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(ids, **kwargs)

    model._weights.forward = forward
    prompts = [ask(text * 3) for text in ("q", "w", "e", "r", "t", "z", "u")]
    answers = model.complete(prompts, Sampling(max_tokens=6))
    assert [a.text for a in answers] == [a.text for a in fresh(tiny_model).complete(prompts, Sampling(max_tokens=6))]
    assert max(sizes) == 7
    assert 2 in sizes


def test_a_prompt_that_does_not_fit_even_alone_is_an_overflow(tiny_model):
    import torch

    model = fresh(tiny_model)

    def forward(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    model._weights.forward = forward
    (outcome,) = model.complete([ask("q")], Sampling(max_tokens=6))
    assert isinstance(outcome, ContextOverflow)
    assert outcome.limit is None


def test_any_other_runtime_error_is_raised(tiny_model):
    model = fresh(tiny_model)

    def forward(*args, **kwargs):
        raise RuntimeError("a defect")

    model._weights.forward = forward
    with pytest.raises(RuntimeError, match="a defect"):
        model.complete([ask("q")], Sampling(max_tokens=6))


@pytest.mark.parametrize("kind", ["sliding_mistral", "mamba"])
def test_other_kinds_of_attention_and_none_answer_as_transformers_does(tiny_lms, tmp_path, kind):
    model = LocalModel.load(getattr(tiny_lms, kind)(tmp_path / kind), device="cpu")
    prompts = [ask("some words that are longer than a window of sixteen " + tail) for tail in ("a", "b")]
    answers = model.complete(prompts, Sampling(max_tokens=20))
    for prompt, answer in zip(prompts, answers, strict=True):
        expected = reference(model, prompt, max_new_tokens=20)
        assert answer.text == model.tokenizer.decode(expected, skip_special_tokens=True)
    (ranked,) = model.complete(
        prompts[:1], Sampling(max_tokens=1, top_logprobs=3), constraint=Permutation(labels=LABELS)
    )
    assert sorted(ranked.text.split(" > ")) == sorted(LABELS)
    assert ranked.first["[12]"] == pytest.approx(naive_log_probability(model, prompts[0], "[12]"), abs=1e-3)


def test_threads_share_a_model(tiny_model):
    model = fresh(tiny_model)
    prompts = [ask(f"question {n}") for n in range(8)]
    expected = [fresh(tiny_model).complete([prompt], Sampling(max_tokens=8))[0].text for prompt in prompts]
    found = [None] * 8

    def work(row):
        found[row] = model.complete([prompts[row]], Sampling(max_tokens=8))[0].text

    threads = [threading.Thread(target=work, args=(row,)) for row in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


@pytest.mark.parametrize("tokens", [0, 1, 3, 7, 50])
@pytest.mark.parametrize("text", ["the the the", "é漢🙂é漢🙂", "  two  spaces\nand a line", ""])
def test_a_cut_text_is_a_beginning_of_at_most_so_many_tokens(tiny_model, text, tokens):
    cut = tiny_model.cut(text, tokens)
    assert text.startswith(cut)
    assert tiny_model.count_texts([cut])[0] <= tokens
    if cut != text:
        assert tiny_model.count_texts([text])[0] > tokens


def test_the_chat_template_of_the_model_is_used_and_its_answer_continued(tiny_model):
    render = tiny_model.chat.render
    assert render(ask("hi", system="s")) == "<|turn|>system\ns<|end|>\n<|turn|>user\nhi<|end|>\n<|turn|>assistant\n"
    begun = [Message("user", "hi"), Message("assistant", "[3] >")]
    assert render(begun) == "<|turn|>user\nhi<|end|>\n<|turn|>assistant\n[3] >"


def test_a_template_that_refuses_system_messages_gets_them_in_the_user_message(tiny_lms):
    chat = ChatFormat(tiny_lms.byte_tokenizer(tiny_lms.STRICT))
    assert not chat.takes_system
    assert chat.render(ask("hi", system="s")) == "<|turn|>user\ns\n\nhi<|end|>\n<|turn|>assistant\n"


def test_a_template_that_refuses_the_turns_is_a_bad_request(tiny_lms):
    chat = ChatFormat(tiny_lms.byte_tokenizer("{{ raise_exception('roles must alternate') }}"))
    with pytest.raises(BadRequest, match="roles must alternate"):
        chat.render(ask("hi"))


def test_a_model_without_a_template_reads_messages_plainly(tiny_lms):
    chat = ChatFormat(tiny_lms.byte_tokenizer(None))
    assert chat.render(ask("hi", system="s")) == "s\n\nhi\n\n"
    assert chat.render([Message("user", "a"), Message("assistant", "b")]) == "a\n\nb"
    with pytest.raises(UsageError, match="enable_thinking"):
        ChatFormat(tiny_lms.byte_tokenizer(None), {"enable_thinking": False})
    with pytest.raises(UsageError, match="no message"):
        chat.render([])


def test_a_template_option_reaches_the_template(tiny_lms):
    tokenizer = tiny_lms.byte_tokenizer("{% if deep %}deep {% endif %}{{ messages[0]['content'] }}")
    assert ChatFormat(tokenizer, {"deep": True}).render(ask("x")) == "deep x"
    assert ChatFormat(tokenizer).render(ask("x")) == "x"


def test_fingerprints_follow_weights_template_and_precision(tiny_lms, tmp_path, tiny_model):
    one = tiny_model.fingerprint
    again = LocalModel.load(tiny_model._folder, device="cpu", name="another name").fingerprint
    assert one == again
    others = {
        LocalModel.load(tiny_lms.llama(tmp_path / "seed", seed=5), device="cpu").fingerprint,
        LocalModel.load(tiny_model._folder, device="cpu", precision="bfloat16").fingerprint,
        LocalModel.load(
            tiny_lms.llama(tmp_path / "strict", tokenizer=tiny_lms.byte_tokenizer(tiny_lms.STRICT)), device="cpu"
        ).fingerprint,
    }
    assert len(others | {one}) == 4


def test_folders_that_are_no_models_are_refused(tmp_path, llama_folder):
    with pytest.raises(MissingFile, match=r"config\.json"):
        LocalModel.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(MissingFile, match="could not be loaded"):
        LocalModel.load(tmp_path, device="cpu")
    with pytest.raises(UsageError, match="precision"):
        LocalModel.load(llama_folder, precision="int3")


def test_counting_a_text_that_is_longer_than_the_model_reads_is_nothing_to_warn_of(llama_folder):
    from unabridged.rankers.lm.local import LocalModel

    model = LocalModel.load(llama_folder, device="cpu")
    assert model.count_texts(["x" * 5_000]) == [5_000]
    # Where transformers keeps which warnings it has given.
    assert not any("longer" in name for name in model.tokenizer.deprecation_warnings)


def test_a_text_that_memory_has_no_room_for_has_no_score_and_the_others_have_theirs(tiny_model):
    import torch

    prompts, texts = [ask("rank these"), ask("long " * 90), ask("rank those")], ["[1]", "[2]", "the end"]
    expected = fresh(tiny_model).score(prompts, texts)
    model = fresh(tiny_model)
    real = model._weights.forward

    def forward(ids, **kwargs):
        if ids.shape[1] > 200:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(ids, **kwargs)

    model._weights.forward = forward
    found = model.score(prompts, texts)
    assert np.isnan(found).tolist() == [False, True, False]
    np.testing.assert_allclose([found[0], found[2]], [expected[0], expected[2]], atol=1e-4)
    assert model.memory_report()[0].alone == 1


def test_what_memory_did_to_answers_is_told(tiny_model):
    import torch

    model = fresh(tiny_model, batch_tokens=10_000)
    real, calls = model._weights.forward, []

    def forward(ids, **kwargs):
        calls.append(ids.shape)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(ids, **kwargs)

    model._weights.forward = forward
    model.complete([ask("q"), ask("w")], Sampling(max_tokens=2))
    answers, entropies = model.memory_report()
    assert (answers.halved, answers.alone, entropies.halved) == (1, 0, 0)
    assert answers.planned == 10_000 > answers.lowest
