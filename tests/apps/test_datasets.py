"""The commands that make retrieval sets: what they write, print and refuse."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.eval.sets import facts, read_beir

BODY = "\n".join(f"value_{n} = {n}" for n in range(30))


def run(*arguments):
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


def answered(*arguments):
    done = run(*arguments, "--output", "json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A standard library of two modules, and no way to download anything."""
    folder = tmp_path / "lib"
    folder.mkdir()
    for name in ("one", "two"):
        text = f'"""What {name} is for."""\n{BODY}\n\n\ndef f_{name}(x):\n    """Gives {name} back."""\n'
        (folder / f"{name}.py").write_text(text + "    y = x\n    y += 1\n    return y\n")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(folder))
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.usefixtures("library")
def test_local_sets_are_built_and_listed_with_their_hashes(tmp_path):
    answer = answered("fetch-local-sets", "stdlibmod", "stdlibcode", "--out", tmp_path / "out")
    assert [one["name"] for one in answer["sets"]] == ["stdlibmod", "stdlibcode"]
    for one in answer["sets"]:
        assert facts(read_beir(one["folder"])).revision == one["revision"]
        assert (one["documents"], one["queries"]) == (2, 2)
    again = run("fetch-local-sets", "stdlibmod", "stdlibcode", "--out", tmp_path / "out")
    assert again.exit_code == 0
    rows = [line.split() for line in again.stdout.splitlines()]
    assert [row[0] for row in rows] == ["set", "stdlibmod", "stdlibcode"]
    assert rows[1][-1] == answer["sets"][0]["revision"][:16]
    assert again.stderr == "stdlibmod: 2 documents\nstdlibcode: 2 documents\n"


@pytest.mark.usefixtures("library")
def test_a_set_that_cannot_be_built_leaves_the_others_and_says_where_to_put_its_package(tmp_path):
    done = run("fetch-local-sets", "aafaq", "stdlibmod", "--out", tmp_path / "out", "--quiet", "--output", "json")
    assert done.exit_code == 7
    answer = json.loads(done.stdout)
    assert [one["name"] for one in answer["sets"]] == ["stdlibmod"]
    assert "put anarchism_*.deb into" in answer["failed"]["aafaq"]
    alone = run("fetch-local-sets", "aafaq", "--out", tmp_path / "out")
    assert alone.exit_code == 3
    assert "MissingFile" in alone.stderr
    assert alone.stdout == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [(["nosuch"], "there are aafaq, pydoc"), (["aafaq", "--packages", "nowhere"], "--packages nowhere is no folder")],
)
def test_what_cannot_be_is_refused_before_anything_is_built(tmp_path, options, message):
    done = run("fetch-local-sets", "stdlibmod", *options, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()
