"""A tiny BERT and a tiny corpus for training tests."""

import importlib.util
from pathlib import Path

import pytest

from tests_support import one_thread  # noqa: F401  a fixture for all that is here

_PATH = Path(__file__).parents[1] / "encoders" / "tiny_models.py"
_SPEC = importlib.util.spec_from_file_location("tiny_models_for_training", _PATH)
_TINY = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_TINY)


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory):
    return _TINY.bert(tmp_path_factory.mktemp("bert") / "model", prompts={"query": "query: "})


@pytest.fixture(scope="session")
def roberta_folder(tmp_path_factory):
    pooling = {"embedding_dimension": 32, "pooling_mode": "cls", "include_prompt": True}
    return _TINY.roberta(tmp_path_factory.mktemp("roberta") / "model", pooling=pooling)
