"""Unit files: whole or as good as absent, found by content alone, the same bytes whoever writes them."""

from __future__ import annotations

import io

import blake3
import numpy as np
import pytest

from unabridged.contracts import Coverage, Encoded, Level
from unabridged.encoders.hashing import HashingEncoder
from unabridged.errors import MissingFile, ShapeError
from unabridged.index.shard import content_key
from unabridged.retrievers.engines.unit_files import (
    SUFFIX,
    Fault,
    Finished,
    pack,
    read_unit,
    unit_name,
    unpack,
    write_unit,
)

TEXTS = ["one two three four five", "", "ein Täxt 😀 mit mehr", "w " * 90]


def units() -> dict[str, Finished]:
    encoder = HashingEncoder(8, 16)
    whole = encoder.encode_documents(TEXTS)
    noted = Encoded(
        whole.offsets,
        whole.spans,
        whole.tokens,
        Coverage(whole.coverage.total, whole.coverage.seen, ("a", "", "ü: b", "c"), np.zeros(4, np.int64)),
        whole.segments,
    )
    return {
        "both": Finished(4, whole),
        "documents": Finished(4, encoder.encode_documents(TEXTS, level=Level.DOC)),
        "notes": Finished(4, noted),
        "faults": Finished(6, whole, (Fault(1, "overflow", "too long: ü"), Fault(5, "encoder-error", "x"))),
        "nothing": Finished(1, None, (Fault(0, "out-of-memory", "too much"),)),
    }


def same(a: Encoded | None, b: Encoded | None) -> bool:
    if a is None or b is None:
        return a is b
    pairs = [(a.offsets, b.offsets), (a.spans, b.spans), (a.tokens, b.tokens), (a.segments, b.segments)]
    pairs += [(a.documents, b.documents), (a.coverage.total, b.coverage.total), (a.coverage.seen, b.coverage.seen)]
    pairs += [(a.coverage.left_out, b.coverage.left_out)]
    equal = all(
        x is y if x is None or y is None else x.dtype == y.dtype and x.tobytes() == y.tobytes() and x.shape == y.shape
        for x, y in pairs
    )
    return equal and a.coverage.notes == b.coverage.notes


@pytest.mark.parametrize("kind", list(units()))
def test_what_is_read_is_what_was_written_to_the_bit(kind, tmp_path):
    unit = units()[kind]
    write_unit(tmp_path, "name", pack("name", unit))
    found = read_unit(tmp_path, "name")
    assert found is not None
    assert same(found.encoded, unit.encoded)
    assert (found.texts, found.faults) == (unit.texts, unit.faults)
    assert [path.name for path in tmp_path.iterdir()] == ["name" + SUFFIX]


def test_equal_units_have_equal_bytes_at_any_time_of_day(monkeypatch):
    first = pack("name", units()["faults"])
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2031, 1, 1, 1, 1, 1, 0, 1, 0))
    assert pack("name", units()["faults"]) == first


def test_a_file_that_ends_early_or_has_a_changed_byte_is_none_and_is_deleted(tmp_path):
    data = pack("name", units()["both"])
    assert unpack("name", data) is not None
    rng = np.random.default_rng(3)
    for at in [0, 1, 4, 30, len(data) // 2, len(data) - 1, *rng.integers(0, len(data), 20).tolist()]:
        assert unpack("name", data[:at]) is None
    for at in range(0, len(data), 7):
        changed = bytearray(data)
        changed[at] ^= 0x40
        assert unpack("name", bytes(changed)) is None
    assert unpack("name", data + b"x") is None
    path = tmp_path / ("name" + SUFFIX)
    path.write_bytes(data[:100])
    assert read_unit(tmp_path, "name") is None
    assert not path.exists()


def test_a_file_that_the_disk_does_not_give_is_none(tmp_path):
    (tmp_path / f"name{SUFFIX}").mkdir()
    assert read_unit(tmp_path, "name") is None


def test_a_file_under_the_name_of_another_unit_is_none():
    assert unpack("other", pack("name", units()["both"])) is None


def test_a_pickle_in_a_unit_file_is_never_loaded(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, header=np.array([object()], dtype=object))
    body = buffer.getvalue()
    (tmp_path / ("name" + SUFFIX)).write_bytes(blake3.blake3(body).digest(16) + body)
    assert read_unit(tmp_path, "name") is None


def test_the_name_changes_with_encoder_settings_texts_and_their_order():
    keys = [content_key(text) for text in TEXTS]
    names = [unit_name("a", keys), unit_name("b", keys), unit_name("a", keys[::-1]), unit_name("a", keys[:-1])]
    names += [unit_name("a", [*keys, keys[0]]), unit_name("a", [])]
    assert len(set(names)) == len(names)
    assert unit_name("a", keys) == names[0]


@pytest.mark.parametrize("rows", [[], [0, 0], [5], [0, 1]])
def test_rows_in_are_rows_out_and_failures_or_it_is_no_unit(rows):
    with pytest.raises(ShapeError, match="a unit of 5 texts came back as 4 encoded"):
        Finished(5, units()["both"].encoded, tuple(Fault(row, "a", "b") for row in rows))


def test_a_machine_that_does_not_see_the_folder_says_so_and_makes_none(tmp_path):
    import socket

    with pytest.raises(MissingFile, match=socket.gethostname()):
        write_unit(tmp_path / "absent", "name", b"data")
    assert not (tmp_path / "absent").exists()
