"""The packages whose functions are searched: pinned, under permissive licences, and of no other set or training.

What the registries of Python and JavaScript serve under a version never changes, so its SHA-256 is checked; a Debian
package moves with security updates, and the record says which one it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from unabridged.errors import CorpusError
from unabridged.eval.local_sets.packages import debian, npm, wheel

_SKIPPED = frozenset({
    "test", "tests", "testdata", "benches", "vendor", "externals", "third_party", "ThirdParty", "internal", "cmd",
    "locale", "__tests__", "examples", "stdarch", "tools",
})  # fmt: skip
"""Folders with tests, with other projects' code, with what is not to be called, and with thousands of intrinsics."""


@dataclass(frozen=True, slots=True)
class Source:
    """One package of one language."""

    language: str
    package: str
    """``name==1.0`` is Python's, others are ``npm:name@1.0`` and ``deb:name``."""
    licence: str
    under: str
    """The folder whose files are read; all of a wheel."""
    suffix: str

    @property
    def prefix(self) -> str:
        """What stands before a file's path where that does not name its package; a package of JavaScript's registry."""
        kind, _, rest = self.package.rpartition(":")
        return f"{rest.rpartition('@')[0]}/" if kind == "npm" else ""


@dataclass(frozen=True, slots=True)
class Held:
    """A package that was read."""

    version: str
    sha256: str
    files: tuple[tuple[str, str], ...]
    """Path below the folder that is read, and text; sorted."""


def read(source: Source, packages: Path) -> Held:
    """The code files of a package, tests and foreign code left out.

    Raises:
        MissingFile: It is not among ``packages`` and could not be downloaded.
        CorpusError: It is damaged, or not the file that its version had.
    """
    version, pattern, found = _opened(source, packages)
    [archive] = packages.glob(pattern)
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    expected = SHA256.get(source.package, digest)
    if digest != expected:
        raise CorpusError(
            f"{archive} has the SHA-256 {digest[:16]}, expected {expected[:16]}. Delete it and try again."
        )
    files = tuple((str(path), data.decode(errors="replace")) for path, data in found if _wanted(path, source))
    return Held(version, digest, files)


def _opened(source: Source, packages: Path) -> tuple[str, str, Iterator[tuple[PurePosixPath, bytes]]]:
    """Version, pattern of the archive's name, and files."""
    kind, _, rest = source.package.rpartition(":")
    if kind == "deb":
        held = debian(rest, packages, source.under)
        return held.version, f"{rest}_*.deb", iter(held.files.items())
    if kind == "npm":
        name, _, version = rest.rpartition("@")
        pattern = f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
        return version, pattern, iter(npm(rest, packages, source.under).items())
    name, _, version = rest.partition("==")
    files = wheel(rest, packages, lambda member: member.endswith(source.suffix))
    return version, f"{name}-{version}-*.whl", ((PurePosixPath(path), data) for path, data in files.items())


def _wanted(path: PurePosixPath, source: Source) -> bool:
    name = path.name.lower()
    made = name.endswith((".d.ts", ".min.js")) or "_test." in name or ".test." in name or name.startswith("test_")
    return path.suffix == source.suffix and not made and _SKIPPED.isdisjoint(path.parts)


SOURCES: Final = (
    Source("python", "mne==1.10.1", "BSD-3-Clause", "", ".py"),
    Source("python", "trimesh==4.8.2", "MIT", "", ".py"),
    Source("python", "twisted==25.5.0", "MIT", "", ".py"),
    Source("python", "nltk==3.9.2", "Apache-2.0", "", ".py"),
    Source("python", "xarray==2025.9.0", "Apache-2.0", "", ".py"),
    Source("javascript", "npm:ol@10.6.1", "BSD-2-Clause", "", ".js"),
    Source("javascript", "npm:@cesium/engine@20.0.1", "Apache-2.0", "Source", ".js"),
    Source("javascript", "npm:eslint@9.36.0", "MIT", "lib", ".js"),
    Source("typescript", "npm:fabric@6.7.1", "MIT", "src", ".ts"),
    Source("typescript", "npm:@deck.gl/core@9.1.14", "MIT", "src", ".ts"),
    Source("go", "deb:golang-1.19-src", "BSD-3-Clause", "usr/share/go-1.19/src", ".go"),
    Source("rust", "deb:rust-src", "MIT OR Apache-2.0", "usr/src", ".rs"),
    Source("php", "deb:php-phpseclib", "MIT", "usr/share/php", ".php"),
    Source("php", "deb:composer", "MIT", "usr/share/php", ".php"),
    Source("php", "deb:phpunit", "BSD-3-Clause", "usr/share/php", ".php"),
    Source("java", "npm:cordova-android@14.0.1", "Apache-2.0", "framework/src", ".java"),
    Source("java", "npm:react-native@0.74.6", "MIT", "ReactAndroid/src/main/java", ".java"),
)
SHA256: Final = {
    "mne==1.10.1": "8dbb9b0f08dd014c04478e78faab771258a78409a9fefa06a4bf5e1a350ff33d",
    "trimesh==4.8.2": "666f93c143576d0cbe6e1f6a44bde1d864367f274e9ae3917cabd363394a58a1",
    "twisted==25.5.0": "8559f654d01a54a8c3efe66d533d43f383531ebf8d81d9f9ab4769d91ca15df7",
    "nltk==3.9.2": "1e209d2b3009110635ed9709a67a1a3e33a10f799490fa71cf4bec218c11c88a",
    "xarray==2025.9.0": "79f0e25fb39571f612526ee998ee5404d8725a1db3951aabffdb287388885df0",
    "npm:ol@10.6.1": "359792ea5ed6c0c9e69ceaf1066f82da51e620fc5a31a874ebbba299f1f40fdb",
    "npm:@cesium/engine@20.0.1": "7568322b2d3daac0eeb695c6f0c9d871fc09e23c451ff9dee330b73b0a9d7be9",
    "npm:eslint@9.36.0": "7ebeade97e7015b3447cee3a18c3548f16034a406d152dc3bd1c71f49db8568f",
    "npm:fabric@6.7.1": "d175b13efc06e08d3791de20992f613d7b4ce959ab1203c872a7acfe595a20fd",
    "npm:@deck.gl/core@9.1.14": "f090a2edbe87c3cfce0d51955bcd23907163f9ed03a6c8e51b970e8e1da2f398",
    "npm:cordova-android@14.0.1": "67d7e8ec81bac8175c9e3d37c17abe3458492ea1c52edb87ae1a7c5ed132ce32",
    "npm:react-native@0.74.6": "03a86a64bd0d81e725783250097374d876bca236bedbbc68cc7c730da1e93a0a",
}
"""Of the archives of the registries of Python and JavaScript."""
