"""Memory does not grow with the length of a document, beyond its tokens and its segments' vectors."""

import json
import subprocess
import sys

import pytest

SHORT, LONG = 20_000, 200_000

# A line of about 60 bytes, each a token.  The highest memory that a process ever had only rises: short before long.
MEASURE = """
import json, resource, sys, torch
torch.set_num_threads(1)
from unabridged.encoders.load import load_encoder
encoder = load_encoder(sys.argv[1], device="cpu", pooling=sys.argv[2], batch_tokens=1024)
line = "The cat sat on the mat; it was a long, long sit, they said.\\n"
peaks = []
for size in json.loads(sys.argv[3]):
    text = (line * (size // len(line) + 1))[:size]
    found = encoder.encode_documents([text])
    assert found.coverage.seen.tolist() == [size]
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
print(json.dumps({"peaks": peaks, "segments": len(found.spans)}))
"""


def peaks(folder, pooling, sizes):
    line = [sys.executable, "-c", MEASURE, str(folder), pooling, json.dumps(sizes)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is counted otherwise elsewhere")
@pytest.mark.parametrize("variant", [1, 2], ids=["mamba", "mamba2"])
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_ten_times_the_length_needs_no_more_than_its_tokens_and_vectors(tiny, tmp_path, variant, pooling):
    folder = tiny.mamba(tmp_path / "m", variant=variant)
    found = peaks(folder, pooling, [SHORT, LONG])
    # Text, ids and places, and while segments are cut places as int64; float64 and float32 rows of segments.
    tokens = (LONG - SHORT) * (1 + 12 + 40)
    vectors = found["segments"] * 32 * 24
    states = (LONG - SHORT) * 64 * 4  # one activation of all tokens, which must not be held
    grown = found["peaks"][1] - found["peaks"][0]
    assert grown < tokens + vectors + (4 << 20) < states / 2
