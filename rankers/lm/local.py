"""A language model with local weights, by transformers: float32 on a CPU, bfloat16 on a GPU.

Every prompt is measured before any forward pass; the same prompt and sampling give the same answer.  Keys and values
of a shared beginning are computed once, which changes the numbers by rounding only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from threading import Event, RLock
from typing import Any

from unabridged._extras import require
from unabridged.contracts import JSON
from unabridged.encoders._devices import one_device
from unabridged.encoders._hashes import canonical_sha256, files_sha256
from unabridged.encoders._torch import PRECISIONS, best_device, quiet
from unabridged.encoders.batching import CPU_BATCH_TOKENS, GPU_BATCH_TOKENS, cache_bytes, room, token_bytes
from unabridged.errors import ContextOverflow, MissingFile, ModelError, UsageError
from unabridged.halving import MemoryUse, TokenCap, ran_out
from unabridged.rankers.lm.adapters import Adapter, apply
from unabridged.rankers.lm.chat import ChatFormat
from unabridged.rankers.lm.constrained import TokenGrammar
from unabridged.rankers.lm.contracts import Capabilities, Completion, Constraint, Outcome, Prompt, Sampling
from unabridged.rankers.lm.distribution import EntropyReader
from unabridged.rankers.lm.lanes import Weights
from unabridged.rankers.lm.letters import encodable
from unabridged.rankers.lm.likelihood import score_continuations
from unabridged.rankers.lm.streaming import written
from unabridged.rankers.lm.vocabulary import Vocabulary
from unabridged.rankers.lm.writing import Writer
from unabridged.room import free_bytes, release

LAYOUT = 1
"""Raised when the way that prompts are read or answers are written changes, so that cached answers are not reused."""
NO_LIMIT = int(1e30)
"""Tokens by which transformers says that a tokenizer has no limit."""


class LocalModel:
    """Satisfies :class:`~unabridged.rankers.lm.contracts.LanguageModel` and ``Likelihood``; safe to share by threads.

    ``batch_tokens`` is how many tokens go through the model together; None: one prompt after another on a CPU, and
    65,536 on a GPU.  ``context`` is the most tokens of prompt and answer, where fewer are wanted than the model has
    positions for.  ``template_options`` are for the chat template.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        folder: Path,
        batch_tokens: int | None = None,
        context: int | None = None,
        template_options: Mapping[str, JSON] | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.chat = ChatFormat(tokenizer, template_options)
        self.vocabulary = Vocabulary(tokenizer)
        self._name = name
        self._folder = folder
        self._added: str | None = None
        if context is not None and context < 1:
            raise UsageError(f"context={context}: a prompt and its answer have at least one token.")
        self._most = context
        self._weights = Weights(model)
        on_gpu = self._weights.device.startswith("cuda")
        writing = batch_tokens or (GPU_BATCH_TOKENS if on_gpu else 1)
        reading = batch_tokens or (GPU_BATCH_TOKENS if on_gpu else CPU_BATCH_TOKENS)
        self._writer = Writer(self._weights, self.vocabulary, self.ends, self._cap(writing, keeps=True))
        self._reader = EntropyReader(self._weights, self._writer.held, self.ends, self._cap(reading, keeps=False))

    def _cap(self, tokens: int, *, keeps: bool) -> TokenCap:
        """``tokens`` together, or as many as free memory has room for; ``keeps``: with their keys and values."""
        device, half = self._weights.device, self.model.dtype.itemsize < 4
        config = self.model.config.get_text_config().to_dict()
        free, each = free_bytes(device), token_bytes(config, half=half)
        cap = TokenCap(tokens, device, free)
        most = room(free, None if each is None else each + keeps * cache_bytes(config, half=half), device)
        if most is not None:
            cap.bound(most)
        return cap

    def memory_report(self) -> tuple[MemoryUse, ...]:
        """What memory did to the batches of answers, and to those of entropies."""
        return self._writer.cap.use, self._reader.cap.use

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        name: str | None = None,
        device: str | None = None,
        precision: str | None = None,
        batch_tokens: int | None = None,
        context: int | None = None,
        template_options: Mapping[str, JSON] | None = None,
        adapter: Adapter | None = None,
    ) -> LocalModel:
        """The model in ``folder`` (config.json, safetensors, tokenizer); runs no code that lies in it.

        ``adapter``: low-rank additions that are put into its weights.  ``device``: None or ``auto`` for the best there
        is; :class:`~unabridged.errors.UsageError` for one that cannot be used here, before any weight is read.
        """
        if not (folder / "config.json").is_file():
            raise MissingFile(f"{folder} has no config.json, so it is no model folder.")
        transformers = require("transformers", extra="llm-local", purpose="local language models")
        torch = require("torch", extra="llm-local", purpose="local language models")
        device = one_device(device) or best_device()
        precision = precision or ("bfloat16" if device.startswith("cuda") else "float32")
        if precision not in PRECISIONS:
            raise UsageError(f"precision={precision!r}; a language model computes in {', '.join(PRECISIONS)}.")
        here = {"local_files_only": True, "trust_remote_code": False}
        try:
            with quiet(transformers):
                tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), **here)
                model = transformers.AutoModelForCausalLM.from_pretrained(
                    str(folder), dtype=getattr(torch, precision), use_safetensors=True, **here
                )
        except (OSError, ValueError, KeyError) as error:
            raise MissingFile(
                f"{folder} could not be loaded as a causal language model with safetensors weights: {error}"
            ) from error
        # Lengths are checked here, against the model's context; a tokenizer warns of texts that are only counted.
        tokenizer.model_max_length = NO_LIMIT
        if adapter is not None:
            apply(adapter, model)
        model = model.to(device).eval()
        named = name or str(folder)
        made = cls(
            model,
            tokenizer,
            name=named,
            folder=folder,
            batch_tokens=batch_tokens,
            context=context,
            template_options=template_options,
        )
        made._added = None if adapter is None else adapter.sha256
        return made

    @property
    def lock(self) -> RLock:
        """Held while the model computes; for callers that use :attr:`model` themselves."""
        return self._writer.lock

    @property
    def name(self) -> str:
        """What it was loaded by."""
        return self._name

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over weights, configuration, tokenizer, chat template and precision."""
        weights = sorted(self._folder.glob("*.safetensors"))
        rest = [self._folder / name for name in ("config.json", "tokenizer.json", "tokenizer_config.json")]
        facts = {
            "weights": files_sha256(weights),
            "files": files_sha256([path for path in rest if path.is_file()]),
            "chat": self.chat.facts,
            "precision": str(self.model.dtype),
            "layout": LAYOUT,
        }
        if self._added is not None:
            facts["adapter"] = self._added
        return canonical_sha256(facts)

    @property
    def capabilities(self) -> Capabilities:
        """Constraints by construction, every log-probability, continuation of the assistant's message."""
        return Capabilities(
            constrained=True,
            structured=False,
            logprobs=int(self.model.config.get_text_config().vocab_size),
            context=self.context,
            prefix=True,
        )

    @property
    def context(self) -> int | None:
        """Tokens that the model has positions for, or fewer where that was asked; None without a limit."""
        config = self.model.config.get_text_config()
        for key in ("max_position_embeddings", "n_positions", "max_sequence_length"):
            value = getattr(config, key, None)
            if isinstance(value, int) and value > 0:
                return value if self._most is None else min(value, self._most)
        return self._most

    @cached_property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer: the tokenizer's, and those that the model's generation settings name."""
        named = getattr(self.model.generation_config, "eos_token_id", None)
        listed = named if isinstance(named, list) else [named]
        return frozenset(int(token) for token in [*listed, self.tokenizer.eos_token_id] if token is not None)

    def ids(self, prompt: Prompt) -> list[int]:
        """The tokens of a prompt, as the model reads them."""
        return self.chat.ids(prompt)

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens of the prompt, chat template included."""
        return len(self.ids(prompt))

    def count_texts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text alone."""
        return [len(self._encode(text)) for text in texts]

    def cut(self, text: str, tokens: int) -> str:
        """The longest beginning of at most ``tokens`` tokens that the tokenizer's own boundaries allow."""
        found = self.tokenizer(encodable(text), add_special_tokens=False, return_offsets_mapping=True)
        offsets = found["offset_mapping"]
        if len(offsets) <= tokens:
            return text
        # A letter of several tokens is in or out as a whole; what is cut may split otherwise on its own.
        end = offsets[tokens][0]
        while end > 0 and len(self._encode(text[:end])) > tokens:
            end -= 1
        return text[:end]

    def score(self, prefixes: Sequence[Prompt], continuations: Sequence[str]) -> list[float]:
        """Log-probability of each continuation as the answer to the prompt beside it, summed over its tokens.

        Prompt and continuation are joined as tokens.  :class:`ContextOverflow` names the first that does not fit the
        model; NaN stands for one that memory has no room for.
        """
        pairs = [
            (self.ids(prompt), self.vocabulary.encode(text))
            for prompt, text in zip(prefixes, continuations, strict=True)
        ]
        for ids, more in pairs:
            if (error := self._overflow(len(ids), len(more))) is not None:
                raise error
        with self.lock:
            try:
                return score_continuations(self._writer.lane, pairs)
            except Exception as error:
                if not ran_out(error):
                    raise
            return [self._alone(pair) for pair in pairs]

    def _alone(self, pair: tuple[list[int], list[int]]) -> float:
        """The score of a pair with nothing held beside it; NaN where memory does not suffice even so."""
        self._writer.lane.forget()
        release(self._weights.device)
        try:
            return score_continuations(self._writer.lane, [pair])[0]
        except Exception as error:
            if not ran_out(error):
                raise
            self._writer.cap.failed_alone()
            self._writer.lane.forget()
            return math.nan

    def entropies(
        self, prompts: Sequence[Prompt], *, steps: int = 1, cancel: Event | None = None
    ) -> list[tuple[float, ...] | ModelError]:
        """Entropies of the next token and of the ``steps - 1`` that greedily follow, in nats, by prompt.

        Equal prompts are read once.  :class:`ContextOverflow` for those that do not fit, before any forward pass.
        """
        if steps < 1:
            raise UsageError(f"steps={steps}: an entropy is that of at least one token.")
        ids = [tuple(self.ids(prompt)) for prompt in prompts]
        first = {row: place for place, row in reversed([*enumerate(ids)])}
        found: dict[int, tuple[float, ...] | ModelError] = {}
        for place in first.values():
            if (error := self._overflow(len(ids[place]), steps - 1)) is not None:
                found[place] = error
        found |= dict(self._reader.read(ids, [one for one in first.values() if one not in found], steps, cancel))
        return [found[first[row]] for row in ids]

    def complete(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        constraint: Constraint | None = None,
        cancel: Event | None = None,
    ) -> list[Outcome]:
        """One outcome per prompt; those that do not fit are :class:`ContextOverflow` before any forward pass.

        With a constraint ``max_tokens`` does not cut the answer, which ends by itself; ``min_tokens`` and ``stop``
        have no meaning then and are refused.
        """
        grammar = None if constraint is None else TokenGrammar(constraint, self.vocabulary)
        if grammar is not None and (sampling.min_tokens or sampling.stop):
            raise UsageError("An answer under a constraint ends by itself: leave min_tokens and stop out.")
        ids = [self.ids(prompt) for prompt in prompts]
        longest = sampling.max_tokens if grammar is None else grammar.longest
        outcomes: list[Outcome | None] = [self._overflow(len(row), longest) for row in ids]
        rows = [i for i, outcome in enumerate(outcomes) if outcome is None]
        for row, outcome in self._writer.write(ids, rows, sampling, grammar, cancel):
            outcomes[row] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    def stream(self, prompt: Prompt, sampling: Sampling, *, cancel: Event | None = None) -> Iterator[str | Completion]:
        """The answer in pieces; :class:`ContextOverflow` at once where it does not fit."""
        ids = self.ids(prompt)
        if (error := self._overflow(len(ids), sampling.max_tokens)) is not None:
            raise error
        return written(self._writer, ids, sampling, cancel)

    def _overflow(self, prompt: int, answer: int) -> ContextOverflow | None:
        limit = self.context
        if limit is None or prompt + answer <= limit:
            return None
        return ContextOverflow(
            f"A prompt of {prompt} tokens and an answer of up to {answer} do not fit into the {limit} tokens of "
            f"{self.name}. Show less of each candidate, or rank them in smaller windows.",
            limit=limit,
            got=prompt + answer,
        )

    def _encode(self, text: str) -> list[int]:
        return [int(number) for number in self.tokenizer.encode(encodable(text), add_special_tokens=False)]
