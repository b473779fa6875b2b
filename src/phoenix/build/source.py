"""Pack an application's folder into a tar archive whose bytes depend on its content alone.

Prints JSON: {"archive": path, "sha256": hex digest of the content, "package_version": str}.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path

from phoenix.common import files, tar

# Made on the machine by tools, never part of a release. Modules are installed from the lock file.
EXCLUDED = frozenset({".git", "node_modules", "npm-debug.log", ".nyc_output", "coverage", ".DS_Store"})


def members(source: Path) -> list[Path]:
    """Every file and link below source, sorted, as relative paths."""
    found: list[Path] = []
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if name not in EXCLUDED)
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in [*names, *links]:
            if name not in EXCLUDED:
                found.append((Path(folder) / name).relative_to(source))
    return sorted(found)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("destination", type=Path, help="folder for the archive")
    options = parser.parse_args(arguments)
    package = options.source / "package.json"
    if not package.is_file():
        print(f"{options.source} holds no package.json: name the application's own folder", file=sys.stderr)
        return 1
    data = tar.pack(options.source, members(options.source))
    digest = hashlib.sha256(data).hexdigest()
    options.destination.mkdir(parents=True, exist_ok=True)
    target = options.destination / f"source-{digest[:16]}.tar"
    if not target.exists():
        files.replace(target, data)
    version = str(json.loads(package.read_text(encoding="utf-8")).get("version", "0.0.0"))
    print(json.dumps({"archive": str(target.resolve()), "sha256": digest, "package_version": version}))
    return 0
