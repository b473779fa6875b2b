"""What a source declares for its build, and what it lacks that Git keeps elsewhere."""

from __future__ import annotations

import json
import os
import re
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix.build import npm
from phoenix.build.start import BuildError, command_of, start_script

# The folder of each submodule, in .gitmodules.
_SUBMODULE = re.compile(r'^\s*path\s*=\s*"?(.+?)"?\s*$', re.MULTILINE)
# How a file of Git LFS begins where its content was not fetched, and below how many bytes it stays.
_POINTER = b"version https://git-lfs.github.com/spec/"
POINTER_SIZE = 1024
MAX_PACKAGE = 1 << 20  # bytes of package.json
LOCK_HEAD = 4096  # bytes of a lock file, which begins with its version


@dataclass(frozen=True)
class Source:
    """The unpacked source's instructions for its build. lock: the beginning of its lock file; settings: its .npmrc."""

    package: dict[str, Any]
    command: str
    start: str
    lock: str
    settings: str

    @property
    def locked(self) -> bool:
        return bool(self.lock)

    @classmethod
    def read(cls, folder: Path, node: str = "") -> Source:
        """Raises BuildError for a source that can't be built or started."""
        text = _read(folder / "package.json", MAX_PACKAGE + 1)
        if text is None:
            raise BuildError("the source holds no package.json at its top: name the application's own folder")
        try:
            package = json.loads(text) if len(text) <= MAX_PACKAGE else None
        except ValueError as error:
            raise BuildError(f"package.json is not valid JSON: {error}") from error
        if not isinstance(package, dict):
            raise BuildError(f"package.json has to hold one object, in {MAX_PACKAGE >> 20} MB at most")
        has_server_js = _exists(folder / "server.js")
        locks = (_read(folder / name, LOCK_HEAD) for name in npm.LOCKS)
        return cls(
            package,
            command_of(package, has_server_js),
            start_script(package, has_server_js, node),
            next((lock.decode(errors="replace") for lock in locks if lock), ""),
            (_read(folder / ".npmrc", MAX_PACKAGE) or b"").decode(errors="replace"),
        )


def _read(path: Path, size: int) -> bytes | None:
    """The first bytes of a plain file, which no link leads to; None where there is no such file.

    Raises:
        BuildError: it is something else.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BuildError(f"{path.name} can't be read ({error}): it has to be a plain file") from error
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise BuildError(f"{path.name} has to be a plain file")
        return file.read(size)


def _exists(path: Path) -> bool:
    """Whether there is such a file, or a link, which is not followed."""
    return os.path.lexists(path)


def refuse_left_out(source: Path) -> None:
    """Refuse a source without what Git keeps elsewhere: its submodules, and files of Git LFS. Raises BuildError.

    Of submodules that are not checked out it has empty folders, of files of Git LFS small texts that name the content.
    """
    with tarfile.open(source) as archive:

        def begin(member: tarfile.TarInfo, size: int) -> bytes:
            file = archive.extractfile(member) if member.isreg() else None
            return file.read(size) if file else b""

        held = {member.name: member for member in archive if not member.isdir()}
        text = begin(held[".gitmodules"], MAX_PACKAGE).decode(errors="replace") if ".gitmodules" in held else ""
        small = [member for member in held.values() if len(_POINTER) < member.size < POINTER_SIZE]
        pointers = sorted(member.name for member in small if begin(member, len(_POINTER)) == _POINTER)
    empty = [path for path in _SUBMODULE.findall(text) if not any(name.startswith(f"{path}/") for name in held)]
    if empty:
        raise BuildError(
            f".gitmodules names the submodules {', '.join(empty)}, which the source does not hold. Let phoenix_source "
            "be the Git URL, or a folder in which they are checked out (git submodule update --init --recursive). "
            "A pipeline fetches none: commit their files, or make them dependencies in package.json"
        )
    if pointers:
        more = f" and {len(pointers) - 5} more" if len(pointers) > 5 else ""
        raise BuildError(
            f"{', '.join(pointers[:5])}{more}: the source holds pointers of Git LFS in place of these files. Let "
            "phoenix_source be a folder that holds their content (git lfs pull), or keep them in Git itself "
            "(git lfs untrack PATTERN, git add --renormalize ., and a commit)"
        )
