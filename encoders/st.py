"""An extended encoder, or a Mamba, inside sentence-transformers, 6 or newer.

::

    encoder.save("folder")
    SentenceTransformer("folder", trust_remote_code=True).encode(texts)

The library asks for ``trust_remote_code`` wherever a folder names a class that is not its own; the code that runs is
this installed package.  One module computes the whole chain, PCW's mean included, so the vectors are this package's.
One vector per text: what is beyond the target is left out, with a warning in the log; a Mamba reads all.  For
inference only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.base.modules.input_module import InputModule

from unabridged.contracts import OverflowPolicy
from unabridged.encoders.load import load_encoder
from unabridged.encoders.mamba.encoder import MambaEncoder
from unabridged.encoders.transformer import TransformerEncoder
from unabridged.errors import UsageError

TEXTS = "texts"


class ExtendedTransformer(InputModule):
    """Texts to ``sentence_embedding`` ``(B, D)`` float32, on the module's device."""

    save_in_root = True

    def __init__(self, path: str | Path, *, backend: str = "auto", precision: str = "float32") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path = Path(path)
        self._backend = backend
        self._precision = precision
        self._encoders: dict[str, TransformerEncoder | MambaEncoder] = {}
        # Follows model.to(device): the module has no parameter of its own.
        self.register_buffer("place", torch.zeros(1), persistent=False)

    @classmethod
    def load(  # type: ignore[override]  # the library passes all by name; what is not listed it would ignore too
        cls, model_name_or_path: str, subfolder: str = "", **options: Any
    ) -> ExtendedTransformer:
        """The module of a folder or hub id; the numeric type is ``model_kwargs={"dtype": ...}``."""
        where = {name: options[name] for name in ("token", "cache_folder", "revision", "local_files_only")}
        path = cls.load_dir_path(model_name_or_path, subfolder=subfolder, **where) or model_name_or_path
        asked: Mapping[str, Any] = options.get("model_kwargs") or {}
        dtype = str(asked.get("dtype") or asked.get("torch_dtype") or "float32").removeprefix("torch.")
        backend = options.get("backend") or "torch"
        # The library's word for "no other runtime asked for": the fastest there is gives the same vectors.
        return cls(path, backend="auto" if backend == "torch" else backend, precision=dtype)

    @property
    def encoder(self) -> TransformerEncoder | MambaEncoder:
        """What computes, on the module's device."""
        device = str(self.place.device)
        if device not in self._encoders:
            found = load_encoder(self.path, device=device, backend=self._backend, precision=self._precision)
            if not isinstance(found, TransformerEncoder | MambaEncoder):
                raise UsageError(f"{self.path} is no folder of a transformer or Mamba encoder.")
            self._encoders[device] = found
        return self._encoders[device]

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **_: Any) -> dict[str, Any]:
        """The texts as they are: tokens are the encoder's affair, since windows are cut from them."""
        strange = next((text for text in inputs if not isinstance(text, str)), None)
        if strange is not None:
            raise UsageError(f"Only texts can be encoded, got {type(strange).__name__}.")
        return {TEXTS: list(inputs), "prompt": prompt or ""}

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """``features`` with ``sentence_embedding``."""
        # A Mamba has no window that a text could exceed: its own segments are read through.
        policy = OverflowPolicy.AGGREGATE if isinstance(self.encoder, MambaEncoder) else OverflowPolicy.WARN
        vectors = self.encoder.encode(features[TEXTS], prompt=features["prompt"], overflow=policy)
        return {**features, "sentence_embedding": torch.from_numpy(vectors).to(self.place.device)}

    @cached_property
    def tokenizer(self) -> Any:  # type: ignore[override]
        """The model's own, as transformers loads it."""
        import transformers

        return transformers.AutoTokenizer.from_pretrained(str(self.path), local_files_only=True)

    @property
    def max_seq_length(self) -> int:
        """Tokens read of a text, specials and prompt included."""
        return self.encoder.window

    def get_embedding_dimension(self) -> int:
        """D."""
        return self.encoder.dim

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Writes the files of the folder into ``output_path``, apart from those that the library writes itself."""
        self.encoder.export.write(Path(output_path))

    def __deepcopy__(self, memo: dict[int, Any]) -> ExtendedTransformer:
        return type(self)(self.path, backend=self._backend, precision=self._precision)
