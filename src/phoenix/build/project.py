"""Pack the parts of this project that plays need into a tar archive whose bytes depend only on their content.

phoenixctl build project PROJECT ARCHIVE: writes ARCHIVE and prints its SHA-256.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from phoenix.common import files, tar

PARTS = (
    "action_plugins",
    "ansible.cfg",
    "callback_plugins",
    "filter_plugins",
    "library",
    "module_utils",
    "playbooks",
    "roles",
    "src",
)
EXCLUDED = frozenset({"__pycache__", ".git"})


def members(project: Path) -> list[Path]:
    """List every file below the parts, sorted, as relative paths."""
    found = [Path(part) for part in PARTS if (project / part).is_file()]
    for part in PARTS:
        for folder, folders, names in os.walk(project / part):
            folders[:] = [name for name in folders if name not in EXCLUDED]
            found += [(Path(folder) / name).relative_to(project) for name in names]
    return sorted(found)


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print("usage: phoenixctl build project PROJECT ARCHIVE", file=sys.stderr)
        return 64
    project, archive = map(Path, arguments)
    data = tar.pack(project, members(project))
    archive.parent.mkdir(parents=True, exist_ok=True)
    files.replace(archive, data)
    print(hashlib.sha256(data).hexdigest())
    return 0
