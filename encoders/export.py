"""An encoder as a model folder: it loads again here, and in sentence-transformers.

::

    config.json  tokenizer.json  model.safetensors ...   copied, byte for byte
    1_Pooling/  2_Dense/                                  as the encoder has them
    config_sentence_transformers.json                     prompts
    sentence_bert_config.json                             window, lower-casing
    modules.json                                          the chain; of an extended encoder one class of ours
    unabridged_extension.json                             only of an extended encoder
    unabridged_split.json                                 only of an encoder that cuts source code

The fingerprint of what is loaded is the encoder's own.  What belongs to a use and not to a model is not saved, and
is passed to ``load_encoder`` again: overlap, truncate_dim, precision, backend and device.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unabridged.contracts import JSON
from unabridged.encoders._extension_file import SavedExtension, write_extension
from unabridged.encoders._hf import POOLING_FLAGS, POOLING_NAMES, TOKENIZER_FILES, ModelFolder, weight_files
from unabridged.encoders.code.saved import write_split
from unabridged.encoders.code.split import CodeSplitter
from unabridged.encoders.extension import Extension
from unabridged.encoders.prompts import DOCUMENT_NAMES, QUERY_NAMES
from unabridged.files import check_free, disk_errors

MODULE = "unabridged.encoders.st.ExtendedTransformer"
"""The class that sentence-transformers loads for an extended encoder; it computes the whole chain."""

_MODELS = "sentence_transformers.models"


@dataclass(frozen=True, slots=True)
class Export:
    """What is written: a folder's model, and what an encoder makes of it."""

    folder: ModelFolder
    extension: Extension
    window: int
    target: int | None
    """The window that the extension gives by itself; None without a method."""
    query_prompt: str
    document_prompt: str
    code: CodeSplitter | None = None
    """What cuts source code, if anything does."""

    def save(self, path: Path) -> Path:
        """Writes the folder ``path``, as :func:`save_folder` does."""
        return save_folder(path, self.write)

    def write(self, path: Path) -> None:
        """Writes all files into the folder ``path``, which is there."""
        _copy_model(self.folder.path, path)
        chain = _write_chain(self.folder, path)
        if self.extension.is_none:
            _write(path / "modules.json", chain)
        else:
            _write(path / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": MODULE}])
            lowered = None if self.window == self.target else self.window
            write_extension(path, SavedExtension(self.extension, tuple(chain), lowered))
        stated = {"max_seq_length": self.window, "do_lower_case": self.folder.lower}
        _write(path / "sentence_bert_config.json", stated)
        _write(path / "config_sentence_transformers.json", self._prompts())
        if self.code is not None:
            write_split(path, self.code)

    def _prompts(self) -> JSON:
        kept = {name: text for name, text in self.folder.prompts.items() if name not in (*QUERY_NAMES, *DOCUMENT_NAMES)}
        prompts = {**kept, "query": self.query_prompt, "document": self.document_prompt}
        default = self.folder.default_prompt
        if default and default not in prompts.values():
            prompts["default"] = default
        name = next((name for name, text in prompts.items() if text and text == default), None)
        return {"prompts": prompts, "default_prompt_name": name, "similarity_fn_name": "cosine"}


def save_folder(path: Path, write: Callable[[Path], None]) -> Path:
    """The folder ``path`` with what ``write`` puts into it; a kill at any moment leaves nothing by that name.

    Raises:
        UsageError: there is something at ``path`` already.
        DiskFull: the disk is full; what was written is removed.
    """
    check_free(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk_errors(path):
        work = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            write(work)
            work.chmod(0o755)
            work.replace(path)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    return path


def _copy_model(source: Path, target: Path) -> None:
    """Configuration, tokenizer, code and the weights that are read."""
    names = ["config.json", *TOKENIZER_FILES, *(path.name for path in source.glob("*.py"))]
    names += [f"{name}.index.json" for name in ("model.safetensors", "pytorch_model.bin")]
    files = [source / name for name in names if (source / name).is_file()] + weight_files(source)
    for path in files:
        shutil.copyfile(path, target / path.name)


def _write_chain(folder: ModelFolder, target: Path) -> list[dict[str, Any]]:
    """Writes pooling and dense layers, and gives the modules."""
    paths = ["", "1_Pooling"]
    kinds = ["Transformer", "Pooling"]
    _write(target / "1_Pooling" / "config.json", _pooling(folder))
    for spec in folder.dense:
        paths.append(f"{len(paths)}_Dense")
        kinds.append("Dense")
        (target / paths[-1]).mkdir()
        for file in (spec.folder / "config.json", spec.weights):
            shutil.copyfile(file, target / paths[-1] / file.name)
    if folder.normalize:
        paths.append(f"{len(paths)}_Normalize")
        kinds.append("Normalize")
        (target / paths[-1]).mkdir()
    return [
        {"idx": i, "name": str(i), "path": path, "type": f"{_MODELS}.{kind}"}
        for i, (path, kind) in enumerate(zip(paths, kinds, strict=True))
    ]


def _pooling(folder: ModelFolder) -> JSON:
    names = {ours: theirs for theirs, ours in POOLING_NAMES.items()}
    modes = [names[mode] for mode in folder.pooling]
    config: dict[str, JSON] = {"word_embedding_dimension": folder.hidden, "include_prompt": folder.include_prompt}
    if modes == ["landmark"]:
        # No version of sentence-transformers knows it, and by this name each refuses it.
        return {**config, "pooling_mode": "landmark", "landmark_tokens": folder.landmark_tokens}
    if len(modes) == 1:
        # Flags, one per mode, are what every version of sentence-transformers reads.
        return {**config, **{flag: mode == modes[0] for flag, mode in POOLING_FLAGS.items()}}
    return {**config, "pooling_mode": modes}


def _write(path: Path, content: JSON) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
