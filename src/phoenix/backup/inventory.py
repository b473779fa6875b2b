"""The inventory, with the fleet's generated secrets: packed where Ansible runs, kept in the store as only an operator
can read it, and brought back to where Ansible runs.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import secrets
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from phoenix.backup import files, intake_logs, sealed, state
from phoenix.backup.store import Store

FOLDER = "INVENTORY"  # in logs/; no host has a name in capitals
LARGEST = 1024 * 1024
DIGEST = ".digest.json"


def _walk(folder: Path, top: Path) -> Iterator[Path]:
    """Files below a folder, links followed, as an inventory is often put together of them."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name != ".git":
                yield from _walk(path, top)
        elif path.is_file():
            yield path


def pack(top: Path) -> tuple[bytes, list[str]]:
    """The archive, the same for the same content, and what is too large to be in it: the vendors' archives."""
    buffer, left_out = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in _walk(top, top):
            name = path.relative_to(top).as_posix()
            content = path.stat()
            if content.st_size > LARGEST:
                left_out.append(name)
                continue
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = content.st_mode & 0o777, content.st_size
            with path.open("rb") as stream:
                archive.addfile(entry, stream)
    return buffer.getvalue(), left_out


def keep(store: Store, archive: bytes, recipients: Path = sealed.RECIPIENTS) -> bool:
    """Keep an inventory in the store unless it is the newest already; whether it was not. Raises sealed.Unsealed."""
    folder = store.root / "logs" / FOLDER
    folder.mkdir(mode=0o750, exist_ok=True)
    if _known(folder, archive + recipients.read_bytes()) and state.newest(folder):
        return False
    partial = folder / ".inventory.part"
    with sealed.sealing(partial, recipients) as stream:
        stream.write(archive)
    files.sync(partial)
    name = f"state.inventory-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(6)}.tar.age"
    intake_logs.book(store, folder, partial, name)
    intake_logs.prune(store, folder)
    salt = secrets.token_hex(16)
    noted = {"salt": salt, "digest": _digest(salt, archive + recipients.read_bytes())}
    files.write(folder / DIGEST, json.dumps(noted))
    return True


def _known(folder: Path, content: bytes) -> bool:
    noted = files.read_json(folder / DIGEST) or {}
    return bool(noted) and noted.get("digest") == _digest(str(noted.get("salt")), content)


def _digest(salt: str, content: bytes) -> str:
    """Slow to compute, so that nobody finds a secret by trying what would give the same."""
    return hashlib.scrypt(content, salt=salt.encode(), n=2**14, r=8, p=1).hex()


def reveal(source: Path, identity: str) -> dict[str, str]:
    """The files of a kept inventory, in base64. Raises sealed.Unsealed."""
    found = {}
    with sealed.opened(source, identity) as archive:
        for member in archive:
            stream = archive.extractfile(member)
            if stream is not None:
                found[f"{member.mode:o} {member.name}"] = base64.b64encode(stream.read()).decode()
    return found


def bring_back(top: Path, found: dict[str, str]) -> tuple[list[str], list[str]]:
    """Write what is missing in an inventory; returns that, and what is there and differs, which is left as it is.

    Raises ValueError for a name that leads out of it.
    """
    written, differ = [], []
    for key, encoded in sorted(found.items()):
        mode, _, name = key.partition(" ")
        relative, content = PurePosixPath(name), base64.b64decode(encoded)
        if relative.is_absolute() or ".." in relative.parts:
            raise ValueError(f"{name} is not within an inventory")
        path = top / relative
        if path.exists():
            if path.read_bytes() != content:
                differ.append(name)
            continue
        path.parent.mkdir(mode=0o700 if relative.parent.name == ".secrets" else 0o755, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, int(mode, 8))
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        written.append(name)
    return written, differ
