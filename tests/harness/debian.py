"""Programs of Debian's packages for tests without a fleet: the machine's, or else taken out of their packages.

They are not installed, which would start their services.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from lab.image import sources

CACHE = Path(__file__).resolve().parents[2] / ".cache"


def program(package: str, path: str, *libraries: str) -> str:
    """The program at a path, such as usr/sbin/nginx, of a package; see environment().

    libraries: packages that go beside it where the program is not the machine's, which may lack them.
    """
    cache = CACHE / package
    name = Path(path).name
    machine = f"{os.environ['PATH']}:/usr/sbin:/usr/lib/openssh"
    cache.mkdir(parents=True, exist_ok=True)
    # Test processes side by side ask at once.
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if found := shutil.which(name, path=machine):
            return found
        # A cache of before may hold the program without the libraries.
        if missing := [one for one in (package, *libraries) if not (cache / f".{one}").exists()]:
            fetch(cache, *missing)
            for one in missing:
                (cache / f".{one}").touch()
    return str(cache / path)


def environment(found: str) -> dict[str, str]:
    """For what program() found: with the libraries beside it, and nothing changed where it is the machine's."""
    if CACHE not in Path(found).parents:
        return dict(os.environ)
    cache = CACHE / Path(found).relative_to(CACHE).parts[0]
    folders = [cache / top / f"{os.uname().machine}-linux-gnu" for top in ("lib", "usr/lib")]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, folders))}


def library(suite: str, package: str, name: str) -> Path:
    """The folder of a library, such as libssl.so.1.1, of another release's package."""
    cache = CACHE / f"{suite}-{package}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(cache.rglob(name)):
            fetch(cache, package, suite=suite)
    return next(cache.rglob(name)).parent


def for_former_mongodb() -> dict[str, str]:
    """For a MongoDB that is built for Debian 11: with that release's OpenSSL, which later ones lack."""
    return {**os.environ, "LD_LIBRARY_PATH": str(library("bullseye", "libssl1.1", "libssl.so.1.1"))}


def fetch(cache: Path, *packages: str, suite: str = "") -> None:
    """Unpack the packages' files into the cache; suite: of another release of Debian than the machine's."""
    (cache / "apt" / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    # Package lists of its own: the machine's may be missing or old, and only root renews them.
    apt = ["apt-get", "-qq", "-o", f"Dir::State={cache / 'apt'}", "-o", f"Dir::Cache={cache / 'apt'}"]
    subprocess.run([*apt, "update"], check=True)
    if suite:
        _, listed = sources(suite, apt)
        (cache / "sources.list").write_text(listed)
        apt += ["-o", f"Dir::Etc::sourcelist={cache / 'sources.list'}", "-o", "Dir::Etc::sourceparts=-"]
        subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "download", *packages], cwd=cache, check=True)
    for package in packages:
        subprocess.run(["dpkg", "-x", *cache.glob(f"{package}_*.deb"), cache], check=True)
