"""What the adapters need and do when they are imported, each seen from a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PACKAGES = {
    "langchain": ("langchain_core", "langchain"),
    "llamaindex": ("llama_index", "llamaindex"),
    "haystack": ("haystack", "haystack"),
}


def told_by(code: str, **environment: str):
    kept = {name: value for name, value in os.environ.items() if name != "HAYSTACK_TELEMETRY_ENABLED"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env={**kept, **environment}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def without():
    """What each adapter says where its package is not installed, and what is loaded then."""
    return told_by(
        "import importlib, importlib.util, json, os, sys\n"
        "real = importlib.util.find_spec\n"
        f"absent = {[package for package, _ in PACKAGES.values()]!r}\n"
        "importlib.util.find_spec = lambda name, package=None: None if name in absent else real(name, package)\n"
        "said = {}\n"
        f"for name in {list(PACKAGES)!r}:\n"
        "    try:\n"
        "        importlib.import_module(f'unabridged.apps.integrations.{name}')\n"
        "    except ImportError as error:\n"
        "        said[name] = [type(error).__name__, str(error)]\n"
        "set_ = os.environ.get('HAYSTACK_TELEMETRY_ENABLED')\n"
        "print(json.dumps([said, sorted({m.partition('.')[0] for m in sys.modules}), set_]))"
    )


@pytest.mark.parametrize("name", PACKAGES)
def test_an_adapter_without_its_package_names_the_pip_command(without, name):
    package, extra = PACKAGES[name]
    kind, message = without[0][name]
    assert kind == "MissingExtra"
    assert message.startswith(f"{package} is not installed")
    assert f'pip install "unabridged[{extra}]"' in message


def test_what_the_adapters_share_loads_no_framework_and_nothing_is_left_in_the_environment(without):
    _, loaded, left = without
    assert "unabridged" in loaded
    assert not {"langchain_core", "llama_index", "haystack", "torch", "transformers", "faiss"} & set(loaded)
    assert left is None


def test_haystack_by_the_adapter_has_no_telemetry_writes_no_file_and_opens_no_connection(tmp_path):
    telemetry, left, connections, files = told_by(
        "import json, os, pathlib, socket\n"
        "tried = []\n"
        "socket.socket.connect = lambda self, address: tried.append(str(address))\n"
        "import unabridged.apps.integrations.haystack as ours\n"
        "from haystack import Pipeline\n"
        "from haystack.telemetry import _telemetry\n"
        "pipeline = Pipeline()\n"
        "pipeline.add_component('packer', ours.UnabridgedPacker(top_k=1))\n"
        "pipeline.run({'packer': {'query': 'a', 'documents': []}})\n"
        "files = [str(one) for one in pathlib.Path.home().rglob('*haystack*')]\n"
        "left = os.environ.get('HAYSTACK_TELEMETRY_ENABLED')\n"
        "print(json.dumps([repr(_telemetry.telemetry), left, tried, files]))",
        HOME=str(tmp_path),
    )
    assert (telemetry, left, connections, files) == ("None", None, [], [])
