"""Tiny language models, built once for all tests of this folder."""

import importlib.util
from pathlib import Path

import pytest

from tests_support import one_thread  # noqa: F401  a fixture for all that is here

_SPEC = importlib.util.spec_from_file_location(
    "tiny_language_models", Path(__file__).with_name("tiny_language_models.py")
)
_TINY = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_TINY)


@pytest.fixture(scope="session")
def tiny_lms():
    return _TINY


@pytest.fixture(scope="session")
def tokenizers_by_name(tiny_lms):
    return {"byte level": tiny_lms.byte_tokenizer(), "sentence piece": tiny_lms.sentence_piece_tokenizer()}


@pytest.fixture(scope="session")
def llama_folder(tiny_lms, tmp_path_factory):
    return tiny_lms.llama(tmp_path_factory.mktemp("llama") / "model")


@pytest.fixture(scope="session")
def tiny_model(llama_folder):
    from unabridged.rankers.lm.local import LocalModel

    return LocalModel.load(llama_folder, device="cpu")


_SERVER_SPEC = importlib.util.spec_from_file_location("scripted_server", Path(__file__).with_name("scripted_server.py"))
_SERVER = importlib.util.module_from_spec(_SERVER_SPEC)
_SERVER_SPEC.loader.exec_module(_SERVER)


@pytest.fixture(scope="session")
def scripted():
    return _SERVER
