"""Tar archives whose bytes depend only on their content."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path


def pack(top: Path, members: Iterable[Path]) -> bytes:
    """Pack files and links below top (relative paths) in the given order: same content, same bytes.

    Owners, times and all permissions except execution are omitted. Links are kept as links.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for relative in members:
            path = top / relative
            entry = tarfile.TarInfo(relative.as_posix())
            if path.is_symlink():
                entry.type = tarfile.SYMTYPE
                entry.linkname = str(path.readlink())
                archive.addfile(entry)
                continue
            data = path.read_bytes()
            entry.mode = 0o755 if os.access(path, os.X_OK) else 0o644
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
