"""A Mamba encoder as a model folder: it loads again here, and in sentence-transformers through this package.

::

    config.json  tokenizer.json  model.safetensors ...   copied, byte for byte
    unabridged_mamba.json                                 carry, size of a segment, width that is kept
    unabridged_split.json                                 only of an encoder that cuts source code
    1_Pooling/  config_sentence_transformers.json         pooling, prompts
    modules.json  unabridged_extension.json               one class of ours, and the chain that it computes

sentence-transformers by itself would neither close a text with the token behind which the vector is read, nor read
on in blocks: there ``SentenceTransformer(folder, trust_remote_code=True)`` computes with this package.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from unabridged.encoders._extension_file import SavedExtension, write_extension
from unabridged.encoders._hf import TOKENIZER_FILES, ModelFolder
from unabridged.encoders.export import MODULE, Export, save_folder
from unabridged.encoders.extension import NO_EXTENSION
from unabridged.encoders.mamba.settings import Choices


@dataclass(frozen=True, slots=True)
class MambaExport:
    """What is written: a folder's model, and what was chosen about it."""

    chosen: Choices
    words: ModelFolder
    """Where the tokenizer lies."""

    def save(self, path: Path) -> Path:
        """Writes the folder ``path``, as :func:`unabridged.encoders.export.save_folder` does."""
        return save_folder(path, self.write)

    def write(self, path: Path) -> None:
        """Writes all files into the folder ``path``, which is there."""
        chosen = self.chosen
        folder = replace(chosen.folder, normalize=chosen.normalize)
        plain = Export(folder, NO_EXTENSION, chosen.saved.max_tokens, None, *chosen.prompts, chosen.code)
        plain.write(path)
        for name in TOKENIZER_FILES:
            if (self.words.path / name).is_file():
                shutil.copyfile(self.words.path / name, path / name)
        chain = json.loads((path / "modules.json").read_text(encoding="utf-8"))
        write_extension(path, SavedExtension(NO_EXTENSION, tuple(chain)))
        _write(path / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": MODULE}])
        # Not the size of a segment: for sentence-transformers that would be where a text is cut.
        _write(path / "sentence_bert_config.json", {"do_lower_case": folder.lower})
        chosen.saved.write(path)


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
