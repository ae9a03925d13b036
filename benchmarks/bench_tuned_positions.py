"""Position interpolation before and after its new rows were tuned: short texts to the bit, passkey by length.

unabridged train positions examples/data/speeches.jsonl.gz --target-tokens 4096 --epochs 1 --out tuned/
python benchmarks/bench_tuned_positions.py tuned/
"""

from __future__ import annotations

import argparse
from pathlib import Path

from passkey_curve import curve

from unabridged.encoders.load import load_encoder
from unabridged.eval.synth.passkey import passkey


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tuned", type=Path, help="the folder that `unabridged train positions` made")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096])
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=1, help="sets of documents and questions; cells are their means")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tuned_positions_cpu.json"))
    asked = parser.parse_args()
    plain = load_encoder(device="cpu", max_tokens=512)
    tuned = load_encoder(asked.tuned, device="cpu")
    target = tuned.window
    short = ["", "a", *passkey(256, 0).texts, *passkey(480, 0).texts]
    same = tuned.encode_documents(short).documents.tobytes() == plain.encode_documents(short).documents.tobytes()
    print(f"{len(short)} short texts: {'bit-identical' if same else 'DIFFERENT'}")
    encoders = {
        "pi": lambda: load_encoder(device="cpu", extend="pi", target_tokens=target),
        "tuned": lambda: tuned,
    }
    curve(
        encoders,
        asked.lengths,
        asked.out,
        f"Passkey, embedded model to {target} tokens: PI and tuned positions (short texts "
        f"{'bit-identical' if same else 'different'})",
        "bench_tuned_positions.py tuned/",
        asked.documents,
        asked.queries,
        asked.seeds,
    )


if __name__ == "__main__":
    main()
