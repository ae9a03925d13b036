"""docs/scale.md says what the command says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def tables():
    spec = importlib.util.spec_from_file_location("scale_tables", ROOT / "benchmarks" / "scale_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_table_of_the_page_is_what_plan_prints_now() -> None:
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert page.count("<!-- plan\n") == page.count("<!-- end -->") >= 5
    assert tables().written(page) == page, "run: python benchmarks/scale_tables.py"


def test_a_table_that_was_typed_is_replaced() -> None:
    spec = "tokens; vectors\nten: --documents 10 --tokens-per-document 5\n"
    page = f"before\n<!-- plan\n{spec}-->\n| typed |\n<!-- end -->\nafter"
    new = tables().written(page)
    assert "| typed |" not in new
    assert "| tokens | 50 |" in new
    assert "| vectors | 20 |" in new
    assert "| fits | yes |" in new
    assert new.startswith("before\n")
    assert new.endswith("<!-- end -->\nafter")
    assert tables().written(new) == new
