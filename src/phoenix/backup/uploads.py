"""Archives of what an application writes (phoenix_writable_paths), among a host's log files: which have shrunk.

Their content can't be compared with what a host should hold, but an archive of less than half of a former one's size
says that files were deleted. It is kept, and the older ones are not let go until an operator has accepted it, or a
larger one has followed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix.backup import files, retention
from phoenix.backup.store import Store

NAME = re.compile(r"files-[0-9]{8}\.tar\.gz")
SHRUNKEN = "shrunken"
FLOOR = 1024 * 1024  # bytes up to which an archive may shrink
RECEIVED = ".received.json"


@dataclass(frozen=True)
class Archive:
    """One in the store. number: order of receipt; bytes: 0 where the file is gone."""

    host: str
    name: str
    number: int
    bytes: int
    state: str = retention.GOOD
    reason: str = ""
    accepted: bool = False


def state_of(note: Mapping[str, Any]) -> str:
    """The state in a file's note: log files, and what versions before 0.19.0 received, have none and are good."""
    return str(note.get("state", retention.GOOD))


def archives(folder: Path, notes: Mapping[str, Mapping[str, Any]]) -> list[Archive]:
    """A host's archives in the order of receipt. folder: the host's; notes: of its files."""
    found = []
    for name, note in notes.items():
        if NAME.fullmatch(name):
            size = 0
            with contextlib.suppress(FileNotFoundError):  # deleted by hand, or just past its retention
                size = (folder / name).stat().st_size
            reason, accepted = str(note.get("reason", "")), bool(note.get("accepted"))
            found.append(Archive(folder.name, name, note["number"], size, state_of(note), reason, accepted))
    return sorted(found, key=lambda one: one.number)


def shrunken(host: str, name: str, size: int, earlier: Sequence[Archive]) -> str:
    """Pure: why an archive of so many bytes is shrunken, or "".

    earlier: what the store holds of the host, in the order of receipt. Measured against the largest good one, so that a
    slow loss adds up; one that an operator accepted is the first to measure against, as for dumps.
    """
    good = [one for one in earlier if one.state == retention.GOOD and one.name != name]
    start = max((index for index, one in enumerate(good) if one.accepted), default=0)
    largest = max(good[start:], key=lambda one: one.bytes, default=None)
    if largest is None or largest.bytes <= FLOOR or size * 2 >= largest.bytes:
        return ""
    return (
        f"{host}/{name} holds {size} bytes, less than half of the {largest.bytes} of {largest.name}: were files "
        f"deleted? If that is as it should be: phoenixctl backup accept {host}/{name}"
    )


def judged(folder: Path, notes: Mapping[str, Mapping[str, Any]], name: str, size: int) -> dict[str, Any]:
    """What to note of a file that was received: its state and the reason where it is a shrunken archive."""
    if not NAME.fullmatch(name):
        return {}
    reason = shrunken(folder.name, name, size, archives(folder, notes))
    return {"state": SHRUNKEN, "reason": reason} if reason else {}


def held(store: Store) -> list[Archive]:
    """All archives in the store, by host and in the order of receipt."""
    noted = sorted(store.root.glob(f"logs/*/{RECEIVED}"))
    return [one for path in noted for one in archives(path.parent, files.read_json(path) or {})]


def problems(known: Sequence[Archive], hosts: Sequence[str]) -> list[str]:
    """Pure: the reason of each host whose newest archive is shrunken. hosts: those that send; others are gone."""
    newest = {one.host: one for one in known if one.host in hosts}
    return [one.reason for one in newest.values() if one.state == SHRUNKEN]


def accept(store: Store, name: str) -> int:
    """Accept a shrunken archive, HOST/NAME, as good, on an operator's word."""
    found = next((one for one in held(store) if f"{one.host}/{one.name}" == name), None)
    if found is None or found.state != SHRUNKEN:
        state = "there is no such archive: see phoenixctl backup list" if found is None else "it is good, not shrunken"
        print(f"{name}: {state}")
        return 1
    path = store.root / "logs" / found.host / RECEIVED
    with store.books():
        notes, seen = files.read_json(path) or {}, path.stat()
        if found.name in notes:
            reason = f"accepted by an operator: {found.reason}"
            notes[found.name].update(state=retention.GOOD, reason=reason, accepted=True)
            files.write(path, json.dumps(notes))
            # Its age is that of the host's last delivery.
            os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    return 0
