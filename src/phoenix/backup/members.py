"""Requirements of a restore on the members: room on the disk, and an oplog that outlasts the copying."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phoenix.common import endpoint

# Room for indexes, and for files that grow before others shrink.
MARGIN = 1.2


@dataclass(frozen=True)
class Room:
    """Of one member: bytes free on the disk of its data, bytes that its oplog holds; None: it did not answer."""

    address: str
    free: int | None
    oplog: int


def obstacles(members: Sequence[Room], size: int, keep: int) -> list[str]:
    """Pure: why so many bytes of documents can't be copied beside the live ones. keep: bytes to be left free."""
    needed = int(size * MARGIN) + keep
    largest = max((member.oplog for member in members), default=0)
    found = [
        f"{member.address} has {member.free} bytes free, the copy needs up to {needed}"
        for member in members
        if member.free is not None and member.free < needed
    ]
    # A member that is away meanwhile reads what it missed from another's oplog, or has to copy everything again.
    found += [
        f"{member.address} does not answer, and the copy writes more ({size} bytes) than the oplogs hold ({largest}): "
        "it could not catch up"
        for member in members
        if member.free is None and size > largest
    ]
    return found


def warnings(members: Sequence[Room], size: int) -> list[str]:
    """Pure: what does not prevent the copying, but should be known."""
    return [
        f"the copy writes {size} bytes, the oplog of {member.address} holds {member.oplog}: a member that falls behind "
        "meanwhile has to copy everything again"
        for member in members
        if member.free is not None and size > member.oplog
    ]


def look(addresses: Sequence[str], port: int, login: Mapping[str, Any]) -> list[Room]:
    """Ask every member. login: pymongo's options of the user, and of TLS."""
    import pymongo  # noqa: PLC0415 - the session that receives does without
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    found = []
    for address in addresses:
        client: Any = pymongo.MongoClient(
            endpoint.of(address, port),
            directConnection=True,
            serverSelectionTimeoutMS=5000,
            socketTimeoutMS=10000,
            **login,
        )
        with contextlib.closing(client):
            try:
                disk = client.local.command("dbStats")
                oplog = client.local.command("collStats", "oplog.rs")
            except PyMongoError:
                found.append(Room(address, None, 0))
                continue
        found.append(Room(address, int(disk["fsTotalSize"] - disk["fsUsedSize"]), int(oplog["maxSize"])))
    return found
