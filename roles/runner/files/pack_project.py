#!/usr/bin/env python3
"""Pack the parts of this project that plays need into one tar archive whose bytes depend on their content alone.

pack_project.py PROJECT ARCHIVE: writes ARCHIVE and prints its SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tarfile
from pathlib import Path

PARTS = ("ansible.cfg", "filter_plugins", "phoenix_core", "playbooks", "roles", "src")
EXCLUDED = frozenset({"__pycache__", ".git"})


def members(project: Path) -> list[Path]:
    """Every file below the parts, sorted, as relative paths."""
    found = [Path(part) for part in PARTS if (project / part).is_file()]
    for part in PARTS:
        for folder, folders, files in os.walk(project / part):
            folders[:] = [name for name in folders if name not in EXCLUDED]
            found += [(Path(folder) / name).relative_to(project) for name in files]
    return sorted(found)


def pack(project: Path) -> bytes:
    """The archive's bytes: same content, same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for relative in members(project):
            data = (project / relative).read_bytes()
            entry = tarfile.TarInfo(relative.as_posix())
            entry.mode = 0o755 if os.access(project / relative, os.X_OK) else 0o644
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def main(arguments: list[str]) -> int:
    project, archive = map(Path, arguments)
    data = pack(project)
    archive.parent.mkdir(parents=True, exist_ok=True)
    partial = archive.with_name(f".{archive.name}.{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(archive)
    print(hashlib.sha256(data).hexdigest())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
