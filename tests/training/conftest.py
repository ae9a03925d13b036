"""A tiny BERT and a tiny corpus for training tests."""

import importlib.util
from pathlib import Path

import pytest

_PATH = Path(__file__).parents[1] / "encoders" / "tiny_models.py"
_SPEC = importlib.util.spec_from_file_location("tiny_models_for_training", _PATH)
_TINY = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_TINY)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny matrices on one thread; several would only wait for one another."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory):
    return _TINY.bert(tmp_path_factory.mktemp("bert") / "model", prompts={"query": "query: "})


@pytest.fixture(scope="session")
def roberta_folder(tmp_path_factory):
    pooling = {"embedding_dimension": 32, "pooling_mode": "cls", "include_prompt": True}
    return _TINY.roberta(tmp_path_factory.mktemp("roberta") / "model", pooling=pooling)
