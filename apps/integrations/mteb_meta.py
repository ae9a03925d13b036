"""Who is evaluated: a name for people, and a revision that changes with everything that may change a score.

mteb's cache knows a result by name and revision alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import unabridged
from unabridged._extras import require
from unabridged.contracts import Encoder
from unabridged.encoders._resolve import EMBEDDED
from unabridged.manifest import fingerprint

EMBEDDED_NAME = "all-MiniLM-L6-v2"
REVISION_CHARACTERS = 40
"""As many as a commit of the hub has."""


def revision_of(encoder: Encoder, system: Mapping[str, Any]) -> str:
    """40 hexadecimal digits over the encoder's passport, the rest of the ``system`` and the release of this package."""
    whole = {"encoder": encoder.passport.fingerprint, "system": dict(system), "unabridged": unabridged.__version__}
    return fingerprint(whole)[:REVISION_CHARACTERS]


def name_of(encoder: Encoder, suffix: str) -> str:
    """``unabridged/SOURCE-SUFFIX``; mteb wants an organisation and makes a folder of it."""
    source = encoder.passport.source
    source = EMBEDDED_NAME if source == EMBEDDED else Path(source).name or "encoder"
    return f"unabridged/{re.sub(r'[^A-Za-z0-9.]+', '-', source).strip('-')}-{suffix}"


def model_meta(encoder: Encoder, system: Mapping[str, Any], kinds: list[str], name: str) -> Any:
    """A ``ModelMeta``; what the encoder cannot know of itself (licence, training data, parameters) is None."""
    module: Any = require("mteb.models.model_meta", extra="eval")
    return module.ModelMeta(
        loader=None,
        name=name,
        revision=revision_of(encoder, system),
        release_date=None,
        languages=None,
        n_parameters=None,
        memory_usage_mb=None,
        max_tokens=float(encoder.window),
        embed_dim=encoder.dim,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=[],
        similarity_fn_name=module.ScoringFunction.DOT_PRODUCT,
        use_instructions=None,
        training_datasets=None,
        model_type=kinds,
    )
