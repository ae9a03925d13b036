"""How far a small rotary encoder reads, by method of extension: passkey by length, and a plot.

The encoder is trained by the first line, from the embedded model and fourteen speeches:

    unabridged train rope-student examples/data/speeches.jsonl.gz --tokens 160 --epochs 2 --out rope/
    python benchmarks/bench_rope_reach.py rope/
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from passkey_curve import curve, draw

from unabridged.encoders.load import load_encoder

SCALE = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("student", type=Path, help="the folder that `unabridged train rope-student` made")
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 128, 256, 512, 1024])
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/rope_reach_cpu.json"))
    parser.add_argument("--plot", type=Path, default=Path("docs/reach_rope.png"))
    asked = parser.parse_args()
    load = partial(load_encoder, asked.student, device="cpu")
    original = load().window
    longer = partial(load, target_tokens=SCALE * original)
    encoders = {
        f"truncated at {original}": load,
        # A factor of 1 changes nothing: the model's own angles at distances that it never saw.
        "not extended": partial(longer, extend="ntk", base_factor=1.0),
        "ntk": partial(longer, extend="ntk"),
        "selfextend": partial(longer, extend="selfextend"),
        "pi": partial(longer, extend="pi"),
        "gp": partial(longer, extend="gp"),
        "pcw": partial(longer, extend="pcw"),
    }
    title = f"Passkey, a rotary student trained on {original} tokens, extended {SCALE} times"
    rows = curve(encoders, asked.lengths, asked.out, title, "bench_rope_reach.py rope/", asked.documents)
    draw(rows, asked.plot, title)


if __name__ == "__main__":
    main()
