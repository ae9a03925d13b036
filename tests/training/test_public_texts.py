"""Training pairs from packages: what asks for what, and that nothing measured is among it."""

import json
import re
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.eval import local_sets
from unabridged.eval.local_sets.packages import wheel
from unabridged.training.public_texts import ORIGINS, _documented, _headings, _is_code, _passages

BODY = "word " * 30


@pytest.mark.parametrize("packages", ["out", "out/packages", "other/../out"])
def test_packages_never_lie_among_the_pairs(tmp_path, packages):
    line = ["train", "fetch-texts", "--out", str(tmp_path / "out"), "--packages", str(tmp_path / packages)]
    result = CliRunner().invoke(app, [*line, "--output", "json"])
    assert result.exit_code == 2
    assert "out.packages" in json.loads(result.stdout)["error"]["message"]
    assert not list(tmp_path.iterdir())


def test_a_heading_asks_for_the_text_below_it_and_a_short_one_says_what_it_is_part_of():
    page = f"<h1>All about the cache</h1><p>{BODY}</p><h2>Size</h2><p>big {BODY}</p><h2>Too short a text</h2><p>no</p>"
    files = {PurePosixPath("a.html"): page.encode(), PurePosixPath("changelog/b.html"): page.encode()}
    found = dict(_headings(files, None))
    assert list(found) == ["All about the cache", "All about the cache: Size"]
    assert found["All about the cache: Size"].startswith("big word")
    assert "big word" in found["All about the cache"]


def test_a_docstring_asks_for_its_function_without_the_docstring(tmp_path):
    source = 'def add(a, b):\n    """Add two numbers exactly."""\n    c = a + b\n    d = c\n    return d\n'
    archive = {"p/m.py": source, "p/tests/t.py": source, "p/broken.py": "def (", "p/readme.txt": source}
    with zipfile.ZipFile(tmp_path / "p-1-py3-none-any.whl", "w") as file:
        for name, text in archive.items():
            file.writestr(name, text)
    assert list(_documented(wheel("p==1", tmp_path, _is_code))) == [
        ("Add two numbers exactly.", "def add(a, b):\n    c = a + b\n    d = c\n    return d")
    ]


def test_a_sentence_asks_for_the_passage_that_it_was_taken_out_of():
    text = " ".join(f"Sentence number {n} has just about enough words to be chosen." for n in range(60))
    found = list(_passages(text))
    whole = text.replace(".", "").split()
    assert sum(len(a.split()) + len(p.split()) for a, p in found) == len(whole)
    assert all(asked not in passage for asked, passage in found)


def test_no_source_is_one_that_a_measured_set_is_built_from():
    folder = Path(local_sets.__file__).parent
    code = "\n".join(path.read_text() for path in folder.glob("*.py") if path.name != "packages.py")
    quoted = set(re.findall(r'"([^"\n]+)"', code))
    assert {"anarchism", "perl-doc"} <= quoted  # what the sets are built from is found this way
    for name, origin in ORIGINS.items():
        package = origin.package.split()[1]
        assert not any(package.partition("@0")[0] in text for text in quoted), name
        assert origin.licence
