"""A corpus on paper: figures grow with the documents, add up, stay above what physics asks, and name what binds."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from unabridged.contracts import Level
from unabridged.errors import UsageError
from unabridged.index.backends.recipes import EngineIndex
from unabridged.index.dense.factory import parse
from unabridged.index.dense.gpu.kinds import CPU, kind_of
from unabridged.index.dense.gpu.sizes import device_bytes
from unabridged.index.recipe import base_operations, choose_recipe, gpu_factories
from unabridged.retrievers.rates import ENCODE, ENCODE_FLOPS
from unabridged.retrievers.scale import plan_scale
from unabridged.retrievers.scale_engines import fewest, pg_index, pg_table
from unabridged.retrievers.scale_question import BACKENDS, GIB, Question, load_of

BIG = {"ram": 1 << 50, "disk": 1 << 60, "vram": 1 << 45, "gpus": 8, "gpu_tokens_per_second": 1e5}
QUESTIONS = st.builds(
    Question,
    documents=st.integers(1, 10**11),
    backend=st.sampled_from(BACKENDS),
    tokens_per_document=st.one_of(st.none(), st.floats(1, 1e5)),
    dim=st.sampled_from([64, 384, 768, 1024, 2048]),
    window=st.sampled_from([64, 256, 8192]),
    level=st.sampled_from(Level),
    vector_dtype=st.sampled_from(["float32", "float16"]),
    ram=st.just(64 * GIB),
    gpus=st.integers(0, 8),
    gpu_tokens_per_second=st.one_of(st.none(), st.floats(1, 1e6)),
    load_rows_per_second=st.one_of(st.none(), st.floats(1, 1e6)),
    price_per_hour=st.one_of(st.none(), st.floats(0, 100)),
    k=st.integers(1, 100_000),
)


@given(QUESTIONS)
@settings(max_examples=150, deadline=None)
def test_every_answer_is_finite_not_negative_and_json(question: Question) -> None:
    answer = plan_scale(question)
    json.dumps(answer.as_json(), allow_nan=False)
    for one in (*answer.sums, *answer.assumptions):
        assert one.how
        assert one.value is None or (math.isfinite(one.value) and one.value >= 0)
    assert len({one.name for one in answer.sums}) == len(answer.sums)
    assert answer.fits == (not answer.does_not_fit)


@given(QUESTIONS, st.integers(2, 1000))
@settings(max_examples=100, deadline=None)
def test_more_documents_never_take_less(question: Question, factor: int) -> None:
    assume(question.documents * factor <= 10**12)
    one, more = (
        load_of(question),
        load_of(replace(question, documents=question.documents * factor)),
    )
    assert more.tokens >= factor * one.tokens * (1 - 1e-9)
    assert more.segments >= one.segments
    assert more.rows >= one.rows
    assert more.vector_bytes >= one.vector_bytes
    assert more.text_bytes >= one.text_bytes


@given(st.integers(20_001, 10**9), st.integers(1, 50), st.sampled_from(["milvus", "pgvector"]))
@settings(max_examples=60, deadline=None)
def test_memory_and_disk_of_an_engine_grow_with_the_documents(documents: int, factor: int, backend: str) -> None:
    one, more = (
        plan_scale(Question(count, backend, level=Level.DOC, machines=1)) for count in (documents, documents * factor)
    )
    disk = "disk" if backend == "pgvector" else "object storage"
    for name in ("memory", disk, "folder"):
        assert (more.value(name) or 0) >= (one.value(name) or 0) > 0


@given(QUESTIONS)
@settings(max_examples=100, deadline=None)
def test_nothing_is_below_the_physical_limit(question: Question) -> None:
    """Stored vectors are their numbers; a rate cannot encode more than all machines do."""
    answer = plan_scale(replace(question, cpu_tokens_per_second=1000.0))
    load = load_of(question)
    item = 2 if question.vector_dtype == "float16" else 4
    assert load.vector_bytes >= load.rows * question.dim * item
    assert load.rows >= question.documents
    machines, seconds = answer.value("machines"), answer.value("encoding")
    rate = 1000.0 if not question.gpus else question.gpus * (question.gpu_tokens_per_second or math.inf)
    if seconds is not None:
        assert seconds * (machines or 0) * rate == pytest.approx(load.tokens, rel=1e-6)


@given(QUESTIONS)
@settings(max_examples=100, deadline=None)
def test_hours_and_costs_are_the_sum_of_the_times(question: Question) -> None:
    answer = plan_scale(question)
    times = [one.value for one in answer.sums if one.unit == "seconds"]
    hours = answer.value("machine hours")
    if any(time is None for time in times):
        assert hours is None
        return
    assert hours == pytest.approx(sum(times) / 3600 * answer.value("machines"))
    names = {one.name for one in answer.sums}
    assert ("cost" in names) == (question.price_per_hour is not None)
    if question.price_per_hour is not None:
        assert answer.value("cost") == pytest.approx(hours * question.price_per_hour)


def test_a_small_case_by_hand() -> None:
    """1,000 documents of 450 tokens in windows of 256: 2 segments each at 225 tokens of 254 x 0.88."""
    answer = plan_scale(Question(1000, tokens_per_document=450, dim=10, cpu_tokens_per_second=100, price_per_hour=2))
    segments = math.ceil(1000 * 450 / (254 * 0.88))
    assert answer.value("tokens") == 450_000
    assert answer.value("segments") == segments
    assert answer.value("vectors") == segments + 1000
    assert answer.value("stored vectors") == (segments + 1000) * 40 + 2 * 128
    assert answer.value("encoding") == 4500
    assert answer.value("building") == 0
    assert answer.value("cost") == pytest.approx(2 * 1.25)
    assert answer.recipes["segments"]["name"] == "flat"


def test_documents_that_fit_a_window_have_one_segment_and_one_index_serves_both_sets() -> None:
    answer = plan_scale(Question(1_000_000, tokens_per_document=100))
    assert answer.value("segments") == 1_000_000
    assert [name for name in answer.recipes] == ["segments"]


def test_a_million_rows_take_the_recipe_and_bytes_that_the_builder_takes() -> None:
    answer = plan_scale(Question(1_000_000, level=Level.DOC, tokens_per_document=10))
    recipe = choose_recipe("auto", n=1_000_000, dim=384, ram_bytes=64 * GIB, disk_bytes=2000 * GIB)
    assert answer.recipes["documents"] == recipe.as_json()
    assert answer.value("documents index") == recipe.file_bytes


def test_building_a_million_rows_is_near_what_was_measured() -> None:
    """143 s for IVF4000,SQfp16 over 1,000,000 x 384, 11.1 s for IVF1265,SQfp16 over 100,000."""
    for rows, lists, seconds in ((1_000_000, 4000, 143.2), (100_000, 1265, 11.1)):
        operations = base_operations(parse(f"IVF{lists},SQfp16", 384), rows, 384)
        assert operations / 44e9 == pytest.approx(seconds, rel=0.15)


@pytest.mark.parametrize("text", ["HNSW32", "IVF1000,SQ8", "IVF1000,PQ48np", "IVF65536_HNSW32,SQ8", "SQ8"])
def test_building_more_rows_takes_more_operations(text: str) -> None:
    counts = [base_operations(parse(text, 384), rows, 384) for rows in (10**6, 10**7, 10**8)]
    assert counts == sorted(counts)
    assert text == "SQ8" or counts[0] > 0


@given(st.integers(0, 10**10), st.sampled_from([32, 64, 100, 384, 768, 1024]))
def test_what_is_planned_for_gpus_exists_there_and_its_bytes_fall(rows: int, dim: int) -> None:
    texts = gpu_factories(rows, dim)
    sizes = []
    for text in texts:
        factory = parse(text, dim) if text else None
        kind = kind_of(factory, dim)
        sizes.append(device_bytes(kind, factory, rows, dim, float16=True))
        assert kind.name != CPU or dim > 6_000
    assert "" in texts
    assert rows < 10**5 or sizes == sorted(sizes, reverse=True)


def test_gpus_take_flat_vectors_then_codes_then_say_how_many_more_are_needed() -> None:
    chosen = []
    for documents in (10**6, 10**7, 3 * 10**8, 10**9, 10**10):
        question = Question(documents, "gpu", tokens_per_document=10, level=Level.DOC, gpus=1, vram=139 * GIB)
        answer = plan_scale(replace(question, ram=1 << 50, disk=1 << 60))
        chosen.append(answer.recipes["documents on GPU"].rpartition(",")[2] if answer.fits else answer.does_not_fit[0])
    assert chosen[:4] == ["Flat float16", "SQfp16", "SQ8", "PQ96np"]
    assert "GPUs like this would hold the smallest kind" in chosen[4]
    rest = plan_scale(replace(question, documents=10**6))
    assert rest.value("FAISS's own") == (1536 + 512) * 2**20
    assert rest.value("pinned memory") == 256 * 2**20


def test_without_gpus_the_gpu_backend_does_not_fit_and_without_a_rate_there_is_no_time() -> None:
    assert "found 0" in plan_scale(Question(1000, "gpu")).does_not_fit[0]
    answer = plan_scale(Question(1000, "gpu", gpus=1))
    assert answer.fits
    assert answer.value("encoding") is None
    assert answer.value("machine hours") is None
    assert "--gpu-tokens-per-second" in {one.name: one.how for one in answer.sums}["encoding"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"backend": "pgvector", "dim": 4096}, "up to 4,000 wide"),
        ({"backend": "pgvector", "dim": 20_000}, "up to 16,000 wide"),
        ({"backend": "pgvector", "recipe": "diskann"}, "pgvector has no diskann index"),
        ({"backend": "pgvector", "documents": 10**9}, "memory: "),
        ({"backend": "milvus", "dim": 40_000}, "up to 32,768 wide"),
        ({"backend": "milvus", "k": 20_000}, "returns at most 16,384 hits"),
        ({"backend": "milvus", "documents": 10**9, "machines": 2}, "a machine has 55.0 GB for it"),
        ({"backend": "local", "documents": 10**10}, "recipe 'auto' for"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_does_not_fit_says_why(given: dict[str, object], reason: str) -> None:
    answer = plan_scale(Question(**{"documents": 100_000, **given}))  # type: ignore[arg-type]
    assert not answer.fits
    assert any(reason in one for one in answer.does_not_fit), answer.does_not_fit


def test_limits_are_named() -> None:
    assert any("2,048" in one for one in plan_scale(Question(1000, "gpu", gpus=1, k=3000)).limits)
    assert any("16,384" in one for one in plan_scale(Question(10**5, "milvus")).limits)
    assert any("maintenance_work_mem" in one for one in plan_scale(Question(10**7, "pgvector", level=Level.DOC)).limits)
    assert any("ef_search" in one for one in plan_scale(Question(10**5, "pgvector", k=2000)).limits)


@given(st.integers(0, 2000))
def test_the_fewest_machines_are_found(wanted: int) -> None:
    asked: list[int] = []

    def one(machines: int):
        from unabridged.retrievers.scale_engines import Need

        asked.append(machines)
        return Need(machines, against=[] if machines >= wanted else ["too few"])

    assert fewest(one).machines == max(1, wanted)
    assert len(asked) < 40


def test_where_no_number_of_machines_fits_the_reason_is_that_of_one() -> None:
    answer = plan_scale(Question(10**6, "milvus", dim=40_000))
    assert answer.value("machines") == 1
    assert not answer.fits


def test_shards_take_the_fewest_machines_that_fit() -> None:
    answer = plan_scale(Question(10**9, "shards", tokens_per_document=200, level=Level.DOC))
    machines = int(answer.value("machines") or 0)
    assert machines > 1
    assert answer.fits
    fewer = plan_scale(Question(10**9, "shards", tokens_per_document=200, level=Level.DOC, machines=machines - 1))
    assert not fewer.fits


def test_encoding_machines_are_counted_apart() -> None:
    question = Question(10**6, "pgvector", encoding_machines=4, cpu_tokens_per_second=1000, price_per_hour=1)
    answer = plan_scale(question)
    assert answer.value("encoding") == pytest.approx(10**6 * 1000 / 4000)
    hours = ((answer.value("encoding") or 0) * 4 + (answer.value("loading") or 0)) / 3600
    assert answer.value("cost") == pytest.approx(hours)


def test_pages_of_postgresql_agree_with_sizes_that_were_measured() -> None:
    """30,000 x 384 of half precision: a table of 27 MiB, an hnsw index of 33 MiB."""
    assert pg_table(30_000, 384)[0] / 2**20 == pytest.approx(27, rel=0.1)
    hnsw = pg_index(EngineIndex("hnsw", {"m": 16}), 30_000, 384)[0]
    assert hnsw / 2**20 == pytest.approx(33, rel=0.1)
    assert pg_index(EngineIndex("exact"), 30_000, 384)[0] == 0
    assert pg_index(EngineIndex("hnsw", {"m": 100}), 10, 4000)[0] == 2 * 10 * 8192


@given(st.integers(1, 10**8), st.integers(1, 16_000))
def test_a_table_is_never_smaller_than_its_vectors(rows: int, dim: int) -> None:
    assert pg_table(rows, dim)[0] >= rows * 2 * dim


def test_the_recorded_rate_is_scaled_by_the_operations_of_the_encoder() -> None:
    plain = plan_scale(Question(1000)).value("encoding")
    double = plan_scale(Question(1000, operations_per_token=2 * ENCODE_FLOPS)).value("encoding")
    assert plain == pytest.approx(1_000_000 / ENCODE.value)
    assert double == pytest.approx(2 * plain)
    assert plan_scale(Question(1000, operations_per_token=None)).value("encoding") is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"documents": 0}, "documents is a number from 1"),
        ({"documents": -3}, "documents is a number from 1"),
        ({"documents": 10**30}, "documents is a number from 1"),
        ({"documents": 1.5}, "documents is a whole number"),
        ({"backend": "faiss"}, "known: local, shards, gpu, milvus, pgvector"),
        ({"dim": 0}, "dim is a number from 1"),
        ({"tokens_per_document": 0.0}, "tokens_per_document"),
        ({"tokens_per_document": math.nan}, "tokens_per_document"),
        ({"ram": math.inf}, "ram"),
        ({"price_per_hour": -1.0}, "price_per_hour"),
        ({"machines": 0, "backend": "milvus"}, "machines is a number from 1"),
        ({"machines": 2}, "searches on one machine"),
        ({"vector_dtype": "int8"}, "float32"),
        ({"recall_target": 1.5}, "recall_target"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_nonsense_is_refused_by_name(given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Question(**{"documents": 10, **given})  # type: ignore[arg-type]
