"""Vector sets on GPUs: what fits where, which kinds FAISS has there, and thin calls of it.

Decisions are functions of numbers and need no GPU; the modules ``devices``, ``flat``, ``lists``, ``graph`` and
``training`` call FAISS.  Importing this package loads numpy only.
"""

from __future__ import annotations

from unabridged.index.dense.gpu.opening import checked, placed
from unabridged.index.dense.gpu.placement import Placement
from unabridged.index.dense.gpu.request import DeviceRequest, parse_device
from unabridged.index.dense.gpu.trail import Trail, noted

__all__ = ["DeviceRequest", "Placement", "Trail", "checked", "noted", "parse_device", "placed"]
