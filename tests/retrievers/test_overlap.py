"""Reading, tokenising, encoding and storing at once: the same bytes in the same order, errors in their place."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unabridged.contracts import Document, Level, OverflowPolicy
from unabridged.corpora import ListCorpus
from unabridged.encoders.hashing import HashingEncoder
from unabridged.errors import DiskFull, Overflow, PassportMismatch, RuntimeFailure
from unabridged.index.shard import Record
from unabridged.manifest import load_manifest
from unabridged.retrievers import fill
from unabridged.retrievers.build import build
from unabridged.retrievers.encoding import Here
from unabridged.retrievers.engines.choice import Prepared
from unabridged.retrievers.overlap import AHEAD, Overlapped
from unabridged.retrievers.units import encode_unit, encode_with, prepare_with

EARLIER: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _earlier_threads():
    """A build that is interrupted does not wait for its threads: those of the test before are not this one's."""
    EARLIER.clear()
    EARLIER.update(threading.enumerate())


def own_threads() -> list[threading.Thread]:
    """Threads of builds that this test began and that still run."""
    return [one for one in threading.enumerate() if one.name in ("tokenise", "encode") and one not in EARLIER]


class Halves(HashingEncoder):
    """In two halves, which note when they run and take the seconds that the text asks for."""

    def __init__(self, **options):
        super().__init__(**options)
        self.log = []
        self.running = set()
        self.together = set()

    def encode_documents(self, texts, **options):
        return self.prepare_documents(texts, **options)()

    def prepare_documents(self, texts, **options):
        self._run("prepare", texts)
        if any("UNREADABLE" in text for text in texts):
            raise Overflow("a text is too long, says its first half")

        def compute():
            self._run("compute", texts)
            return HashingEncoder.encode_documents(self, texts, **options)

        return compute

    def _run(self, half, texts):
        assert half not in self.running, "an encoder ran beside itself"
        self.running.add(half)
        if len(self.running) == 2:
            self.together.add(half)
        self.log.append((half, texts[0] if texts else "", threading.current_thread().name))
        time.sleep(0.02)
        self.running.discard(half)


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    monkeypatch.setattr(fill, "UNIT_CHARACTERS", 60)


def corpus(*texts):
    return ListCorpus([Document(f"d{n}", text, where=f"list:{n}") for n, text in enumerate(texts)])


def words(n):
    return " ".join(f"w{n}x{k}" for k in range(8))


def tree(folder: Path) -> dict[str, bytes]:
    """All files but the note on when they were looked at."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".verified")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def here(monkeypatch):
    """Builds that do one thing after another."""

    def switch(on):
        if on:
            monkeypatch.setattr(
                Prepared,
                "open",
                lambda self, settings, folder, identity: Here(
                    encode_with(self.encoder, settings.level, settings.overflow)
                ),
            )
        else:
            monkeypatch.undo()
            monkeypatch.setattr(fill, "UNIT_CHARACTERS", 60)

    return switch


TEXTS = [words(n) for n in range(9)]


def test_a_build_has_the_bytes_of_one_that_does_one_thing_after_another(tmp_path, here):
    texts = [*TEXTS, TEXTS[2], "", TEXTS[8], "POISON text", words(99), "POISON text"]
    reports = {}
    for name, apart in (("apart", True), ("together", False)):
        here(apart)
        reports[name] = build(corpus(*texts), HashingEncoder(fail_on="POISON"), tmp_path / name)
    assert tree(tmp_path / "apart") == tree(tmp_path / "together")
    counts = [(r.documents, r.added, r.failed, r.failed_reasons, r.reused_vectors) for r in reports.values()]
    assert counts[0] == counts[1]
    assert counts[0][2] == 2


def test_halves_of_neighbours_run_at_the_same_time_and_those_of_a_kind_never_do(tmp_path):
    encoder = Halves()
    build(corpus(*TEXTS), encoder, tmp_path / "ix")
    assert encoder.together, "nothing overlapped"
    assert {name for half, _, name in encoder.log if half == "prepare"} == {"tokenise"}
    assert {name for half, _, name in encoder.log if half == "compute"} == {"encode"}
    assert not own_threads()


def test_an_encoder_without_halves_is_never_beside_itself_and_still_runs_beside_the_build(tmp_path):
    class Plain(HashingEncoder):
        running = False
        threads: set = set()  # noqa: RUF012

        def encode_documents(self, texts, **options):
            assert not self.running
            type(self).running = True
            self.threads.add(threading.current_thread().name)
            time.sleep(0.01)
            type(self).running = False
            return super().encode_documents(texts, **options)

    report = build(corpus(*TEXTS), Plain(), tmp_path / "ix")
    assert report.documents == len(TEXTS)
    assert Plain.threads == {"encode"}


def test_who_changes_the_whole_means_the_whole():
    class Louder(Halves):
        def encode_documents(self, texts, **options):
            return super().encode_documents([text.upper() for text in texts], **options)

    changed = Louder()
    one = prepare_with(changed, Level.BOTH, OverflowPolicy.SPLIT)(["a b"])()
    np.testing.assert_array_equal(one.segments, HashingEncoder().encode_documents(["A B"]).segments)
    patched = Halves()
    patched.encode_documents = lambda texts, **options: changed.encode_documents(texts, **options)
    two = prepare_with(patched, Level.BOTH, OverflowPolicy.SPLIT)(["a b"])()
    np.testing.assert_array_equal(one.segments, two.segments)


def test_a_text_whose_first_half_fails_is_a_failure_with_its_place_and_the_rest_is_indexed(tmp_path):
    report = build(corpus(*TEXTS[:5], "UNREADABLE text", *TEXTS[5:]), Halves(), tmp_path / "ix")
    assert (report.documents, report.failed_reasons) == (9, {"overflow": 1})
    line = json.loads((tmp_path / "ix" / "failed.jsonl").read_text())
    assert (line["id"], line["where"]) == ("d5", "list:5")


class PanicException(BaseException):
    """As bindings of libraries written in Rust raise it: no Exception."""


@pytest.mark.parametrize("half", ["first", "second", "whole"])
def test_a_library_that_panics_over_a_text_costs_that_text_and_nobody_waits_for_ever(half, tmp_path):
    class Panics(HashingEncoder):
        def prepare_documents(self, texts, **options):
            def compute():
                return self._unless("second", texts, options)

            if half == "first":
                self._unless("first", texts, options)
            return compute

        def encode_documents(self, texts, **options):
            return self._unless(half, texts, options)

        def _unless(self, now, texts, options):
            if now == half and any("PANIC" in text for text in texts):
                raise PanicException("range end index 4 out of range")
            return HashingEncoder.encode_documents(self, texts, **options)

    if half == "whole":
        del Panics.prepare_documents
    report = build(corpus(*TEXTS[:5], "PANIC", *TEXTS[5:]), Panics(), tmp_path / "ix")
    assert (report.documents, report.failed_reasons) == (9, {"encoder-error": 1})
    assert "range end index" in (tmp_path / "ix" / "failed.jsonl").read_text()


def test_a_text_over_which_an_encoder_of_a_users_own_runs_out_of_memory_is_recorded_as_that(tmp_path):
    class Large(HashingEncoder):
        def encode_documents(self, texts, **options):
            if any("LARGE" in text for text in texts):
                raise MemoryError
            return super().encode_documents(texts, **options)

    report = build(corpus(*TEXTS[:5], "LARGE", *TEXTS[5:]), Large(), tmp_path / "ix")
    assert (report.documents, report.failed_reasons) == (9, {"out-of-memory": 1})
    again = build(corpus(*TEXTS[:5], "LARGE", *TEXTS[5:]), HashingEncoder(), tmp_path / "ix")
    assert (again.documents, again.added, again.failed) == (10, 1, 0)


def test_an_encoder_that_exits_in_its_first_half_ends_the_build(tmp_path):
    class Exits(Halves):
        def prepare_documents(self, texts, **options):
            if any(text.startswith("w6x") for text in texts):
                raise SystemExit(3)
            return super().prepare_documents(texts, **options)

        def encode_documents(self, texts, **options):
            return self.prepare_documents(texts, **options)()

    with pytest.raises(SystemExit):
        build(corpus(*TEXTS), Exits(), tmp_path / "ix")


def test_an_error_that_concerns_all_texts_ends_the_build_after_what_came_before_it_was_stored(tmp_path):
    class Broken(HashingEncoder):
        def encode_documents(self, texts, **options):
            if any(text.startswith("w6x") for text in texts):
                raise PassportMismatch("the model has changed under the build")
            return super().encode_documents(texts, **options)

    with pytest.raises(PassportMismatch, match="changed under"):
        build(corpus(*TEXTS), Broken(), tmp_path / "ix")
    journal = (tmp_path / "ix" / "work" / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line.partition(" ")[2])["documents"] for line in journal] == [2, 4, 6]
    assert not own_threads()
    report = build(corpus(*TEXTS), HashingEncoder(), tmp_path / "ix")
    build(corpus(*TEXTS), HashingEncoder(), tmp_path / "never interrupted")
    assert report.documents == 9
    assert load_manifest(tmp_path / "ix") == load_manifest(tmp_path / "never interrupted")


def test_a_disk_that_is_full_ends_the_build_and_its_threads(tmp_path, monkeypatch):
    from unabridged.retrievers.staging import Staging

    def full(self, *rest):
        raise DiskFull("no room left")

    monkeypatch.setattr(Staging, "add_unit", full)
    with pytest.raises(DiskFull):
        build(corpus(*TEXTS), Halves(), tmp_path / "ix")
    assert not own_threads()


def test_an_interrupt_does_not_wait_for_the_device(tmp_path):
    go = threading.Event()

    class Endless(HashingEncoder):
        def encode_documents(self, texts, **options):
            go.wait(20)
            return super().encode_documents(texts, **options)

    class Interrupted(ListCorpus):
        seen = 0

        def __iter__(self):
            for item in super().__iter__():
                Interrupted.seen += 1
                if Interrupted.seen > 9 + 5:  # in the second pass
                    raise KeyboardInterrupt
                yield item

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        build(Interrupted([Document(f"d{n}", text) for n, text in enumerate(TEXTS)]), Endless(), tmp_path / "ix")
    assert time.monotonic() - started < 10
    go.set()


UNITS = st.lists(st.lists(st.sampled_from(["a b", "c", "POISON d", "e f g"]), min_size=1, max_size=3), max_size=8)


@settings(max_examples=40, deadline=None)
@given(UNITS, st.data())
def test_whatever_is_wanted_and_taken_each_unit_is_what_the_encoder_gives_alone(units, data):
    encoder = HashingEncoder(fail_on="POISON")
    plain = encode_with(encoder, Level.BOTH, OverflowPolicy.SPLIT)
    runs = [
        [Record.of(Document(f"{n} {k}", text), f"{n} {k}".encode()) for k, text in enumerate(unit)]
        for n, unit in enumerate(units)
    ]
    overlapped = Overlapped(prepare_with(encoder, Level.BOTH, OverflowPolicy.SPLIT))
    waiting = []
    try:
        for run in runs:
            if data.draw(st.booleans()):
                overlapped.want(run)
            waiting.append(run)
            while len(waiting) > AHEAD:
                compare(overlapped, waiting.pop(0), plain, data)
        for run in waiting:
            compare(overlapped, run, plain, data)
    finally:
        overlapped.close()


def compare(overlapped, run, plain, data):
    taken = run if data.draw(st.booleans()) else run[:-1] or run  # not what was wanted
    kept, encoded, failed = overlapped.take(taken, lambda record: f"at {record.id}")
    own, expected, lost = encode_unit(taken, plain, lambda record: f"at {record.id}")
    assert [record.id for record in kept] == [record.id for record in own]
    assert failed == lost
    assert (encoded is None) == (expected is None)
    if encoded is not None:
        np.testing.assert_array_equal(encoded.segments, expected.segments)


def test_a_broken_encoder_ends_the_build_with_what_it_said_first(tmp_path):
    class Never(HashingEncoder):
        def encode_documents(self, texts, **options):
            raise ValueError("nothing works")

    with pytest.raises(RuntimeFailure, match="nothing works"):
        build(corpus(*[f"{n}" for n in range(60)]), Never(), tmp_path / "ix")
