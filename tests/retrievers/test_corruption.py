"""A folder that is not what its manifest says is refused before any of it is used."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

import unabridged as ub
from unabridged.encoders.hashing import HashingEncoder
from unabridged.errors import ManifestMismatch

ITEMS = [{"_id": f"d{n}", "text": f"some words number {n} " * (n + 1)} for n in range(12)]


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "ix"
    ub.build_index(ITEMS, HashingEncoder(window=16), folder)
    ub.build_index(ITEMS[:9], HashingEncoder(window=16), folder, delete_missing=True)
    return folder


def listed(folder: Path) -> list[str]:
    index = ub.open_index(folder)
    return sorted(index.state.files())


def test_every_file_of_the_folder_is_in_the_manifest_or_known(sound):
    extra = {p.relative_to(sound).as_posix() for p in sound.rglob("*") if p.is_file()} - set(listed(sound))
    assert extra <= {"manifest.json", ".lock", ".verified", "failed.jsonl"}


@pytest.mark.parametrize("cut", ["empty", "half", "last byte"])
def test_a_truncated_file_is_seen_at_every_open(sound, tmp_path, cut):
    for name in listed(sound):
        path = tmp_path / "ix" / name
        size = (sound / name).stat().st_size
        keep = {"empty": 0, "half": size // 2, "last byte": size - 1}[cut]
        if size == 0:
            continue
        shutil.rmtree(tmp_path / "ix", ignore_errors=True)
        shutil.copytree(sound, tmp_path / "ix")
        path.write_bytes((sound / name).read_bytes()[:keep])
        with pytest.raises(ManifestMismatch, match=f"has {keep} bytes, the manifest expects {size}"):
            ub.open_index(tmp_path / "ix")


def test_a_flipped_bit_in_any_file_is_found_at_open(sound, tmp_path):
    rng = random.Random(0)
    for name in listed(sound):
        shutil.rmtree(tmp_path / "ix", ignore_errors=True)
        shutil.copytree(sound, tmp_path / "ix")
        data = bytearray((sound / name).read_bytes())
        if not data:
            continue
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (tmp_path / "ix" / name).write_bytes(data)
        for verify in (None, True):
            with pytest.raises(ManifestMismatch, match="SHA-256"):
                ub.open_index(tmp_path / "ix", verify=verify)


def test_a_missing_file_and_junk_at_the_end_are_seen(sound, tmp_path):
    name = listed(sound)[0]
    shutil.copytree(sound, tmp_path / "a")
    (tmp_path / "a" / name).unlink()
    with pytest.raises(ManifestMismatch, match="is missing"):
        ub.open_index(tmp_path / "a")
    shutil.copytree(sound, tmp_path / "b")
    with (tmp_path / "b" / name).open("ab") as file:
        file.write(b"junk")
    with pytest.raises(ManifestMismatch):
        ub.open_index(tmp_path / "b")


def test_every_flipped_bit_of_the_manifest_is_refused(sound, tmp_path):
    shutil.copytree(sound, tmp_path / "ix")
    path = tmp_path / "ix/manifest.json"
    good = path.read_bytes()
    rng = random.Random(1)
    for _ in range(60):
        data = bytearray(good)
        at = rng.randrange(len(data))
        data[at] ^= 1 << rng.randrange(7)
        path.write_bytes(data)
        try:
            same = json.loads(data) == json.loads(good)
        except ValueError:
            same = False
        if not same:
            with pytest.raises(ManifestMismatch):
                ub.open_index(tmp_path / "ix")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"format": "other"}', b'{"format": "unabridged-index", "version": 99}']
)
def test_a_foreign_manifest_is_refused_with_what_was_found(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ManifestMismatch):
        ub.open_index(tmp_path)


def test_a_folder_of_something_else_is_no_index(tmp_path):
    (tmp_path / "index.faiss").write_bytes(b"x")
    with pytest.raises(ManifestMismatch, match="not a finished index"):
        ub.open_index(tmp_path)


def test_a_damaged_index_is_not_grown(sound, tmp_path):
    shutil.copytree(sound, tmp_path / "ix")
    name = listed(sound)[0]
    (tmp_path / "ix" / name).write_bytes(b"")
    with pytest.raises(ManifestMismatch):
        ub.build_index(ITEMS, HashingEncoder(window=16), tmp_path / "ix")
