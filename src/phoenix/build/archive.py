"""The archive of a release: packed from an untrusted stream, with a checksum beside it, and kept while it is needed."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from phoenix.build.package import MAX_PACKAGE
from phoenix.build.start import BuildError
from phoenix.common import files
from phoenix.instances import releases

# What Phoenix adds: the program that systemd starts, and the folder of the Node.js that the release was built for.
START, NODE = ".phoenix-start", ".phoenix-node"
# What hosts write into an unpacked release, and no archive may bring.
HOSTS_OWN = (releases.MARK, releases.CHECKSUM)
# Of the modules that the application itself can name: their package.json in a stream of the folder.
_MODULE = re.compile(r"\./node_modules/((?:@[^/]+/)?[^/@][^/]*)/package\.json")


@dataclass(frozen=True)
class Packed:
    """What a release holds: paths of its files and of its links, and package.json of its modules by their names."""

    files: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    modules: dict[str, dict[str, Any]] = field(default_factory=dict)

    def note(self, member: tarfile.TarInfo, content: bytes) -> None:
        name = member.name.removeprefix("./")
        (self.links if member.issym() else self.files).add(name)
        if content:
            with contextlib.suppress(ValueError):
                package = json.loads(content)
                if isinstance(package, dict) and (found := _MODULE.fullmatch(member.name)):
                    self.modules[found[1]] = package


def repack(received: IO[bytes], target: Path, own: Mapping[str, str]) -> Packed:
    """Pack what an untrusted tar stream holds, and Phoenix's own files, so that the same content gives the same bytes.

    Root owns all, and only root may write. Sockets, pipes and devices are left out, and so is what has a name of
    Phoenix's own.
    """

    def normal(name: str, kind: bytes, executable: bool) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type = kind
        info.uname = info.gname = "root"
        info.mode = 0o755 if executable else 0o644
        return info

    packed = Packed()
    with (
        target.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0, compresslevel=6) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
        tarfile.open(fileobj=received, mode="r|") as source,
    ):
        for member in source:
            if Path(member.name).parts[:1] in {(name,) for name in (*own, *HOSTS_OWN)} or not (
                member.isreg() or member.isdir() or member.issym() or member.islnk()
            ):
                continue
            info = normal(member.name, member.type, member.isdir() or bool(member.mode & 0o100))
            info.linkname = member.linkname
            if member.isreg():
                info.type = tarfile.REGTYPE
                info.size = member.size
            content = source.extractfile(member) if member.isreg() else None
            data = b""
            if content and member.size <= MAX_PACKAGE and _MODULE.fullmatch(member.name):
                data = content.read()
                content = io.BytesIO(data)
            archive.addfile(info, content)
            packed.note(member, data)
        for name, text in own.items():
            info = normal(f"./{name}", tarfile.REGTYPE, name == START)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return packed


def status(archive: Path) -> dict[str, Any]:
    """Whether the archive is there and matches its checksum, and the names of all archives that are there."""
    built = sorted(path.name[: -len(".tar.gz")] for path in archive.parent.glob("[!.]*.tar.gz"))
    note = archive.with_name(archive.name + ".sha256")
    if archive.is_file() and note.is_file():
        expected = note.read_text(encoding="ascii").split()[0]
        if files.sha256(archive) == expected:
            return {"present": True, "checksum": f"sha256:{expected}", "built": built}
    return {"present": False, "checksum": "", "built": built}


def refuse_another(archive: Path, checksum: str) -> None:
    """Refuse other content under the name of a release that was built before, though its archive is gone or damaged.

    Raises:
        BuildError: it is another.
    """
    note = archive.with_name(archive.name + ".sha256")
    former = note.read_text(encoding="ascii").split()[:1] if note.is_file() else []
    if former not in ([], [checksum]):
        version = archive.name.removesuffix(".tar.gz")
        raise BuildError(
            f"{version} was built before, and its content was another (sha256:{former[0]}, now sha256:{checksum}): a "
            "name means one content. It changes with Node.js and npm, where there is no lock file, and where a module "
            "is compiled. Make a new commit, give the source another version in package.json, or build it under a name "
            "of its own (phoenix_build_as)"
        )


def prune(releases: Path, keep: int, needed: set[str]) -> None:
    """Keep the newest archives, and those of the needed versions however old: they count towards keep.

    The checksums of all stay, by which a name has one content for ever.
    """
    found = sorted(releases.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime, reverse=True)
    others = [path for path in found if path.name.removesuffix(".tar.gz") not in needed]
    for archive in others[max(keep - (len(found) - len(others)), 0) :]:
        archive.unlink()
