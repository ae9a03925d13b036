"""Addresses, filters and recipes of engines: pure parts, no engine."""

from __future__ import annotations

import importlib.util
import json
import string
import subprocess
import sys

import pytest

from unabridged.errors import MissingExtra, UsageError
from unabridged.index.backends import connect, parse_address
from unabridged.index.backends._milvus import expression, literal
from unabridged.index.backends.conditions import Condition, conditions_of
from unabridged.index.backends.recipes import milvus_index, pgvector_index

SECRET = "s3cr3t-p%40ss"


@pytest.mark.parametrize(
    ("url", "place", "collection"),
    [
        ("milvus://host/docs", "host:19530", "docs"),
        ("milvus://me:word@host:9/docs?secure=yes&db=main", "host:9", "docs"),
        ("milvus://[::1]:9/docs", "::1:9", "docs"),
        ("milvus:///data/my%20file.db", "/data/my file.db", "unabridged"),
        ("milvus:///data/file.db?collection=c_1", "/data/file.db", "c_1"),
        ("postgresql://me@host/base?collection=docs", "host:5432", "docs"),
        ("postgres://host:1/base", "host:1", "unabridged"),
        ("postgresql://postgres:@/postgres?host=/run/pg&collection=x", "/run/pg", "x"),
    ],
)
def test_an_address_is_taken_apart_and_its_shown_form_means_the_same_place(url, place, collection):
    address = parse_address(url)
    assert (address.place, address.collection) == (place, collection)
    again = parse_address(address.shown)
    assert (again.place, again.collection, again.database, again.path) == (
        place,
        collection,
        address.database,
        address.path,
    )
    assert (again.user, again.password) == ("", "")
    assert again.shown == address.shown
    assert dict(again.options) == dict(address.options)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://someone:{SECRET}@host/base?collection=x",
        f"postgresql://host/base?user=someone&password={SECRET}",
        f"milvus://someone:{SECRET}@host/x?texts=yes&index=hnsw",
    ],
)
def test_an_account_is_in_no_form_that_is_shown(url):
    address = parse_address(url)
    assert (address.user, address.password) == ("someone", "s3cr3t-p@ss")
    for text in (address.shown, repr(address), address.place, address.scrubbed(f"no entry with {address.password}")):
        assert "s3cr3t" not in text
    assert "someone" not in address.shown + repr(address)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://a:{SECRET}@host/x",
        f"{SECRET}://host/x",
        f"milvus://host:{SECRET}/x",
        f"milvus://a:{SECRET}@host",
        f"postgresql://a:{SECRET}@host",
        f"postgresql://a:{SECRET}@host/base?collection=a-b",
        f"postgresql://a:{SECRET}@host/base?collection=x%22;DROP",
        f"postgresql://a:{SECRET}@host/base?options=-c",
        f"postgresql://a:{SECRET}@host/base?index=x';--",
        f"postgresql://a:{SECRET}@host/base?texts=perhaps",
        f"milvus://a:{SECRET}@[::1/x",
        f"milvus://a:{SECRET}@host/{'x' * 41}",
        "milvus://",
        "milvus:///",
        "plain",
        "",
    ],
)
def test_what_is_no_address_is_refused_without_repeating_what_may_be_a_password(url):
    with pytest.raises(UsageError) as caught:
        parse_address(url)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [("milvus://host/x", "pymilvus", "milvus"), ("postgresql://host/base", "psycopg", "pgvector")],
)
def test_a_missing_client_names_its_extra(url, package, extra, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else there(name, *rest)
    )
    with pytest.raises(MissingExtra, match=rf"unabridged\[{extra}\]"):
        connect(url)


def test_no_client_is_loaded_before_it_is_used():
    names = ["unabridged.index.backends", "unabridged.retrievers.backends.remote", "unabridged.apps.backends"]
    code = f"import sys, {', '.join(names)}; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for client in ("pymilvus", "milvus_lite", "psycopg", "pgvector", "grpc"):
        assert f"'{client}'" not in done.stdout


def test_the_portable_part_of_a_filter_and_whether_it_is_all():
    found, whole = conditions_of({"a": "x", "b": [1, None], "c": lambda value: True, "d": {"nested": 1}, "e": "\0"})
    assert [(one.field, set(map(repr, one.values))) for one in found] == [
        ("a", {"'x'"}),
        ("b", {"1", "True", "None"}),
    ]
    assert not whole
    assert conditions_of(None) == ([], True)
    assert conditions_of({"a": ()}) == ([Condition("a", ())], True)
    for odd in (float("nan"), float("inf"), 1 << 70, "\ud800", [["x"]]):
        assert conditions_of({"a": odd}) == ([], False)


def read_literal(text: str) -> str:
    """A naive reader of the literals of Milvus's expressions: what stands between two quotes, escapes undone."""
    assert text[0] == text[-1] == '"'
    out, at = "", 1
    while at < len(text) - 1:
        assert text[at] != '"', "a quote in the middle would end the literal"
        if text[at] == "\\":
            assert text[at + 1] in '"\\'
            at += 1
        out += text[at]
        at += 1
    return out


@pytest.mark.parametrize(
    "value", [*string.printable[:95], '" or 1==1 or "', '\\" or key > 0 or \\"', "é漢🙂", "\\", '\\\\"']
)
def test_a_text_is_one_literal_whatever_it_holds(value):
    assert read_literal(literal(value)) == value


def test_numbers_and_truth_values_are_literals_of_their_own():
    assert [literal(one) for one in (True, False, 3, -2, 0.5)] == ["true", "false", "3", "-2", "0.5"]
    assert expression([]) == ""
    assert expression([Condition("a", ())]) == "(key < 0)"
    assert expression([Condition("id", ('x"', 5))]) == f"(doc_id in [{json.dumps(chr(120) + chr(34))}])"


@pytest.mark.parametrize(
    ("recipe", "rows", "kind"),
    [
        ("auto", 100, "FLAT"),
        ("auto", 10**6, "HNSW"),
        ("flat", 10**6, "FLAT"),
        ("hnsw", 10, "HNSW"),
        ("HNSW32", 10, "HNSW"),
        ("HNSW32,SQ8", 10, "HNSW_SQ"),
        ("ivf", 10**6, "IVF_FLAT"),
        ("IVF1024,Flat", 10**6, "IVF_FLAT"),
        ("ivf-sq8", 10**6, "IVF_SQ8"),
        ("ivf-pq", 10**6, "IVF_PQ"),
        ("IVF1024,PQ48np", 10**6, "IVF_PQ"),
        ("rabitq", 10**6, "IVF_RABITQ"),
        ("cagra", 10**6, "GPU_CAGRA"),
        ("diskann", 10**9, "DISKANN"),
        ("SQ8", 10, "FLAT"),
    ],
)
def test_recipes_have_their_names_in_milvus(recipe, rows, kind):
    plan = milvus_index(recipe, rows, 384)
    assert plan.kind == kind
    if kind == "IVF_PQ":
        assert 384 % plan.build["m"] == 0
    if kind.startswith("HNSW"):
        assert plan.build["M"] in (16, 32)
    if kind.startswith("IVF"):
        assert 1 <= plan.build["nlist"] <= 65_536


@pytest.mark.parametrize(
    ("recipe", "rows", "dim", "kind", "noted"),
    [
        ("auto", 100, 384, "exact", False),
        ("auto", 10**6, 384, "hnsw", False),
        ("hnsw", 100, 384, "hnsw", False),
        ("HNSW32", 100, 384, "hnsw", False),
        ("ivf", 10**6, 384, "ivfflat", False),
        ("IVF64,PQ48np", 10**6, 384, "ivfflat", True),
        ("ivf-pq", 10**6, 384, "ivfflat", True),
        ("PQ48np", 10**6, 384, "hnsw", True),
        ("hnsw", 10**6, 4000, "hnsw", False),
        ("hnsw", 10**6, 4001, "exact", True),
        ("flat", 10**9, 384, "exact", False),
        ("hnsw", 0, 384, "exact", False),
    ],
)
def test_recipes_are_what_pgvector_has_and_what_it_lacks_is_said(recipe, rows, dim, kind, noted):
    plan = pgvector_index(recipe, rows, dim, 4000)
    assert (plan.kind, bool(plan.note)) == (kind, noted)


def test_what_an_engine_has_no_name_for_is_refused():
    with pytest.raises(UsageError, match="recipe"):
        milvus_index("nothing-like-it", 10, 8)
    with pytest.raises(UsageError, match="no cagra"):
        pgvector_index("cagra", 10, 8, 4000)
