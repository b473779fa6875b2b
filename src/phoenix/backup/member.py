"""Decide whether this member of the replica set takes the dump."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from phoenix.common import endpoint
from phoenix.database import tls


@dataclass(frozen=True)
class Member:
    """One member's answer. role: primary, secondary or other; written: its last write, in seconds."""

    address: str
    role: str
    written: float = 0.0


@dataclass(frozen=True)
class Decision:
    dump: bool
    reason: str


def decide(own: str, members: Sequence[Member], max_lag: float) -> Decision:
    """Pure. own: this member's address; max_lag: seconds a secondary may be behind the newest write.

    Any healthy secondary may; the store grants the task to the first that asks. The primary may only if there is no
    healthy secondary.
    """
    newest = max((member.written for member in members), default=0.0)
    healthy = [
        member.address for member in members if member.role == "secondary" and newest - member.written <= max_lag
    ]
    me = next((one for one in members if one.address == own), None)
    if me is None:
        return Decision(False, "this member does not answer")
    if own in healthy:
        return Decision(True, "this member is a healthy secondary")
    if me.role == "primary" and not healthy:
        return Decision(True, "this member is the primary, and there is no healthy secondary")
    if me.role == "primary":
        return Decision(False, f"this member is the primary, and there are healthy secondaries: {', '.join(healthy)}")
    if me.role == "secondary":
        return Decision(False, f"this member is {newest - me.written:.0f} s behind")
    return Decision(False, "this member is neither primary nor secondary")


def look(addresses: Sequence[str], port: int, ca: str = "", timeout: float = 3.0) -> list[Member]:
    """Ask every member; those that do not answer are left out. Nothing here needs a login.

    ca: path of the CAs by which connections are by TLS; "" without.
    """
    import pymongo  # noqa: PLC0415 - only database hosts have it
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    members = []
    for address in addresses:
        client = pymongo.MongoClient(
            endpoint.of(address, port),
            directConnection=True,
            serverSelectionTimeoutMS=int(timeout * 1000),
            **tls.options(ca),
        )
        try:
            hello = client.admin.command("hello")
        except PyMongoError:
            continue
        finally:
            client.close()
        role = "primary" if hello.get("isWritablePrimary") else "secondary" if hello.get("secondary") else "other"
        written = hello.get("lastWrite", {}).get("opTime", {}).get("ts")
        members.append(Member(address, role, float(written.time) if written else 0.0))
    return members
