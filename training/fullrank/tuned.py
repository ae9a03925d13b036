"""What the training loop needs to teach a causal model lists, whatever is learned of a list.

The lists of a step go through the model one by one, and their gradients are added: one list's activations are held at a
time.  Logits are computed where something is predicted that counts, and nowhere else.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args

import numpy as np

from unabridged._extras import require
from unabridged.contracts import JSON, Rows
from unabridged.errors import UsageError

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item", bound=Sized)
Method = Literal["lora", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What changes in the model, and what is made small."""

    method: Method = "lora"
    """``lora``: low-rank additions to every linear layer (Hu et al. 2021, arXiv 2106.09685); ``full``: every weight."""
    rank: int = 16
    """Of the additions."""
    scale: float = 32.0
    """LoRA's alpha: additions are multiplied by ``scale / rank``."""
    batch: int = 8
    """Lists of a step."""
    alpha: float = 1.0
    """Weight of separators and of the end in the importance-aware loss."""
    weighted: bool = True
    """Whether earlier ranks weigh more; otherwise the plain language model loss."""
    first: float = 0.0
    """Weight of the RankNet loss over the ids at the first position, beside that of the words (FIRST, arXiv 2406.15657,
    has 10): for rankers that are asked for one token.  The ids must be one token each, as letters are."""
    noise: float = 0.0
    """NEFTune's alpha (Jain et al. 2023, arXiv 2310.05914): uniform noise of ``noise / sqrt(T D)`` on word vectors."""
    bfloat16: bool | None = None
    """Whether matrices are multiplied in bfloat16; None: on a CUDA device."""
    seed: int = 0
    gradient_checkpointing: bool = False
    """Layers are computed again on the way back: less memory, a third more time."""

    def __post_init__(self) -> None:
        if self.method not in get_args(Method) or min(self.rank, self.batch) < 1 or not 0 < self.scale < math.inf:
            raise UsageError(
                f"method={self.method!r}, rank={self.rank}, scale={self.scale}, batch={self.batch}: the method is lora "
                "or full, the numbers are above 0."
            )
        if not 0 <= self.alpha <= 1 or not 0 <= self.noise < math.inf or not 0 <= self.first < math.inf:
            raise UsageError(
                f"alpha={self.alpha} lies between 0 and 1, noise={self.noise} and first={self.first} are 0 or more."
            )

    @property
    def facts(self) -> dict[str, JSON]:
        """What of it changes what is learned."""
        facts: dict[str, JSON] = asdict(self)
        del facts["gradient_checkpointing"]
        return facts


class TunedTask(ABC, Generic[Item]):
    """A causal model that learns lists; satisfies :class:`~unabridged.training.loop.Task`.  A list's length: tokens."""

    def __init__(self, model: Any, examples: Sequence[Item], tuning: Tuning) -> None:
        """``model`` is a Hugging Face causal model, which is changed; the additions are drawn by the tuning's seed."""
        if not examples:
            raise UsageError("There is no list to learn from.")
        self._examples = list(examples)
        self._tuning = tuning
        self.model = _prepared(model, tuning)
        self._named = {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    @property
    def parameters(self) -> Mapping[str, torch.Tensor]:
        """The tensors that change."""
        return self._named

    def batches(self, epoch: int) -> list[Rows]:
        """All examples in the order of (seed, epoch)."""
        order = np.random.default_rng((self._tuning.seed, epoch)).permutation(len(self._examples))
        return [order[at : at + self._tuning.batch] for at in range(0, len(order), self._tuning.batch)]

    def tokens(self, rows: Rows) -> int:
        """Tokens that go through the model."""
        return sum(len(self._examples[int(row)]) for row in rows)

    def loss(self, epoch: int, number: int, rows: Rows) -> torch.Tensor:
        """The mean of the lists' losses.

        Gradients are added to the parameters here, list by list; the result has nothing left behind it.
        """
        import torch

        total = 0.0
        self.model.train()
        for place, row in enumerate(rows):
            with self._noisy((self._tuning.seed, epoch, number, place)):
                loss = self.example_loss(self._examples[int(row)]) / len(rows)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return torch.tensor(total, requires_grad=True)

    @abstractmethod
    def example_loss(self, example: Item) -> torch.Tensor:
        """The loss of one list, a scalar."""

    def products(self) -> Any:
        """A context in which matrices are multiplied as the tuning says."""
        import torch

        kind = self.model.device.type
        wanted = self._tuning.bfloat16
        return torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda" if wanted is None else wanted)

    def mean_loss(self, examples: Sequence[Item]) -> float:
        """The mean loss over lists that are not learned from."""
        import torch

        self.model.eval()
        with torch.no_grad():
            return float(np.mean([float(self.example_loss(one)) for one in examples]))

    @contextmanager
    def _noisy(self, key: tuple[int, ...]) -> Iterator[None]:
        """Word vectors with noise that is drawn by ``key``."""
        if not self._tuning.noise:
            yield
            return
        import torch

        seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))

        def disturb(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            del module, inputs
            made = torch.Generator().manual_seed(seed)
            size = self._tuning.noise / math.sqrt(output.shape[-2] * output.shape[-1])
            drawn = (torch.rand(output.shape, generator=made) * 2 - 1) * size
            return output + drawn.to(output)

        hook = self.model.get_input_embeddings().register_forward_hook(disturb)
        try:
            yield
        finally:
            hook.remove()


def merged(task: TunedTask[Any]) -> Any:
    """The model with what was learned in its weights; the task is used up."""
    return task.model.merge_and_unload() if hasattr(task.model, "merge_and_unload") else task.model


def _prepared(model: Any, tuning: Tuning) -> Any:
    torch = require("torch", extra="llm-local", purpose="training")
    if tuning.gradient_checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    if tuning.method == "full":
        return model.requires_grad_(True)
    peft = require("peft", extra="train", purpose="low-rank additions")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft asks transformers by a name that transformers gives up; nothing is to be done about it here.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        torch.manual_seed(tuning.seed)
        return peft.get_peft_model(
            model,
            peft.LoraConfig(
                r=tuning.rank, lora_alpha=tuning.scale, lora_dropout=0.0, target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
        )  # fmt: skip
