"""Builders of the values that the tests of the backup share."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from phoenix.backup import fingerprint, retention, store

DAY = retention.DAY
HOUR = 3600.0


def dump(number: int, state: str = "good", kind: str = "nightly", elapsed: float = 0.0, **more: Any) -> store.Dump:
    folder = None if state in ("failed", "full") else Path("/nonexistent")
    values: dict[str, Any] = {"name": f"2026112{number}T010000Z-db2", "received": elapsed, "host": "db2", "request": "",
                              "reason": "", "folder": folder, "manifest": manifest(100)}  # fmt: skip
    return store.Dump(**{**values, "number": number, "elapsed": elapsed, "kind": kind, "state": state, **more})


def manifest(documents: int) -> dict[str, Any]:
    one = fingerprint.Collection(documents, documents * 100, "00", ["_id_"])
    said = {"moment_utc": "2026-11-24T01:30:00Z", "member": "db2", "server_version": "6.0.5"}
    spaces = fingerprint.to_json({"app.items": one})
    return {"namespaces": spaces, "size": documents * 30, "dump_seconds": 1.5, **said}


def config(root: Path) -> store.Config:
    return store.Config(
        str(root), "fleet.example", "phoenix", 7, 26 * HOUR, 0, 12 * HOUR, 1.0, 0.25, str(root / "m"), 27017, False
    )


def bson(**fields: Any) -> bytes:
    """Documents of the few kinds that the tests need."""
    body = b""
    for name, value in fields.items():
        key = name.encode() + b"\0"
        if isinstance(value, bool):
            body += b"\x08" + key + bytes([value])
        elif isinstance(value, tuple):
            body += b"\x11" + key + struct.pack("<II", value[1], value[0])
        elif isinstance(value, dict):
            body += b"\x03" + key + bson(**value)
        elif isinstance(value, bytes):
            body += b"\x05" + key + struct.pack("<I", len(value)) + b"\0" + value
        elif isinstance(value, int):
            body += b"\x12" + key + struct.pack("<q", value)
        else:
            text = str(value).encode() + b"\0"
            body += b"\x02" + key + struct.pack("<I", len(text)) + text
    return struct.pack("<I", len(body) + 5) + body + b"\0"
