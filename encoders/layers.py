"""Token states after every layer, for measures of what attention does to them; the reference backend computes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from unabridged.contracts import Encoder, Floats
from unabridged.encoders.transformer import TransformerEncoder
from unabridged.errors import UsageError


def layer_states(encoder: Encoder, texts: Sequence[str]) -> Iterator[list[Floats]]:
    """For each text its token states, one ``(L, H)`` float32 per layer, the embeddings' output first.

    A text is read as a document: specials and prompt included, cut at the window, with the encoder's extension and
    temperature.  Texts are computed one by one, so memory holds one of them.

    Raises:
        UsageError: an encoder without layers.
    """
    if not isinstance(encoder, TransformerEncoder):
        raise UsageError(f"{type(encoder).__name__} has no layers; name a transformer model.")
    import torch

    from unabridged.encoders._torch import TorchBackend

    backend = TorchBackend(encoder.folder, plan=encoder.plan)
    before, after = encoder.tokenizer.specials
    for tokens in encoder.tokenizer.encode(texts, encoder.passport.facts["prompts"]["document"]):
        room = encoder.window - len(before) - len(after) - len(tokens.prompt)
        ids = np.concatenate((before, tokens.prompt, tokens.ids[: max(room, 0)], after)).astype(np.int64)
        extended: Any = backend.extended
        reading = contextlib.nullcontext() if extended is None else extended.reading(np.array([len(ids)]))
        with torch.inference_mode(), reading:
            given = torch.from_numpy(ids)[None].to(backend.device)
            states = backend.model(input_ids=given, output_hidden_states=True).hidden_states
        yield [state[0].float().cpu().numpy() for state in states]
