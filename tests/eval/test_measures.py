"""Measures against hand tables, a naive twin and trec_eval; what is missing, tied or malformed never flatters a run."""

import doctest
import itertools
import math
import random
import subprocess
import sys

import numpy as np
import pytest

import unabridged.eval.measures
from unabridged.errors import CorpusError, DuplicateId, ShapeError, UsageError
from unabridged.eval.measures import AP, RR, Measure, P, R, Success, evaluate, nDCG
from unabridged.eval.trec import read_run, write_run

QRELS = {"q1": {"a": 3, "b": 1, "c": 0}, "q2": {"d": 1, "e": 1}, "q3": {"f": 2}}
RUN = {"q1": {"b": 2.0, "c": 1.5, "a": 1.0}, "q2": {"x": 9.0, "d": 8.0}}
"""q3 is missing: it counts 0."""
TREC_NAMES = {
    "ndcg": nDCG, "ndcg_cut_1": nDCG @ 1, "ndcg_cut_5": nDCG @ 5, "ndcg_cut_20": nDCG @ 20, "recall_5": R @ 5,
    "recall_100": R @ 100, "map": AP, "map_cut_5": AP @ 5, "recip_rank": RR, "P_5": P @ 5, "P_30": P @ 30,
    "success_1": Success @ 1, "success_5": Success @ 5, "set_recall": R, "set_P": P,
}  # fmt: skip
EVERY = list(TREC_NAMES.values())


def score(run, qrels, measure) -> float:
    return float(evaluate(run, qrels, [measure]).means[0])


def naive(found, grades, measure) -> float:
    """One query, straight from the definitions: no arrays, one document at a time."""
    ranking = [d for _, d in sorted(((float(np.float32(s)), d) for d, s in found.items()), reverse=True)]
    cut = len(ranking) if measure.cut is None else measure.cut
    relevant = {d for d, grade in grades.items() if grade > 0}
    first = ranking[:cut]
    hits = [n for n, d in enumerate(first, 1) if d in relevant]
    if not relevant:
        return 0.0
    if measure.name == "nDCG":
        ideal = sorted((grades[d] for d in relevant), reverse=True)
        ideal = ideal if measure.cut is None else ideal[:cut]
        got = sum(grades[d] / math.log2(n + 1) for n, d in enumerate(first, 1) if d in relevant)
        return got / sum(grade / math.log2(n + 1) for n, grade in enumerate(ideal, 1))
    if measure.name == "AP":
        return sum((at + 1) / n for at, n in enumerate(hits)) / len(relevant)
    return {
        "R": len(hits) / len(relevant),
        "P": len(hits) / cut if cut else 0.0,
        "RR": 1 / hits[0] if hits else 0.0,
        "Success": float(bool(hits)),
    }[measure.name]


def random_set(draw, queries):
    """Graded judgements (some negative, some queries without a relevant document) and a run with every defect."""
    documents = [f"d{n}" for n in range(40)]
    qrels, run = {}, {}
    for n in range(queries):
        grades = draw.choice([[-1, 0, 1, 2, 3], [0, 1], [0]])
        qrels[f"q{n}"] = {d: draw.choice(grades) for d in draw.sample(documents, draw.randint(1, 25))}
        scores = draw.choice([[0.5, 1.0, 1 + 5e-8, 2.0, -0.0, 0.0], [draw.gauss(0, 1) for _ in range(50)]])
        found = {d: draw.choice(scores) for d in draw.sample(documents, draw.randint(1, 40))}
        if draw.random() < 0.9:
            run[f"q{n}"] = {} if draw.random() < 0.1 else found
    return run, qrels


def test_a_missing_query_counts_zero_and_is_reported():
    found = evaluate({"q1": {"a": 1.0}}, {"q1": {"a": 1}, "q2": {"b": 1}}, EVERY)
    assert found.missing == ("q2",)
    assert (found.values[:, 1] == 0).all()
    assert np.array_equal(found.means, found.values[:, 0] / 2)
    assert score({"q1": {"a": 1.0}}, {"q1": {"a": 1}, "q2": {"b": 1}}, "nDCG@10") == 0.5
    assert evaluate({"q1": {"a": 1.0}, "q2": {}}, {"q1": {"a": 1}, "q2": {"b": 1}}, EVERY).missing == ()


def test_values_equal_the_hand_table():
    ideal = 3 + 1 / math.log2(3)
    q1 = (1 + 3 / 2) / ideal  # b at rank 1, a at rank 3
    q2 = (1 / math.log2(3)) / ideal_of_two()
    assert score(RUN, QRELS, "nDCG@10") == pytest.approx((q1 + q2 + 0) / 3)
    assert score(RUN, QRELS, "nDCG@1") == pytest.approx((1 / 3 + 0 + 0) / 3)
    assert score(RUN, QRELS, "R@2") == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert score(RUN, QRELS, "RR") == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert score(RUN, QRELS, "RR@1") == pytest.approx(1 / 3)
    assert score(RUN, QRELS, "AP") == pytest.approx(((1 + 2 / 3) / 2 + (1 / 2) / 2 + 0) / 3)
    assert score(RUN, QRELS, "P@10") == pytest.approx((2 / 10 + 1 / 10 + 0) / 3)
    assert score(RUN, QRELS, "Success@1") == pytest.approx(1 / 3)


def ideal_of_two() -> float:
    return 1 + 1 / math.log2(3)


def test_the_gain_is_linear():
    assert score({"q": {"b": 2.0, "a": 1.0}}, {"q": {"a": 3, "b": 1}}, nDCG @ 2) == pytest.approx(0.797, abs=5e-4)


def test_values_equal_trec_eval_and_the_naive_twin_on_a_thousand_random_lists():
    pytrec_eval = pytest.importorskip("pytrec_eval")
    run, qrels = random_set(random.Random(7), 1000)
    found = evaluate(run, qrels, EVERY)
    assert found.missing, "the run leaves queries out"
    assert len(found.tied) > 100
    names = {"ndcg", "map", "recip_rank", "set_recall", "set_P", "ndcg_cut.1,5,20", "recall.5,100", "map_cut.5"}
    truth = pytrec_eval.RelevanceEvaluator(qrels, {*names, "P.5,30", "success.1,5"}).evaluate(run)
    for name, measure in TREC_NAMES.items():
        theirs = [truth.get(query, {}).get(name, 0.0) for query in found.queries]
        assert np.allclose(found.row(measure), theirs, rtol=0, atol=1e-12), name
        twin = [naive(run.get(query, {}), qrels[query], measure) for query in found.queries]
        assert np.allclose(found.row(measure), twin, rtol=0, atol=1e-12), name


def test_values_equal_ir_measures_where_it_breaks_ties_as_trec_eval_does():
    ir_measures = pytest.importorskip("ir_measures")
    run, qrels = random_set(random.Random(11), 200)
    wanted = [ir_measures.nDCG @ 10, ir_measures.R @ 10, ir_measures.AP, ir_measures.RR]
    truth = ir_measures.calc_aggregate(wanted, qrels, run)
    found = evaluate(run, qrels, [str(one) for one in wanted])
    assert np.allclose(found.means, [truth[one] for one in wanted], rtol=0, atol=1e-12)


def test_no_order_of_insertion_and_no_power_of_two_changes_a_value():
    run, qrels = random_set(random.Random(3), 60)
    plain = evaluate(run, qrels, EVERY)
    turned = {q: dict(reversed(found.items())) for q, found in reversed(run.items())}
    again = evaluate(turned, {q: dict(reversed(g.items())) for q, g in reversed(qrels.items())}, EVERY)
    scaled = evaluate({q: {d: s * 2**-7 for d, s in f.items()} for q, f in run.items()}, qrels, EVERY)
    pairs = evaluate({q: list(f.items()) for q, f in run.items()}, qrels, EVERY)
    for other in (again, scaled, pairs):
        assert other.queries == plain.queries
        assert np.array_equal(other.values, plain.values)
        assert (other.tied, other.missing) == (plain.tied, plain.missing)


def test_renaming_documents_changes_nothing_where_there_are_no_ties():
    draw = random.Random(5)
    qrels = {"q": {f"d{n}": draw.randint(0, 3) for n in range(20)}}
    run = {"q": {f"d{n}": n + draw.random() / 2 for n in range(0, 30, 2)}}
    names = dict(zip((f"d{n}" for n in range(30)), draw.sample(range(900), 30), strict=True))
    renamed = evaluate(
        {"q": {f"x{names[d]}": s for d, s in run["q"].items()}},
        {"q": {f"x{names[d]}": g for d, g in qrels["q"].items()}},
        EVERY,
    )
    assert np.array_equal(renamed.values, evaluate(run, qrels, EVERY).values)


def test_worst_and_best_cases_are_those_of_all_orders_of_the_ties():
    qrels = {"q": {"a": 3, "b": 1, "c": 0, "d": 2}, "p": {"x": 1, "y": 0}}
    groups = [["a", "b", "c"], ["d", "e"]]
    run = {"q": {d: -float(at) for at, group in enumerate(groups) for d in group}, "p": {"x": 2.0, "y": 1.0}}
    measures = [nDCG @ 3, AP, RR, P @ 1, R @ 4, Success @ 1, nDCG]
    found = evaluate(run, qrels, measures)
    assert found.tied == ("q",)
    for at, measure in enumerate(measures):
        seen = []
        for one, two in itertools.product(*(itertools.permutations(group) for group in groups)):
            strict = {document: -float(place) for place, document in enumerate([*one, *two])}
            seen.append(score({"q": strict, "p": run["p"]}, qrels, measure))
        assert found.worst[at] == pytest.approx(min(seen)), measure
        assert found.best[at] == pytest.approx(max(seen)), measure
        assert found.worst[at] <= found.means[at] <= found.best[at]


@pytest.mark.parametrize(("depth", "tied"), [(1, ()), (2, ()), (3, ("q",)), (4, ("q",)), (None, ("q",))])
def test_only_ties_that_begin_within_the_depth_are_reported(depth, tied):
    run = {"q": {"a": 9.0, "b": 8.0, "c": 7.0, "d": 7.0 + 1e-9}}
    found = evaluate(run, {"q": {"d": 1}}, [Measure("nDCG", depth)])
    assert found.tied == tied
    assert bool((found.best > found.worst).any()) == (depth == 3 or depth is None or depth == 4)


def test_a_run_without_ties_has_one_value():
    run = {q: {d: float(n) for n, d in enumerate(g)} for q, g in QRELS.items()}
    found = evaluate(run, QRELS, EVERY)
    assert found.tied == ()
    assert np.array_equal(found.best, found.means)
    assert np.array_equal(found.worst, found.means)


def test_a_query_without_a_relevant_document_stays_and_scores_zero():
    found = evaluate({"q": {"a": 1.0}, "p": {"a": 1.0}}, {"q": {"a": 1}, "p": {"a": 0, "b": -2}, "none": {}}, EVERY)
    assert found.queries == ("p", "q")
    assert found.row("AP").tolist() == [0.0, 1.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e39, "high", None])
def test_scores_that_are_no_finite_float32_are_refused_with_their_query(bad):
    with pytest.raises(ShapeError, match="'q2'"):
        evaluate({"q1": {"a": 1.0}, "q2": {"d": 2.0, "e": bad}}, QRELS, ["AP"])


@pytest.mark.parametrize("bad", [0.5, math.nan, math.inf, "1", None])
def test_grades_that_are_no_integers_are_refused(bad):
    with pytest.raises(CorpusError, match="integer"):
        evaluate({"q": {"a": 1.0}}, {"q": {"a": bad}}, ["AP"])


@pytest.mark.parametrize("grade", [2, 2.0, np.int64(2), np.float32(2)])
def test_grades_and_scores_of_other_number_types_mean_what_they_say(grade):
    run = {"q": {"a": np.float32(1), "b": np.int64(2)}}
    assert score(run, {"q": {"a": grade, "b": 1}}, "nDCG") == score(
        {"q": {"a": 1.0, "b": 2.0}}, {"q": {"a": 2, "b": 1}}, nDCG
    )


def test_a_document_twice_in_a_list_is_refused():
    with pytest.raises(DuplicateId, match="'a' occurs twice for query 'q'"):
        evaluate({"q": [("a", 2.0), ("b", 1.5), ("a", 1.0)]}, {"q": {"a": 1}}, ["AP"])


def test_queries_without_judgements_are_refused_unless_they_are_to_be_left_out():
    more = {**RUN, "q9": {"a": 1.0}}
    with pytest.raises(CorpusError, match="'q9'"):
        evaluate(more, QRELS, EVERY)
    found = evaluate(more, QRELS, EVERY, ignore_unjudged=True)
    assert found.unjudged == ("q9",)
    assert np.array_equal(found.values, evaluate(RUN, QRELS, EVERY).values)


@pytest.mark.parametrize(("run", "qrels"), [({"x": {"a": 1.0}}, QRELS), ({}, QRELS), (RUN, {}), (RUN, {"q1": {}})])
def test_a_run_and_judgements_without_a_common_query_are_refused(run, qrels):
    with pytest.raises(CorpusError, match="no query"):
        evaluate(run, qrels, ["AP"], ignore_unjudged=True)


@pytest.mark.parametrize(
    ("texts", "printed"),
    [
        (["nDCG@10", "ndcg@10", "ndcg_cut_10", "ndcg_cut.10", "ndcg_at_10", " NDCG @ 10 "], "nDCG@10"),
        (["R@100", "recall@100", "Recall@100", "recall_100", "recall.100", "recall_at_100"], "R@100"),
        (["AP", "MAP", "map"], "AP"),
        (["AP@5", "map_cut_5", "map_at_5"], "AP@5"),
        (["RR", "mrr", "recip_rank"], "RR"),
        (["RR@10", "MRR@10", "mrr_at_10"], "RR@10"),
        (["P@3", "P_3", "precision_at_3"], "P@3"),
        (["Success@1", "success_1", "hit_rate_at_1", "hits@1"], "Success@1"),
        (["nDCG"], "nDCG"),
    ],
)
def test_measures_are_parsed_as_people_type_them_and_printed_so_that_they_parse_again(texts, printed):
    parsed = {Measure.parse(text) for text in texts}
    assert [str(one) for one in parsed] == [printed]
    assert parsed == {Measure.parse(printed)}


def test_measures_are_values():
    assert nDCG @ 10 == Measure("nDCG", 10)
    assert {nDCG @ 10: 1}[Measure.parse("ndcg_cut_10")] == 1
    assert evaluate(RUN, QRELS, ["AP", "map", AP]).measures == (AP,)
    with pytest.raises(UsageError, match="only AP"):
        evaluate(RUN, QRELS, ["AP"]).row("RR")


@pytest.mark.parametrize(
    ("text", "near"),
    [("ndgc@10", "nDCG@10"), ("recal@5", "R@5"), ("mpa", "AP"), ("nDCG10", "nDCG@10"), ("sucess@1", "Success@1")],
)
def test_an_unknown_measure_is_refused_with_the_nearest_names(text, near):
    with pytest.raises(UsageError, match=f"Did you mean .*{near}"):
        Measure.parse(text)


@pytest.mark.parametrize("text", ["bleu", "", "@10", "R@0", "nDCG@-1", "P@1.5"])
def test_what_is_no_measure_is_a_usage_error(text):
    with pytest.raises(UsageError):
        Measure.parse(text)


def test_no_measure_is_a_usage_error():
    with pytest.raises(UsageError, match="at least one"):
        evaluate(RUN, QRELS, [])


def test_writing_a_run_and_reading_it_back_changes_no_value(tmp_path):
    run, qrels = random_set(random.Random(23), 50)
    ordered = {
        q: sorted(found.items(), key=lambda pair: (float(np.float32(pair[1])), pair[0]), reverse=True)
        for q, found in run.items()
    }
    rising = {q: [(d, float(-n)) for n, (d, _) in enumerate(pairs)] for q, pairs in ordered.items()}
    write_run(tmp_path / "run.trec", rising.items())
    again = evaluate(read_run(tmp_path / "run.trec"), qrels, EVERY)
    assert np.array_equal(again.values, evaluate(run, qrels, EVERY).values)
    assert again.tied == ()


def test_the_interval_holds_the_mean_and_narrows_with_more_queries():
    qrels = {f"q{n}": {"a": 1} for n in range(400)}
    run = {f"q{n}": {"a": 1.0} if n % 4 else {"b": 1.0} for n in range(400)}
    whole = evaluate(run, qrels, ["RR", "AP"])
    low, high = whole.intervals()[0]
    assert low < 0.75 < high
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.75 * 0.25 / 400), rel=0.1)
    assert np.array_equal(whole.intervals(), whole.intervals())
    some = evaluate(dict(list(run.items())[:40]), dict(list(qrels.items())[:40]), ["RR"]).intervals()[0]
    assert some[1] - some[0] > 2 * (high - low)


def test_the_example_in_the_docstring_runs():
    assert doctest.testmod(unabridged.eval.measures).failed == 0
    assert "0.5" in unabridged.eval.measures.__doc__


def test_measuring_loads_nothing_but_numpy():
    heavy = "{'scipy', 'pytrec_eval', 'ir_measures', 'torch', 'pandas', 'pyarrow'}"
    code = f"import sys, unabridged.eval.measures, unabridged.eval.significance; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
