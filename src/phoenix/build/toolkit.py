"""Phoenix's own package as one file, phoenix.pyz, whose bytes depend only on its content.

Also the digest of the code that a unit runs, so that a unit restarts if and only if that code changes.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import phoenix
from phoenix.common import files

IDENTITY = "phoenix/build/identity.py"
ENTRY = "phoenix/__main__.py"
SHEBANG = b"#!/usr/bin/python3 -I\n"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip archive can hold
DIGITS = 12
KEPT = 5  # a run that started a while ago still copies the one that it made


def root() -> Path:
    """Return the folder that holds the package."""
    return Path(phoenix.__file__).resolve().parent.parent


def sources(top: Path) -> dict[str, bytes]:
    """Return {path below top: content} of the package's modules, sorted."""
    found = sorted(path for path in (top / "phoenix").rglob("*.py") if "__pycache__" not in path.parts)
    return {path.relative_to(top).as_posix(): path.read_bytes() for path in found}


def digest(parts: dict[str, bytes]) -> str:
    """Identify sources by the first hexadecimal digits of a SHA-256 over their names and contents."""
    checksum = hashlib.sha256()
    for name, content in sorted(parts.items()):
        checksum.update(f"{name} {len(content)}\n".encode() + content)
    return checksum.hexdigest()[:DIGITS]


def pack(top: Path) -> tuple[str, bytes]:
    """Return the version with its build, and the archive's bytes.

    Members are stored, not deflated: zlib's output differs between its versions.
    """
    parts = sources(top)
    build = digest(parts)
    parts[IDENTITY] = parts[IDENTITY].replace(b'BUILD = "source"', f'BUILD = "{build}"'.encode())
    parts["__main__.py"] = parts[ENTRY]
    buffer = io.BytesIO()
    buffer.write(SHEBANG)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(parts.items()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3  # Unix, wherever it is made
            archive.writestr(entry, content)
    return f"{phoenix.__version__}-{build}", buffer.getvalue()


def _imports(text: bytes) -> Iterator[str]:
    """Yield the names of imported modules, wherever in the module; some may name a member of one."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def closure(parts: dict[str, bytes], module: str) -> dict[str, bytes]:
    """Return the sources of a module and of every module of the package that it imports, directly or indirectly.

    Raises:
        KeyError: the package has no such module.
    """
    paths = {name[:-3].replace("/", ".").removesuffix(".__init__"): name for name in parts}
    found: dict[str, bytes] = {}
    pending = [module]
    if module not in paths:
        raise KeyError(module)
    while pending:
        name = pending.pop()
        path = paths.get(name)
        if path is None or path in found:
            continue
        found[path] = parts[path]
        pending += _imports(parts[path])
        pending += [name.rpartition(".")[0]]  # a package's own __init__ runs first
    return found


@functools.cache
def code_of(module: str) -> str:
    """Return the digest of the code that a process starting with this module runs."""
    return digest(closure(sources(root()), module))


def prune(folder: Path, current: Path) -> None:
    """Remove the oldest archives in a folder of versions; the current one and the newest KEPT others stay."""
    others = [archive for archive in folder.glob("*/phoenix.pyz") if archive != current]
    for archive in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]:
        archive.unlink()
        archive.parent.rmdir()


def main(arguments: list[str]) -> int:
    """Write the archive into FOLDER/<version>/ and print {"version", "archive"} as JSON."""
    if len(arguments) != 1:
        print("usage: phoenixctl build toolkit FOLDER", file=sys.stderr)
        return 64
    version, data = pack(root())
    archive = Path(arguments[0]).resolve() / version / "phoenix.pyz"
    if not archive.exists() or archive.read_bytes() != data:
        archive.parent.mkdir(parents=True, exist_ok=True)
        files.replace(archive, data, mode=0o755)
        prune(archive.parent.parent, archive)
    print(json.dumps({"version": version, "archive": str(archive)}))
    return 0
