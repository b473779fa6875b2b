"""Pack an application's folder into a tar archive whose bytes depend on its content alone.

The source is what Git tracks, and new files that it does not track yet. What .gitignore or .npmignore name and Git does
not track is left out, in a folder outside Git as well. Modules are left out: npm installs them.

Prints JSON: {"archive": path, "sha256": hex digest of the content, "package_version": str}.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from phoenix.common import files, tar

# Files that npm never packs either, unless Git tracks them.
NEVER = ("node_modules", "npm-debug.log", ".DS_Store")


class SourceError(Exception):
    """A folder that can't be packed; its text states the reason."""


def _git(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # Variables such as GIT_DIR, which a hook of Git's sets, would name another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        return subprocess.run(
            ["git", *words],
            cwd=folder,
            env={**environment, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
        )
    except FileNotFoundError as error:
        raise SourceError("git is not installed; it decides which files are ignored: install it") from error


def _listed(folder: Path, *words: str) -> set[str]:
    """Paths below the folder, as `git ls-files` prints them for the words."""
    asked = _git(folder, *words)
    if asked.returncode:
        raise SourceError(f"{folder}: git {' '.join(words)} failed: {asked.stderr.strip()}")
    return {name for name in asked.stdout.split("\0") if name}


def _checkout(folder: Path) -> bool:
    """Whether the folder is part of a Git checkout, and not ignored by it.

    Raises:
        SourceError: Git does not trust the checkout, so it can't be determined.
    """
    asked = _git(folder, "rev-parse", "--is-inside-work-tree")
    if "dubious ownership" in asked.stderr:
        raise SourceError(f"{folder}: {asked.stderr.strip()}")
    return asked.stdout.strip() == "true" and _git(folder, "check-ignore", "--quiet", ".").returncode != 0


def members(folder: Path) -> list[Path]:
    """The files and links below the folder that belong to the source, sorted, as relative paths.

    Raises:
        SourceError: Git failed.
    """
    never = [f"--exclude={name}" for name in NEVER]
    with tempfile.TemporaryDirectory() as empty:
        repository: list[str] = []
        if not _checkout(folder):
            repository = [f"--git-dir={empty}", "--work-tree=."]
            _git(folder, "init", "--quiet", "--bare", empty)
        listing = [*repository, "ls-files", "-z"]
        tracked = _listed(folder, *listing, "--cached")
        # One pass for each: Git takes one name of a file of rules for folders.
        others = _listed(folder, *listing, "--others", "--exclude-standard", *never)
        others &= _listed(folder, *listing, "--others", "--exclude-per-directory=.npmignore", *never)
    found: list[Path] = []
    for name in tracked | others:
        path = folder / name
        if path.is_dir() and not path.is_symlink():  # a submodule, or another checkout
            found += [Path(name) / below for below in members(path)]
        elif os.path.lexists(path):  # a tracked file may be deleted
            found.append(Path(name))
    return sorted(found)


def everything(folder: Path) -> list[Path]:
    """Every file and link below the folder, sorted, as relative paths."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        found += [(Path(place) / name).relative_to(folder) for name in [*names, *links]]
    return sorted(found)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("destination", type=Path, help="folder for the archive")
    parser.add_argument(
        "--everything", action="store_true", help="ask no rules: the folder holds what Git tracks and nothing else"
    )
    options = parser.parse_args(arguments)
    package = options.source / "package.json"
    if not package.is_file():
        print(f"{options.source} holds no package.json: name the application's own folder", file=sys.stderr)
        return 1
    try:
        found = everything(options.source) if options.everything else members(options.source)
    except SourceError as error:
        print(error, file=sys.stderr)
        return 1
    data = tar.pack(options.source, found)
    digest = hashlib.sha256(data).hexdigest()
    options.destination.mkdir(parents=True, exist_ok=True)
    target = options.destination / f"source-{digest[:16]}.tar"
    if not target.exists():
        files.replace(target, data)
    version = str(json.loads(package.read_text(encoding="utf-8")).get("version", "0.0.0"))
    print(json.dumps({"archive": str(target.resolve()), "sha256": digest, "package_version": version}))
    return 0
