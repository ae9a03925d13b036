"""Where an engine is: a URL in, its parts out, and a form of it that may be shown and written down.

::

    milvus://[user:password@]host[:19530]/collection[?secure=yes&db=name]
    milvus:///path/file.db[?collection=name]                                  Milvus Lite, a file of this machine
    postgresql://[user:password@]host[:5432]/database?collection=name[&sslmode=verify-full]
    postgresql:///database?host=/run/postgresql&collection=name               through a socket

Both know ``texts=yes`` (store the text of each segment, too) and ``index=NAME`` (hnsw, ivf, flat, ...; without it the
recipe of the folder).  What opens an account is kept out of every message; it and the user's name are no part of
``repr`` and of :attr:`Address.shown`, so a URL that was written down is used with ``PGUSER``, ``PGPASSWORD`` or
``MILVUS_TOKEN``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from unabridged.errors import UsageError

MILVUS, POSTGRES = "milvus", "postgresql"
PORTS = {MILVUS: 19530, POSTGRES: 5432}
SCHEMES = {"milvus": MILVUS, "postgresql": POSTGRES, "postgres": POSTGRES}
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
"""Collections: what Milvus allows, and short enough for PostgreSQL's 63 bytes with our endings."""
COLLECTION = "unabridged"
OPTIONS = {
    MILVUS: ("secure", "db", "timeout"),
    POSTGRES: ("host", "sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout", "application_name"),
}
"""Options handed on to the client, beside our own; none of them is a secret."""
HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of a URL.  ``path`` is a file of Milvus Lite, or nothing; ``port`` 0 is the engine's own."""

    scheme: str
    host: str
    port: int
    path: str
    database: str
    collection: str
    index: str = ""
    texts: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def shown(self) -> str:
        """The URL without user and password: the only form that is written down or printed."""
        query = {} if self.scheme == MILVUS and not self.path else {"collection": self.collection}
        query |= {name: value for name, value in (("index", self.index),) if value}
        query |= {"texts": "yes"} if self.texts else {}
        host = f"[{self.host}]" if ":" in self.host else self.host
        place = host + (f":{self.port}" if self.port else "")
        path = self.path.lstrip("/") or (self.collection if self.scheme == MILVUS else self.database)
        asked = urlencode({**query, **self.options}, quote_via=quote, safe="/")
        return f"{self.scheme}://{place}/{quote(path)}" + (f"?{asked}" if asked else "")

    @property
    def place(self) -> str:
        """Host and port, or the file, for messages."""
        if self.path:
            return self.path
        socket = self.options.get("host", "") if self.scheme == POSTGRES else ""
        return socket or f"{self.host or 'localhost'}:{self.port or PORTS[self.scheme]}"

    def scrubbed(self, text: object) -> str:
        """``text`` of a client's error without what opens the account."""
        shown = str(text)
        for secret in (self.password, quote(self.password, safe="")):
            if secret:
                shown = shown.replace(secret, HIDDEN)
        return shown


def is_address(text: str) -> bool:
    """Whether ``text`` is meant as the URL of an engine."""
    return "://" in text


def parse_address(url: str) -> Address:
    """The parts of ``url``.

    Raises:
        UsageError: another scheme, no host, no collection, or an option that neither engine nor we know.  The message
            never has the URL itself, in which there may be a password.
    """
    head = url.partition("://")[0]
    scheme = SCHEMES.get(head.lower()) if "://" in url else None
    if scheme is None:
        found = repr(head) if "://" in url and NAME.fullmatch(head) else "none"
        raise UsageError(f"a backend is milvus://… or postgresql://…; found the scheme {found}")
    try:
        parts = urlsplit(url)
        port = parts.port or 0
    except ValueError:
        raise UsageError(
            f"the port of a {scheme}:// address is a number from 1 to 65535, and an IPv6 host stands in brackets"
        ) from None  # its text repeats what stands in place of the port
    asked = dict(parse_qsl(parts.query, keep_blank_values=True))
    if any("@" in text for text in (*asked, parts.fragment, parts.path if parts.netloc else "")):
        raise UsageError(
            f"a {scheme}:// address has an @ behind its host: inside of a user or password / ? # and @ are written as "
            "%2F %3F %23 %40"
        )  # what is shown of such an address would be a piece of the password
    ours = {name: asked.pop(name, "") for name in ("collection", "index", "texts", "password", "user")}
    unknown = sorted(set(asked) - set(OPTIONS[scheme]))
    if unknown:
        known = ", ".join(("collection", "index", "texts", *OPTIONS[scheme]))
        raise UsageError(f"unknown option {unknown[0]!r} of a {scheme}:// address; known: {known}")
    host, path = unquote(parts.hostname or ""), unquote(parts.path)
    is_file = scheme == MILVUS and not host
    first = path.strip("/")
    return Address(
        scheme,
        host,
        port,
        _file(path) if is_file else "",
        _database(first) if scheme == POSTGRES else "",
        _collection(ours["collection"] or (first if scheme == MILVUS and not is_file else COLLECTION), scheme),
        _index(ours["index"]),
        _switch("texts", ours["texts"]),
        asked,
        unquote(parts.username or "") or ours["user"],
        unquote(parts.password or "") or ours["password"],
    )


def _file(path: str) -> str:
    if not path.strip("/"):
        raise UsageError(
            "a milvus:// address names a host and a collection, as milvus://host:19530/name, or a file, as "
            "milvus:///path/file.db; found neither"
        )
    return path


def _database(name: str) -> str:
    if not name:
        raise UsageError("a postgresql:// address names a database, as postgresql://host/database?collection=name")
    return name


def _collection(name: str, scheme: str) -> str:
    if not name:
        raise UsageError(f"a {scheme}:// address names a collection, as milvus://host:19530/collection; found none")
    if not NAME.fullmatch(name):
        raise UsageError(
            f"a collection has up to 40 letters, digits and underscores and begins with no digit; found {name[:80]!r}"
        )
    return name


def _index(name: str) -> str:
    if name and not re.fullmatch(r"[A-Za-z0-9_,()x-]{1,64}", name):
        raise UsageError(f"index={name[:64]!r} is no name of an index, as hnsw, ivf, flat, cagra, or a recipe")
    return name


def _switch(name: str, value: str) -> bool:
    words = {"": False, "no": False, "false": False, "0": False, "yes": True, "true": True, "1": True}
    if value.lower() not in words:
        raise UsageError(f"{name} is yes or no, found {value[:40]!r}")
    return words[value.lower()]
