"""The package as it is laid out: every folder is listed, exports agree, imports stay light."""

import configparser
import json
import subprocess
import sys
from pathlib import Path

import unabridged

ROOT = Path(__file__).parent.parent
FOLDERS = {"core": "unabridged"} | {
    name: f"unabridged.{name}" for name in ("encoders", "index", "retrievers", "rankers", "eval", "training", "apps")
}


def packages_on_disk() -> set[str]:
    found = set()
    for folder, package in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT / folder).parts
            found.add(".".join([package, *parts]))
    return found


def test_setup_cfg_lists_every_package_and_no_other():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert set(config["options"]["packages"].split()) == packages_on_disk()


def test_setup_cfg_maps_every_root_folder():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = [line.split("=") for line in config["options"]["package_dir"].strip().splitlines()]
    assert {folder.strip(): package.strip() for package, folder in lines} == FOLDERS


def test_public_names_are_those_of_the_namespace_and_each_resolves():
    assert unabridged.__all__ == sorted(unabridged.__all__)
    assert set(dir(unabridged)) == {*unabridged.__all__, "__version__"}
    for name in unabridged.__all__:
        assert getattr(unabridged, name) is not None


def test_an_unknown_public_name_is_an_attribute_error():
    assert not hasattr(unabridged, "no_such_name")


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


HEAVY = {
    "torch",
    "transformers",
    "faiss",
    "sentence_transformers",
    "pyarrow",
    "bm25s",
    "scipy",
    "pandas",
    "onnxruntime",
}


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_by("import unabridged") & (HEAVY | {"orjson", "tokenizers"})


def test_every_folder_imports_without_torch_transformers_or_faiss():
    statement = "import " + ", ".join(sorted(packages_on_disk()))
    assert not loaded_by(statement) & HEAVY


def test_reading_a_corpus_and_naming_an_encoder_load_no_torch_and_no_faiss():
    statement = (
        "import unabridged as ub\n"
        "encoder = ub.load_encoder()\nencoder.count_tokens(['a b'])\nencoder.passport\n"
        "ub.read_corpus(r'" + str(ROOT / "README.md") + "')"
    )
    assert not loaded_by(statement) & {"torch", "transformers", "faiss", "sentence_transformers"}


def test_the_import_takes_less_than_the_budget_in_the_best_of_three_runs():
    code = "import time; t = time.perf_counter(); import unabridged; print(time.perf_counter() - t)"
    runs = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout) for _ in range(3)
    ]
    assert min(runs) < 0.2


def test_no_module_is_named_after_the_standard_library():
    shadowing = sys.stdlib_module_names
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            assert path.stem not in shadowing - {"__init__", "__main__"} or path.stem.startswith("_"), path
