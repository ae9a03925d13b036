"""Our recipes as the indexes of other engines: pure functions of a name or factory string and a number of rows.

Source of Milvus's names and settings: its documentation of index types, version 2.6; of pgvector's, its README 0.8.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from unabridged.errors import UsageError
from unabridged.index.dense.factory import Factory, parse
from unabridged.index.recipe import NAMES, lists_for

EXACT_ROWS = 20_000
"""Up to here ``auto`` builds nothing: an exact scan of 30,000 x 384 half-precision vectors took 18 ms."""
HNSW_M, HNSW_BUILD = 16, 64
"""Links per node and candidates while building: pgvector's own defaults, .999 recall at 10 on 30,000 rows."""
MILVUS_ONLY = {"cagra": "GPU_CAGRA", "gpu_cagra": "GPU_CAGRA", "diskann": "DISKANN", "scann": "SCANN"}


@dataclass(frozen=True, slots=True)
class EngineIndex:
    """An index to ask an engine for.  ``note`` says what the engine has in place of what was named."""

    kind: str
    build: Mapping[str, int] = field(default_factory=dict)
    search: Mapping[str, int] = field(default_factory=dict)
    note: str = ""


def milvus_index(recipe: str, rows: int, dim: int) -> EngineIndex:
    """Milvus's index type and settings for a recipe.

    Raises:
        UsageError: a name that is neither a recipe, nor a factory string, nor one of Milvus's own.
    """
    name = recipe.lower()
    if name in MILVUS_ONLY:
        return _milvus_own(MILVUS_ONLY[name])
    if name == "auto":
        name = "flat" if rows <= EXACT_ROWS else "hnsw"
    if name == "flat":
        return EngineIndex("FLAT")
    plan = _factory(name if name in NAMES else recipe, rows, dim)
    if plan.links:
        build = {"M": plan.links, "efConstruction": 128}
        kind = {"SQ8": "HNSW_SQ", "PQ": "HNSW_PQ"}.get(plan.code, "HNSW")
        return EngineIndex(kind, build, {"ef": 128})
    nlist = max(1, min(plan.nlist, 65_536))
    search = {"nprobe": max(8, round(nlist / 64))}
    if not plan.nlist:
        return EngineIndex("FLAT", note=f"{recipe} keeps codes without lists; Milvus has FLAT for it")
    if plan.code == "SQ8":
        return EngineIndex("IVF_SQ8", {"nlist": nlist}, search)
    if plan.code == "PQ":
        return EngineIndex("IVF_PQ", {"nlist": nlist, "m": _subvectors(dim), "nbits": 8}, search)
    if plan.code == "RaBitQ":
        return EngineIndex("IVF_RABITQ", {"nlist": nlist}, search)
    note = "" if plan.code in ("Flat", "") else f"Milvus has no {plan.code} in lists; IVF_FLAT keeps float32"
    return EngineIndex("IVF_FLAT", {"nlist": nlist}, search, note)


def pgvector_index(recipe: str, rows: int, dim: int, widest: int) -> EngineIndex:
    """``exact``, ``hnsw`` or ``ivfflat`` for a recipe; ``widest`` is the width that an index can have.

    Raises:
        UsageError: a name that is neither a recipe nor a factory string.
    """
    name = recipe.lower()
    if name in MILVUS_ONLY:
        raise UsageError(f"pgvector has no {name} index: choose hnsw, ivf or flat")
    if name == "auto":
        name = "flat" if rows <= EXACT_ROWS else "hnsw"
    if name == "flat" or not rows:
        return EngineIndex("exact")
    plan = _factory(name if name in NAMES else recipe, rows, dim)
    if dim > widest:
        note = f"pgvector indexes half-precision vectors up to {widest:,} wide, these are {dim:,}: exact scan"
        return EngineIndex("exact", note=note)
    if plan.nlist:
        lists = max(1, min(plan.nlist, 32_768))
        note = "" if plan.code in ("Flat", "SQfp16", "") else f"pgvector has no {plan.code}; ivfflat in half precision"
        return EngineIndex("ivfflat", {"lists": lists}, {"probes": max(8, round(math.sqrt(lists)))}, note)
    note = "" if plan.links else f"pgvector has nothing like {recipe}; hnsw in half precision"
    build = {"m": min(plan.links or HNSW_M, 100), "ef_construction": max(HNSW_BUILD, 2 * (plan.links or HNSW_M))}
    return EngineIndex("hnsw", build, {"ef_search": 128}, note)


def _milvus_own(kind: str) -> EngineIndex:
    if kind == "GPU_CAGRA":
        build = {"intermediate_graph_degree": 128, "graph_degree": 64}
        return EngineIndex(kind, build, {"itopk_size": 128})
    if kind == "DISKANN":
        return EngineIndex(kind, {}, {"search_list": 100})
    return EngineIndex(kind, {"nlist": 1024, "with_raw_data": 1}, {"nprobe": 16})


def _factory(name: str, rows: int, dim: int) -> Factory:
    """What a recipe's name or a factory string says, whatever FAISS would need to train it."""
    lists = lists_for(max(rows, 30))
    texts = {
        "hnsw": f"HNSW{HNSW_M}",
        "ivf": f"IVF{lists},SQfp16",
        "ivf-sq8": f"IVF{lists},SQ8",
        "ivf-pq": f"IVF{lists},PQ{_subvectors(dim)}np",
        "rabitq": f"IVF{lists},RaBitQfs,Refine(SQ8)",
    }
    return parse(texts.get(name, name), dim)


def _subvectors(dim: int) -> int:
    """The largest divisor of the width that leaves at least eight dimensions to each code."""
    return max(m for m in range(1, max(dim // 8, 1) + 1) if dim % m == 0)
