"""Seconds and memory of Mamba's hidden states on a GPU: ours, mamba_ssm's, transformers', and BERT's, by length.

    python benchmarks/bench_mamba_gpu.py [--lengths 512 ... 131072] [--variant 1 2] [--precision bfloat16]

The models have the shape of mamba-130m or mamba2-130m and random weights, which are rounded to the precision first, so
that all systems hold the same.  Ours reads a text in blocks, with the state carried on; the others read it in one pass:
``mamba_ssm`` is the model of that package (left out where it or causal_conv1d is not installed), ``transformers`` its
model, which takes kernels of mamba_ssm where it finds them, and BERT has 12 layers of the same width, torch's attention
and one window.  They run one after another, each alone on the device.

Seconds are the median of ``--repeats`` passes, memory is the most that torch allocated in them above the loaded and
warm model.  ``limit`` is the time of the layers' matmuls alone, at the rate that each of them reaches in this run over
a block of ours, and ``of limit`` how many times as long ours takes; ``of mamba_ssm`` likewise.  ``difference`` is of
hidden states, ours and mamba_ssm's: the norm of the difference over the norm, at the token where that is largest;
``error`` is the same measure against our float32 on the CPU, for texts of up to 2,048 tokens.

Without a CUDA device it ends with exit code 3.  ``--device cpu --tiny`` only tries the script out.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from bench_mamba import LENGTHS, MIB, ONCE, SHAPES, VOCABULARY, batched, bert, blocks, matmuls, ours, text, theirs
from machine import machine, write_results

from unabridged.encoders._torch import is_out_of_memory
from unabridged.encoders.batching import GPU_BATCH_TOKENS
from unabridged.encoders.mamba.config import MambaConfig
from unabridged.encoders.mamba.finite import NonFinite
from unabridged.encoders.mamba.model import MambaModel, initial
from unabridged.encoders.mamba.placed import EXACT
from unabridged.versions import installed

TINY = {
    1: MambaConfig(1, 64, 2, VOCABULARY, 128, 16, dt_rank=4),
    2: MambaConfig(2, 64, 2, VOCABULARY, 128, 16, heads=2, head_dim=64),
}
PACKAGES = ("mamba-ssm", "causal-conv1d", "triton")
NO_DEVICE = 3
"""Exit code."""
LAUNCHES = 10
"""Of one small matmul between two looks at the clock: one alone would measure the launch."""
FULL = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What a lack of memory is called where torch's allocator is not asked."""

Weights = dict[str, torch.Tensor]
Row = dict[str, object]
Run = Callable[[torch.Tensor], object]


@dataclass(frozen=True, slots=True)
class Device:
    """The clock and the memory of one device; on a CPU, memory is not measured."""

    place: torch.device

    @property
    def is_cuda(self) -> bool:
        """Whether there is something to wait for, and memory to count."""
        return self.place.type == "cuda"

    def seconds(self, run: Callable[[], object], times: int = 1) -> float:
        """Of one of ``times`` runs in a row, from an idle device to an idle device."""
        self.wait()
        started = time.perf_counter()
        for _ in range(times):
            run()
        self.wait()
        return (time.perf_counter() - started) / times

    def wait(self) -> None:
        """Until the device has done what it was told to."""
        if self.is_cuda:
            torch.cuda.synchronize(self.place)

    def clean(self) -> None:
        """Gives back what nobody holds any more, so that one system finds the memory that another had."""
        gc.collect()
        if self.is_cuda:
            torch.cuda.empty_cache()

    def held(self) -> int:
        """Bytes of tensors now; the peak is counted from here."""
        if not self.is_cuda:
            return 0
        torch.cuda.reset_peak_memory_stats(self.place)
        return torch.cuda.memory_allocated(self.place)

    def peak(self) -> int:
        """Bytes of tensors at most since :meth:`held`."""
        return torch.cuda.max_memory_allocated(self.place) if self.is_cuda else 0

    def described(self) -> dict[str, object]:
        """Name, memory and versions; no name of the host."""
        if not self.is_cuda:
            return {"device": "cpu"}
        found = torch.cuda.get_device_properties(self.place)
        return {
            "device": found.name,
            "memory MiB": found.total_memory // MIB,
            "capability": f"{found.major}.{found.minor}",
            "driver": driver(),
            "CUDA": torch.version.cuda,
        }


@dataclass(frozen=True, slots=True)
class Case:
    """One shape in one precision, its weights, and the hidden states by length to which others are compared."""

    variant: int
    config: MambaConfig
    precision: str
    own: Weights
    """On the CPU, in float32, rounded to the precision."""
    exact: dict[int, torch.Tensor] = field(default_factory=dict)
    mine: dict[int, torch.Tensor] = field(default_factory=dict)

    @property
    def kind(self) -> torch.dtype:
        """Of weights and activations."""
        return getattr(torch, self.precision)

    def model(self, place: torch.device) -> MambaModel:
        """Ours, each parameter in the type that the encoder gives it."""
        placed = {
            name: tensor.to(place, torch.float32 if name.endswith(EXACT) else self.kind)
            for name, tensor in self.own.items()
        }
        return MambaModel(self.config, placed)


def drawn(variant: int, precision: str, *, tiny: bool) -> Case:
    config = (TINY if tiny else SHAPES)[variant]
    kind = getattr(torch, precision)
    own = {name: tensor.to(kind).float() for name, tensor in initial(config, 0).items()}
    return Case(variant, config, precision, own)


def mixer(case: Case, place: torch.device) -> torch.nn.Module:
    """The model of mamba_ssm, with its fused normalisations and its residual in float32, as its checkpoints have it."""
    from mamba_ssm.models.mixer_seq_simple import MixerModel

    config = case.config
    inner: dict[str, object] = {
        "layer": f"Mamba{config.variant}", "d_state": config.state, "d_conv": config.conv,
        "expand": config.inner // config.width, "bias": config.bias, "conv_bias": config.conv_bias,
    }  # fmt: skip
    if config.variant == 1:
        inner |= {"dt_rank": config.dt_rank}
    else:
        inner |= {"headdim": config.head_dim, "ngroups": config.groups}
    model = MixerModel(
        d_model=config.width, n_layer=config.layers, d_intermediate=0, vocab_size=config.vocab, ssm_cfg=inner,
        norm_epsilon=config.eps, rms_norm=True, fused_add_norm=True, residual_in_fp32=True, device=place,
        dtype=case.kind,
    )  # fmt: skip
    model.load_state_dict({name.replace("embeddings.", "embedding.", 1): tensor for name, tensor in case.own.items()})
    return model.eval()


def systems(case: Case, device: Device, options: argparse.Namespace) -> Iterator[tuple[str, Run, int]]:
    """Name, pass, and the most tokens that it is given; a model is made when its turn comes."""
    place, longest = device.place, max(options.lengths)
    yield "ours", ours(case.model(place), options.block), longest
    if options.with_mamba_ssm:
        yield "mamba_ssm", batched(mixer(case, place)), longest
    if options.hf_limit:
        yield "transformers", batched(theirs(case.config, case.own).to(place, case.kind)), options.hf_limit
    if options.bert_limit and case.variant == options.variant[0]:
        model = bert(options.bert_limit, case.config.width, min(12, case.config.layers))
        yield "BERT", batched(model.to(place, case.kind)), options.bert_limit


def measured(run: Run, ids: torch.Tensor, device: Device, base: int, options: argparse.Namespace) -> tuple[object, ...]:
    """Seconds and MiB above ``base``; a word in place of both where the system did not get through."""
    try:
        for _ in range(options.warm):
            run(ids)
        device.held()
        took = statistics.median(device.seconds(lambda: run(ids)) for _ in range(options.repeats))
        return took, round((device.peak() - base) / MIB) if device.is_cuda else ""
    except NonFinite:
        return "not finite", ""
    except RuntimeError as error:
        if not is_out_of_memory(error) and not any(said in str(error) for said in FULL):
            raise
    device.clean()  # behind the handler: while it runs, the error holds the tensors of the pass
    return "no memory", ""


def floor(case: Case, tokens: int, device: Device, repeats: int) -> float:
    """Seconds of all matmuls of all layers over ``tokens`` rows, each at its own rate."""
    total = 0.0
    for matmul in matmuls(case.config, tokens, device.place, case.kind):
        launches = LAUNCHES if device.is_cuda else 1
        device.seconds(matmul, launches)
        total += statistics.median(device.seconds(matmul, launches) for _ in range(repeats))
    return total * case.config.layers


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Of two ``(T, H)``: the norm of the difference over the norm, at the token where that is largest."""
    pairs = zip(found.split(4_096), expected.split(4_096), strict=True)
    parts = [((a.cpu().float() - b.float()).norm(dim=1) / b.float().norm(dim=1)).max() for a, b in pairs]
    return float(f"{float(torch.stack(parts).max()):.3g}")


def compared(system: str, run: Run, ids: torch.Tensor, case: Case, options: argparse.Namespace) -> Row:
    """Differences of hidden states; those of ours are kept for mamba_ssm's, on the CPU."""
    length, row = len(ids), {}
    if system == "ours":
        model = case.model(ids.device)
        found = torch.cat([hidden.cpu() for hidden in blocks(model, ids, options.block)])
        case.mine[length] = found
        row["path"] = model.path
    else:
        found = run(ids)[0].cpu()
        if length in case.mine:
            row["difference"] = difference(found, case.mine.pop(length))
    if length in case.exact:
        row[f"{system} error"] = difference(found, case.exact[length])
    return row


def measure(case: Case, device: Device, options: argparse.Namespace) -> list[Row]:
    """A row per length."""
    rows: dict[int, Row] = {}
    name = f"mamba{'' if case.variant == 1 else 2}-{'tiny' if options.tiny else '130m'}"
    reference = MambaModel(case.config, case.own)
    for length in options.lengths:
        rows[length] = {"model": name, "precision": case.precision, "tokens": length}
        part = min(length, options.block)
        rows[length]["limit s"] = floor(case, part, device, options.repeats) * length / part
        if length <= ONCE:
            case.exact[length] = torch.cat(list(blocks(reference, text(length), length)))
    for system, run, most in systems(case, device, options):
        run(text(64).to(device.place))  # kernels are compiled, and workspaces made
        device.clean()
        base = device.held()
        for length in (length for length in options.lengths if length <= most):
            ids = text(length).to(device.place)
            took, more = measured(run, ids, device, base, options)
            rows[length] |= {f"{system} s": took, f"{system} MiB": more}
            if system in ("ours", "mamba_ssm") and isinstance(took, float):
                rows[length] |= compared(system, run, ids, case, options)
            print(f"{name} {case.precision} {system} {length}: {took} s, {more or '-'} MiB", flush=True)
        del run
        device.clean()
    return [finished(row) for row in rows.values()]


def finished(row: Row) -> Row:
    """With ratios, and seconds rounded."""
    took = {name: value for name, value in row.items() if name.endswith(" s") and isinstance(value, float)}
    if mine := took.get("ours s"):
        row |= {"tokens/s": round(row["tokens"] / mine), "of limit": round(mine / took["limit s"], 2)}
        if "mamba_ssm s" in took:
            row["of mamba_ssm"] = round(mine / took["mamba_ssm s"], 2)
        if "transformers s" in took:
            row["faster"] = round(took["transformers s"] / mine, 1)
    return row | {name: float(f"{value:.4g}") for name, value in took.items()}


def driver() -> str:
    """Of NVIDIA, from the kernel's module or from nvidia-smi."""
    path = Path("/proc/driver/nvidia/version")
    if path.is_file() and (found := re.search(r"\b\d+\.\d+(\.\d+)?\b", path.read_text(encoding="utf-8"))):
        return found[0]
    if command := shutil.which("nvidia-smi"):
        asked = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
        lines = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
        return lines[0] if lines else "unknown"
    return "unknown"


def chosen(name: str) -> Device:
    """The device called ``name``; ends the process with one line where torch does not have it."""
    place = torch.device(name)
    if place.type == "cpu":
        return Device(place)
    if place.type != "cuda":
        missing = f"{name} is not measured here, only cuda and cpu"
    elif torch.version.cuda is None:
        missing = f"torch {torch.__version__} is built without CUDA"
    elif not torch.cuda.is_available():
        missing = f"torch {torch.__version__} (CUDA {torch.version.cuda}) finds no GPU or no driver"
    elif (place.index or 0) >= torch.cuda.device_count():
        missing = f"torch finds {torch.cuda.device_count()} devices, numbered from 0"
    else:
        place = torch.device("cuda", place.index or 0)
        torch.cuda.set_device(place)
        return Device(place)
    print(f"No device {name}: {missing}. --device cpu --tiny tries the script out.", file=sys.stderr)
    raise SystemExit(NO_DEVICE)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu to try the script out")
    parser.add_argument("--tiny", action="store_true", help="2 layers of 64")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--variant", type=int, nargs="+", default=[1, 2], choices=[1, 2])
    kinds = ["bfloat16", "float16", "float32"]
    parser.add_argument("--precision", nargs="+", default=["bfloat16"], choices=kinds)
    parser.add_argument("--block", type=int, default=GPU_BATCH_TOKENS, help="tokens that ours reads at a time")
    parser.add_argument("--hf-limit", type=int, default=8_192, help="no longer texts for transformers' Mamba; 0: none")
    parser.add_argument("--bert-limit", type=int, default=8_192, help="BERT's window; 0: none")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warm", type=int, default=1, help="passes at each length before the clock runs")
    parser.add_argument("--out", type=Path, help="results as .json, and a table beside it; on a CPU none without it")
    return parser.parse_args()


def main() -> None:
    options = parsed()
    device = chosen(options.device)
    missing = [name for name in ("mamba_ssm", "causal_conv1d") if importlib.util.find_spec(name) is None]
    options.with_mamba_ssm = device.is_cuda and not missing
    if not options.with_mamba_ssm:
        print(f"Without mamba_ssm's model: {' and '.join(missing) or 'CUDA'} missing.")
    found = device.described()
    on = machine()
    on |= {"device": found, "versions": on["versions"] | installed(PACKAGES)}
    print(json.dumps(found))
    default = Path(__file__).parent / "results" / "mamba_gpu.json" if device.is_cuda else None
    title = f"Mamba's hidden states on {', '.join(f'{k} {v}' for k, v in found.items())}"
    rows: list[Row] = []
    with torch.inference_mode():
        for precision in options.precision:
            for variant in options.variant:
                rows += (made := measure(drawn(variant, precision, tiny=options.tiny), device, options))
                print("\n".join(json.dumps(row) for row in made), flush=True)
                if out := options.out or default:
                    write_results(out, title, "bench_mamba_gpu.py", rows, on)


if __name__ == "__main__":
    main()
