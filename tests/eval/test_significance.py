"""Tests of significance against full enumeration, scipy, hand values and their own promise under the null."""

import itertools

import numpy as np
import pytest

from unabridged.errors import ShapeError, UsageError
from unabridged.eval._resample import bootstrap_interval
from unabridged.eval.measures import AP, RR, evaluate
from unabridged.eval.significance import compare, holm, randomization_p, t_test_p


def enumerated_p(a, b) -> float:
    """Every pattern of signs, one after another."""
    differences = a - b
    means = [abs(np.mean(differences * signs)) for signs in itertools.product([1, -1], repeat=len(differences))]
    return float(np.mean([mean >= abs(differences.mean()) - 1e-12 for mean in means]))


def test_five_differences_of_one_give_two_in_thirty_two():
    assert randomization_p(np.ones(5), np.zeros(5)) == 2 / 32


@pytest.mark.parametrize("queries", [1, 2, 5, 9, 12])
def test_few_queries_are_enumerated(queries):
    draw = np.random.default_rng(queries)
    for _ in range(3):
        a, b = draw.choice([0, 0.5, 1], (2, queries))
        assert randomization_p(a, b) == enumerated_p(a, b)


def test_random_flips_come_close_to_full_enumeration():
    draw = np.random.default_rng(2)
    a = draw.normal(0.35, 1, 18)  # above the limit of enumeration
    b = np.zeros(18)
    bits = np.arange(1 << 18)[:, np.newaxis] >> np.arange(18) & 1
    exact = np.mean(np.abs((1 - 2 * bits) @ a) >= abs(a.sum()) - 1e-9)
    assert 0.01 < exact < 0.5
    assert randomization_p(a, b, flips=100_000) == pytest.approx(exact, abs=0.005)


def test_a_p_is_never_zero_and_is_one_for_equal_runs():
    far = np.arange(1.0, 101.0)
    assert randomization_p(far, np.zeros(100), flips=999) == 1 / 1000
    assert randomization_p(far, far) == 1
    assert t_test_p(far, far) == 1
    assert t_test_p(far + 1, far) == 0


def test_exchanging_the_runs_keeps_every_p():
    a, b = np.random.default_rng(4).random((2, 60))
    assert randomization_p(a, b, flips=2000) == randomization_p(b, a, flips=2000)
    assert t_test_p(a, b) == t_test_p(b, a)


def test_a_seed_gives_the_same_p_and_another_seed_nearly_the_same():
    a, b = np.random.default_rng(5).random((2, 60))
    assert randomization_p(a, b, seed=3) == randomization_p(a, b, seed=3)
    assert randomization_p(a, b, seed=3) == pytest.approx(randomization_p(a, b, seed=4), abs=0.02)


def test_queries_that_do_not_differ_change_no_exact_p():
    a, b = np.random.default_rng(6).random((2, 10))
    assert randomization_p(np.r_[a, np.ones(300)], np.r_[b, np.ones(300)]) == enumerated_p(a, b)


def test_binary_scores_on_fifty_queries_are_discrete():
    a, b = np.zeros(50), np.zeros(50)
    a[:45], b[:38] = 1, 1  # 0.90 against 0.76, seven queries differ, all in one direction
    assert randomization_p(a, b) == 2 / 2**7
    b[37], b[49] = 0, 1  # eight queries differ in one direction and one in the other
    assert (int(a.sum()), int(b.sum())) == (45, 38)
    assert randomization_p(a, b) == 2 * (9 + 1) / 2**9  # at least 8 of 9 on one side
    assert t_test_p(a, b) == pytest.approx(0.018, abs=5e-4)


def test_under_the_null_one_in_twenty_is_significant():
    trials = np.random.default_rng(8).normal(0, 1, (500, 2, 40))
    ps = [randomization_p(a, b, flips=400, seed=at) for at, (a, b) in enumerate(trials)]
    assert np.mean(np.array(ps) <= 0.05) == pytest.approx(0.05, abs=0.02)
    assert np.mean([t_test_p(a, b) <= 0.05 for a, b in trials]) == pytest.approx(0.05, abs=0.02)


def test_the_t_test_equals_that_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    draw = np.random.default_rng(9)
    for queries in (2, 3, 10, 50, 1000, 10_449, 100_000):
        for shift in (0, 1e-9, 0.01, 0.3, 3):
            a, b = draw.random((2, queries))
            expected = stats.ttest_rel(a + shift, b).pvalue
            assert t_test_p(a + shift, b) == pytest.approx(expected, rel=1e-8, abs=1e-290), (queries, shift)


def test_the_t_test_meets_printed_tables():
    # t = 2.228 is the two-sided 5 % point of 10 degrees of freedom
    differences = np.r_[np.ones(5), -np.ones(5), 0.0]
    unit = differences / differences.std(ddof=1) * np.sqrt(11)
    assert t_test_p(unit + 2.228, np.zeros(11)) == pytest.approx(0.05, abs=1e-4)


def test_holm_equals_the_hand_values_in_the_order_given():
    assert holm([0.01, 0.04, 0.03, 0.2]) == pytest.approx([0.04, 0.09, 0.09, 0.2])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_bootstrap_interval_covers_the_mean_about_as_often_as_it_says():
    draw = np.random.default_rng(10)
    covered = 0
    for trial in range(200):
        low, high = bootstrap_interval(draw.random(60), resamples=400, seed=trial)
        covered += low <= 0.5 <= high
    assert 180 <= covered <= 199


def test_blocks_change_no_interval(monkeypatch):
    values = np.random.default_rng(11).random(100)
    whole = bootstrap_interval(values, resamples=1000)
    monkeypatch.setattr("unabridged.eval._resample.BLOCK", 1 << 30)
    assert bootstrap_interval(values, resamples=1000) == pytest.approx(whole, abs=0.01)
    assert bootstrap_interval(np.full(5, 0.25)) == (0.25, 0.25)


def systems():
    draw = np.random.default_rng(12)
    qrels = {f"q{n}": {"good": 1} for n in range(80)}

    def run(share):
        return {q: {"good": 1.0, "bad": 2.0 if draw.random() > share else 0.5} for q in qrels}

    return {name: evaluate(run(share), qrels, [RR, AP]) for name, share in (("a", 0.9), ("b", 0.5), ("c", 0.5))}


def test_a_comparison_holds_every_pair_and_measure_with_holm_over_all_of_them():
    found = compare(systems(), flips=5000, resamples=2000)
    assert [(one.a, one.b, str(one.measure)) for one in found] == [
        (a, b, m) for a, b in (("a", "b"), ("a", "c"), ("b", "c")) for m in ("RR", "AP")
    ]
    assert [one.p_holm for one in found] == holm([one.p_randomization for one in found])
    first, last = found[0], found[-1]
    assert first.low < first.difference < first.high
    assert first.low > 0
    assert first.p_holm < 0.01 > first.p_t
    assert last.low < 0 < last.high
    assert last.p_holm > 0.05
    assert found == compare(systems(), flips=5000, resamples=2000)


def test_runs_over_other_queries_are_not_compared():
    whole = systems()
    other = evaluate({"q1": {"good": 1.0}}, {"q1": {"good": 1}}, [RR, AP])
    with pytest.raises(ShapeError, match="'a' and 'other'"):
        compare({"a": whole["a"], "other": other})
    with pytest.raises(UsageError, match="two runs"):
        compare({"a": whole["a"]})
    with pytest.raises(ShapeError, match="2 queries"):
        compare({"one": other, "two": other})


@pytest.mark.parametrize(
    ("a", "b"),
    [([1.0], [1.0, 2.0]), ([], []), ([np.nan], [1.0]), ([[1.0]], [[2.0]])],
    ids=["length", "empty", "nan", "2d"],
)
def test_values_that_do_not_pair_are_refused(a, b):
    for test in (randomization_p, t_test_p):
        with pytest.raises(ShapeError):
            test(np.array(a), np.array(b))


def test_impossible_options_are_usage_errors():
    with pytest.raises(UsageError):
        randomization_p(np.ones(3), np.zeros(3), flips=0)
    with pytest.raises(UsageError):
        bootstrap_interval(np.ones(3), level=1.0)
    with pytest.raises(ShapeError):
        bootstrap_interval(np.array([np.nan]))
    with pytest.raises(ShapeError):
        holm([1.5])
