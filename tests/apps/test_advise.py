"""The command that says how far an encoder reads, at small sizes with the embedded model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from unabridged.apps import trials as t
from unabridged.apps.advise import Clock, Result, dead_text, make_sets, recommend, try_out
from unabridged.apps.advising import advise
from unabridged.apps.cli import app as whole
from unabridged.apps.evaluating import evaluation
from unabridged.apps.kept import Kept
from unabridged.contracts import Level, OverflowPolicy
from unabridged.encoders.hashing import HashingEncoder
from unabridged.encoders.layers import layer_states
from unabridged.encoders.load import load_encoder
from unabridged.errors import UsageError
from unabridged.eval.synth.passkey import passkey

app = typer.Typer()
app.command()(advise)
app.add_typer(evaluation, name="eval")
SMALL = ["--queries", "4", "--documents", "5", "--positions", "4"]


def call(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
    return result


def asked(*arguments: object, code: int = 0) -> dict:
    return json.loads(call(*arguments, "--output", "json", code=code).stdout)


@pytest.fixture(scope="module")
def body(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("advice")
    methods = "truncate,split,pi,ntk"
    return asked("advise", "--methods", methods, "--lengths", "512,768", "--tasks", "passkey", "--plot", folder, *SMALL)


def test_each_method_that_fits_has_accuracy_dead_zone_speed_and_usable_length(body):
    assert [m["name"] for m in body["methods"]] == ["truncate", "split", "pi"]
    for method in body["methods"]:
        assert [cell["length"] for cell in method["cells"]] == [512, 768]
        assert method["tokens_per_second"] > 0
        assert set(method["usable_length"]) == {"passkey"}
        assert len(method["dead_zone"]["cosine_distance"]) == 4
        assert body["planned_tokens"][method["name"]] > 0
    assert "tokens/s" in body["recommendation"]


def test_a_method_that_does_not_fit_is_listed_with_its_reason(body):
    assert "absolute" in body["not_fitting"]["ntk"]


def test_the_truncated_model_is_dead_behind_its_window_and_the_others_are_nowhere(body):
    dead = {m["name"]: m["dead_zone"] for m in body["methods"]}
    assert dead["truncate"]["dead_share"] == 0.5
    assert dead["truncate"]["cosine_distance"][2:] == [0.0, 0.0]
    assert dead["split"]["dead_share"] == dead["pi"]["dead_share"] == 0.0


def test_the_cost_counts_the_window_for_truncation_and_all_tokens_else(body):
    planned = body["planned_tokens"]
    assert planned["truncate"] == (2 * 5 + 5) * 256
    assert planned["split"] >= planned["pi"] > 2 * planned["truncate"]


def test_the_page_holds_its_picture_and_asks_for_nothing_else(body):
    png, page, table = map(Path, body["files"])
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    text = page.read_text(encoding="utf-8")
    assert "data:image/png;base64," in text
    assert not re.search(r"(src|href)=\"(?!data:)|https?://|<script|@import", text)
    assert "| passkey accuracy@1 | 512 | 768 | usable |" in table.read_text(encoding="utf-8")


def test_needles_go_into_the_users_own_documents_up_to_the_length_they_have(corpus_file):
    found = asked("advise", corpus_file, "--encoder", "hashing", "--methods", "truncate", "--lengths", "512,1024,65536",
                  "--tasks", "needle", *SMALL)  # fmt: skip
    assert [cell["length"] for cell in found["methods"][0]["cells"]] == [512, 1024]


def test_text_output_is_tables_and_a_recommendation():
    out = call("advise", "--encoder", "hashing", "--methods", "truncate,split", "--lengths", "256", *SMALL).stdout
    assert "passkey accuracy@1" in out
    assert "Recommended: " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "magic"], "Unknown method 'magic'"),
        (["--methods", "pi+speed=2"], "Unknown parameter 'speed'"),
        (["--methods", "pi+temperature=hot"], "must be float"),
        (["--methods", "ntk"], "None of the methods can be used"),
        (["--lengths", "256,-1"], "whole numbers"),
        (["--tasks", "haystack"], "Unknown task"),
        (["--documents", "500"], "queries and documents"),
        (["--methods", ","], "comma-separated"),
    ],
    ids=["method", "parameter", "value", "no-fit", "length", "task", "documents", "nothing"],
)
def test_what_cannot_be_asked_is_a_usage_error(arguments, message):
    assert message in asked("advise", *arguments, code=2)["error"]["message"]


def test_a_document_scores_with_its_best_segment_and_minus_one_without_any():
    encoder = HashingEncoder(32, 16)
    encoded = encoder.encode_documents(["a b c d " * 20, "", "x y"], level=Level.SEGMENT)
    queries = encoder.encode_queries(["a b", "x y"])
    scores = t.document_scores(queries, encoded)
    for row in range(3):
        own = encoded.segments[encoded.offsets[row] : encoded.offsets[row + 1]]
        expected = (queries @ own.T).max(axis=1) if len(own) else np.full(2, -1.0)
        assert np.allclose(scores[:, row], expected)


def test_occluded_texts_keep_their_number_of_tokens():
    encoder = load_encoder()
    text = dead_text(256, None, 0)
    texts, depths = t.occluded(encoder, text, 6)
    assert set(encoder.count_tokens(texts).tolist()) == set(encoder.count_tokens([text]).tolist())
    assert (depths[0], depths[-1]) == (0.0, 1.0)
    assert len({*texts, text}) == 7


def test_a_time_limit_names_what_it_left_out():
    trial = t.Trial("truncate", HashingEncoder(16, 64), Level.DOC, OverflowPolicy.TRUNCATE)
    sets = make_sets(["passkey"], [256, 512], 5, 4, None, 0)
    result = try_out(trial, sets, "some text here", 0, Clock(0.0), lambda text: None)
    assert result.cells == ()
    assert result.skipped == ("passkey 256", "passkey 512")
    assert "within the time limit" in recommend([result], 512)


def test_what_an_earlier_run_kept_is_not_measured_again_and_needs_no_time(tmp_path):
    trial = t.Trial("truncate", HashingEncoder(16, 64), Level.DOC, OverflowPolicy.TRUNCATE)
    short, longer = make_sets(["passkey"], [256, 512], 5, 4, None, 0)
    path = tmp_path / "cells.jsonl"
    first = try_out(trial, [short], "some text here", 2, Clock(None), lambda text: None, Kept(path))
    path.write_text(path.read_text() + '{"key": "half a li')
    again = try_out(trial, [short, longer], "some text here", 2, Clock(0.0), lambda text: None, Kept(path))
    assert again.cells == first.cells
    assert again.dead == first.dead
    assert again.skipped == ("passkey 512",)
    other = make_sets(["passkey"], [256], 5, 4, None, 1)
    assert try_out(trial, other, "x", 0, Clock(0.0), lambda text: None, Kept(path)).cells == ()


def test_the_recommendation_prefers_reach_then_accuracy():
    def cells(*accuracies: float) -> tuple[t.Cell, ...]:
        lengths = (256, 512, 1024)
        return tuple(t.Cell("passkey", n, a, (), n, 1.0, 9.0, 1.0) for n, a in zip(lengths, accuracies, strict=False))

    near, far, split = (Result("truncate", 256, cells(1, 1, 0.2)), Result("pi", 1024, cells(0.9, 0.9, 0.9)),
                        Result("split", 256, cells(1, 1, 1)))  # fmt: skip
    assert recommend([near, far], 1024).startswith("Recommended: pi. Usable length: passkey 1,024 tokens")
    text = recommend([near, far, split], 1024)
    assert text.startswith("Recommended: split.")
    assert "With one vector per document: pi." in text


def test_the_quick_measure_stops_at_the_window_and_within_its_time():
    usable, tried = t.quick_reach(load_encoder(max_tokens=512), documents=5)
    assert tried == 256
    assert usable in (256, None)
    assert t.quick_reach(HashingEncoder(16, 5000), documents=3, seconds=0.0)[1] == 256


@pytest.mark.slow
@pytest.mark.parametrize(("options", "shown"), [((), True), (("--quiet",), False)], ids=["plain", "quiet"])
def test_index_prints_the_usable_length_before_it_reads_with_an_extension(corpus_file, tmp_path, options, shown):
    extending = ["--extend", "pi", "--target-tokens", "1024"]
    arguments = ["index", corpus_file, "--out", tmp_path / "ix", *extending, *options]
    result = CliRunner().invoke(whole, [str(a) for a in arguments])
    assert result.exit_code == 0, result.stderr
    assert ("usable length, in a quick passkey test up to 1,024 tokens" in result.stderr) is shown


def test_the_command_line_knows_both_commands():
    assert "--methods" in CliRunner().invoke(whole, ["advise", "--help"], env={"COLUMNS": "200"}).stdout
    assert "--temperatures" in CliRunner().invoke(whole, ["eval", "collapse", "--help"], env={"COLUMNS": "200"}).stdout


def test_layer_states_end_in_what_the_encoder_pools():
    encoder = load_encoder(temperature=0.8)
    text = "Attention is a mean. It damps what differs."
    layers = next(iter(layer_states(encoder, [text])))
    assert len(layers) == 7
    pooled = layers[-1].mean(axis=0)
    expected = encoder.encode_documents([text], level=Level.DOC).documents[0]
    assert np.allclose(pooled / np.linalg.norm(pooled), expected, atol=1e-5)
    with pytest.raises(UsageError, match="no layers"):
        next(iter(layer_states(HashingEncoder(8, 16), [text])))


def test_eval_collapse_measures_every_bin_and_temperature(corpus_file, tmp_path):
    found = asked("eval", "collapse", corpus_file, "--temperatures", "1,0.7", "--bins", "0,64,128", "--prefixes",
                  "--sample", 1, "--plot", tmp_path)  # fmt: skip
    assert [(row["temperature"], row["first"]) for row in found["bins"]] == [
        (temperature, first) for temperature in (1.0, 0.7) for first in (0, 64, 128)
    ]
    measured = [row for row in found["bins"] if row["documents"] > 1]
    assert measured
    for row in measured:
        assert -1 <= row["cosine"] <= 1
        assert row["variance"] == pytest.approx(
            (1 - row["cosine"]) * (row["documents"] - 1) / row["documents"], abs=1e-5
        )
        assert all(0 < value <= 1 for value in row["energy"])
    assert (tmp_path / "collapse.png").stat().st_size > 10_000


@pytest.mark.parametrize("arguments", [["--temperatures", "0"], ["--temperatures", "warm"], ["--bins", "0,9,3"]])
def test_eval_collapse_refuses_what_cannot_be(corpus_file, arguments):
    assert asked("eval", "collapse", corpus_file, *arguments, code=2)["error"]["type"] == "UsageError"


def test_methods_take_parameters():
    assert t.parse("pi+temperature=0.8+original_tokens=256") == ("pi", {"temperature": 0.8, "original_tokens": 256})
    assert t.parse("split") == ("split", {})


def test_a_passkey_cell_reports_tokens_read():
    trial = t.Trial("truncate", HashingEncoder(16, 64), Level.DOC, OverflowPolicy.TRUNCATE)
    cell = t.measure(trial, passkey(256, documents=3, queries=2))
    assert cell.tokens > 180
    assert cell.read == pytest.approx(64 / cell.tokens, abs=0.02)
