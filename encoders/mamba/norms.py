"""Normalisations of a Mamba block, at least float32 inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unabridged._extras import require

if TYPE_CHECKING:
    import torch
    from torch.nn import functional
else:
    torch = require("torch", extra="torch", purpose="Mamba encoders")
    from torch.nn import functional


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, groups: int = 1) -> torch.Tensor:
    """``weight x / sqrt(mean(x^2) + eps)`` of ``(T, C)``, the mean over each of ``groups`` runs of channels."""
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    weight = weight.to(exact.dtype)
    if groups == 1:
        return functional.rms_norm(exact, (x.shape[1],), weight, eps)
    size = x.shape[1] // groups
    normed = functional.rms_norm(exact.reshape(len(x), groups, size), (size,), None, eps)
    scaled: torch.Tensor = normed.view(x.shape) * weight
    return scaled
