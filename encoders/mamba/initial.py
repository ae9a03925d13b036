"""Fresh parameters of a Mamba, by the rules of transformers 5, which are those of ``state-spaces/mamba``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from unabridged.encoders.mamba.config import MambaConfig

if TYPE_CHECKING:
    import torch

SPREAD = 0.02
"""Standard deviation of word vectors and projections: of mamba_ssm's word vectors; transformers' default is 0.1."""
SHORTEST, LONGEST, FLOOR = 1e-3, 1e-1, 1e-4
"""Time steps are drawn log-uniformly between the first two, and are never below the third."""


def initial(config: MambaConfig, seed: int) -> dict[str, torch.Tensor]:
    """Canonical name to float32 tensor on the CPU; the same for the same ``seed``.

    Biases are 0 and scales 1; ``A_log`` is ``log(1..N)`` per channel (``log(1..heads)`` in Mamba-2); the bias of a time
    step is the inverse of softplus of a step; convolution and out_proj are uniform by their fan-in (Kaiming with
    ``a = sqrt(5)``), and out_proj is divided by the square root of the number of layers.
    """
    import torch

    draw = torch.Generator().manual_seed(seed)
    made: dict[str, torch.Tensor] = {}
    for name, shape in config.shapes().items():
        kind = name.rpartition("mixer.")[2]
        if kind == "A_log":
            made[name] = torch.log(torch.arange(1, shape[-1] + 1, dtype=torch.float32)).expand(shape).clone()
        elif kind == "D" or name.endswith(("norm.weight", "norm_f.weight")):
            made[name] = torch.ones(shape)
        elif kind in ("dt_bias", "dt_proj.bias"):
            made[name] = _steps(shape, draw)
        elif name.endswith(".bias"):
            made[name] = torch.zeros(shape)
        elif kind == "dt_proj.weight":
            made[name] = _uniform(shape, config.dt_rank**-0.5, draw)
        elif kind == "conv1d.weight":
            made[name] = _uniform(shape, config.conv**-0.5, draw)
        elif kind == "out_proj.weight":
            made[name] = _uniform(shape, (config.inner * config.layers) ** -0.5, draw)
        else:
            made[name] = torch.randn(shape, generator=draw) * SPREAD
    return made


def _uniform(shape: tuple[int, ...], bound: float, draw: torch.Generator) -> torch.Tensor:
    import torch

    return (torch.rand(shape, generator=draw) * 2 - 1) * bound


def _steps(shape: tuple[int, ...], draw: torch.Generator) -> torch.Tensor:
    import torch

    low, high = math.log(SHORTEST), math.log(LONGEST)
    steps = torch.exp(torch.rand(shape, generator=draw) * (high - low) + low).clamp(min=FLOOR)
    return steps + torch.log(-torch.expm1(-steps))
