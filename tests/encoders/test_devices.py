"""Names of devices: what they mean, and what is said of one that cannot be used."""

import numpy as np
import pytest

from unabridged.encoders._devices import Seen, check_device, devices_of, why_not_cuda
from unabridged.encoders.load import load_encoder
from unabridged.errors import UsageError

torch = pytest.importorskip("torch")
OLD = "The NVIDIA driver on your system is too old (found version 11040)."


def test_names_are_devices_and_a_comma_separates_several(monkeypatch):
    assert devices_of(None) == devices_of("auto") == [None]
    assert devices_of("cpu") == ["cpu"]
    assert devices_of("cuda:0, cuda:2") == ["cuda:0", "cuda:2"]
    monkeypatch.setattr(Seen, "now", classmethod(lambda cls: Seen("2.13.0", "13.0", 3)))
    assert devices_of("cuda:all") == ["cuda:0", "cuda:1", "cuda:2"]
    assert devices_of("cpu,cuda:all") == ["cpu", "cuda:0", "cuda:1", "cuda:2"]


@pytest.mark.parametrize("text", ["", "cuda:", "cuda:x", "cuda:-1", "cpu,,cuda", "gpu 0", "3"])
def test_a_name_that_no_device_has_is_refused_with_those_that_there_are(text):
    with pytest.raises(UsageError, match="cuda:0,cuda:1"):
        devices_of(text)


@pytest.mark.parametrize(
    ("seen", "number", "said"),
    [
        (Seen("2.13.0+cpu", None, 0), 0, "built without CUDA"),
        (Seen("2.13.0", "13.0", 0, OLD), 0, "update the driver"),
        (Seen("2.13.0", "13.0", 0, "Found no NVIDIA driver on your system."), 0, "Found no NVIDIA driver"),
        (Seen("2.13.0", "13.0", 0), 0, "CUDA_VISIBLE_DEVICES"),
        (Seen("2.13.0", "13.0", 2), 2, "2 GPUs: cuda:0, cuda:1"),
        (Seen("2.13.0", "13.0", 1), 0, None),
        (Seen("2.13.0", "13.0", 4), 3, None),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_gpu_is_said_in_terms_of_what_was_found(seen, number, said):
    found = why_not_cuda(seen, number)
    assert found is None if said is None else said in found
    if said is None:
        check_device(f"cuda:{number}", seen)
    else:
        with pytest.raises(UsageError, match=f"'cuda:{number}' cannot be used"):
            check_device(f"cuda:{number}", seen)
    check_device("cpu", seen)


def test_a_gpu_that_is_not_there_is_a_usage_error_with_the_first_vector(bert_folder):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(UsageError, match="cannot be used"):
        load_encoder(bert_folder, device="cuda").encode(["cat"])
    with pytest.raises(UsageError, match="cannot be used"):
        load_encoder(bert_folder, device="cuda:0,cuda:1", precision="bf16").encode(["cat"])
    with pytest.raises(UsageError, match="cannot be used"):
        load_encoder(bert_folder, device="cuda:all")


@pytest.mark.parametrize("name", ["xpu", "meta", "bogus:1", "mps:7", "cuda:x", "gpu 0"])
def test_a_device_of_another_kind_that_is_not_there_is_refused_and_no_text_fails_for_it(bert_folder, name):
    with pytest.raises(UsageError, match=r"cuda:0,cuda:1|cannot be used: torch .* --device cpu"):
        load_encoder(bert_folder, device=name).encode(["cat"])


def test_auto_and_several_devices_give_the_vectors_of_one(bert_folder):
    texts = [f"cat {n} " * (n % 9 + 1) for n in range(20)]
    wanted = load_encoder(bert_folder, device="cpu", batch_tokens=64).encode(texts)
    for device in ("auto", "cpu,cpu"):
        np.testing.assert_allclose(
            load_encoder(bert_folder, device=device, batch_tokens=64).encode(texts), wanted, atol=1e-6
        )


def test_short_words_for_precisions_are_the_long_ones(bert_folder):
    short, long = (load_encoder(bert_folder, device="cpu", precision=name) for name in ("bf16", "bfloat16"))
    assert short.passport.fingerprint == long.passport.fingerprint
    np.testing.assert_array_equal(short.encode(["cat"]), long.encode(["cat"]))
