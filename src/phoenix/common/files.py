"""Atomic replacement of files and links, so that a reader never sees a partial one; checksums."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path


def replace(path: Path, content: str | bytes, mode: int = 0o644, *, durable: bool = False) -> None:
    """Write a file beside its target, then rename it into place; durable: it survives a power cut once this returns.

    Raises:
        OSError: it could not be written; the old file stays, and no temporary file is left.
    """
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
        raise
    if durable:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def point(link: Path, target: str | Path) -> None:
    """Set a symbolic link atomically, so that it always exists; create its folder if missing."""
    link.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    partial = link.with_name(f".{link.name}.{os.getpid()}.new")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.replace(link)


def target(link: Path) -> str:
    """Return the target of a symbolic link, or "" if the path is not one."""
    return str(link.readlink()) if link.is_symlink() else ""


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal digits, reading it in blocks."""
    checksum = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            checksum.update(block)
    return checksum.hexdigest()
