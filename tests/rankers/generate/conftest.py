"""Models that answer by a script, and tiny ones with random weights."""

import importlib.util
from pathlib import Path

import pytest

from tests_support import one_thread  # noqa: F401  a fixture for all that is here

_SPEC = importlib.util.spec_from_file_location("writing_models", Path(__file__).with_name("writing_models.py"))
_WRITING = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_WRITING)
_TINY_SPEC = importlib.util.spec_from_file_location(
    "tiny_language_models", Path(__file__).parents[1] / "lm" / "tiny_language_models.py"
)
_TINY = importlib.util.module_from_spec(_TINY_SPEC)
_TINY_SPEC.loader.exec_module(_TINY)


@pytest.fixture(scope="session")
def writing():
    return _WRITING


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    from unabridged.rankers.lm.local import LocalModel

    return LocalModel.load(_TINY.llama(tmp_path_factory.mktemp("llama") / "model"), device="cpu")
