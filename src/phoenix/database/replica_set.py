"""The state of the replica set, seen from one member; nothing here needs a login."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from phoenix.common import endpoint
from phoenix.database import names, tls

GOALS = ("answer", "primary", "member", "settled")
SELECTION_MS = 2000
# A member that is this far behind the primary would keep majority writes waiting if another one were lost.
BEHIND_S = 10.0


@dataclass
class State:
    """The replica set, seen from one member.

    silent: addresses that do not answer. fresh: this member has never been part of a set. initiated: some member is
    part of a set. primary: its address, or "". no_users: this member is the primary and has no user yet, so that the
    localhost exception is open. member: this member is primary or secondary. behind: addresses of members that answer
    and are neither, or more than BEHIND_S behind the primary.
    """

    silent: list[str] = field(default_factory=list)
    fresh: bool = False
    initiated: bool = False
    primary: str = ""
    no_users: bool = False
    member: bool = False
    behind: list[str] = field(default_factory=list)

    def reaches(self, goal: str, own: str) -> bool:
        """Whether the goal is reached.

        Every member that a set needs answers; a primary; this member in the set; or every member in it, caught up.
        """
        if goal == "settled":
            return bool(self.primary) and not self.silent and not self.behind
        if own in self.silent:
            return False
        if goal == "primary":
            return bool(self.primary)
        if goal == "member":
            return self.member and bool(self.primary)
        return bool(self.primary) if self.initiated else not self.silent


def configured_members(members: Sequence[Mapping[str, Any]], port: int) -> list[dict[str, Any]]:
    """The members as the set's configuration has them, {host: "name:port", priority, votes}.

    The first is the preferred primary, so that the start of a whole fleet is predictable, unless its priority is given.
    """
    return [
        {
            "host": endpoint.of(names.known_as(member), port),
            "priority": member.get("priority", 2 if index == 0 else 1),
            "votes": member.get("votes", 1),
        }
        for index, member in enumerate(members)
    ]


def former_hosts(members: Sequence[Mapping[str, Any]], port: int) -> dict[str, str]:
    """By the host of each member with a name, the one that a set of before has: its address."""
    named = names.addresses(members)
    return {endpoint.of(name, port): endpoint.of(address, port) for name, address in named.items()}


def client(address: str, port: int, ca: str = "", **options: Any) -> Any:
    """Connect to one server, not to the set that it may be part of. The driver is imported only where it is needed.

    ca: path of the CAs that are trusted, with which the connection is by TLS; "" for one without.
    """
    import pymongo  # noqa: PLC0415

    return pymongo.MongoClient(endpoint.of(address, port), directConnection=True, **tls.options(ca), **options)


def role(address: str, port: int, ca: str = "") -> str:
    """Return PRIMARY, SECONDARY or NOT READY, or "silent" if the member does not answer or the driver is missing."""
    try:
        # Closed at once: the driver's threads would go on asking the member.
        with client(address, port, ca, serverSelectionTimeoutMS=SELECTION_MS) as connection:
            hello = connection.admin.command("hello")
    except Exception:  # noqa: BLE001 - the driver's errors can't be named where it is missing
        return "silent"
    return "PRIMARY" if hello.get("isWritablePrimary") else "SECONDARY" if hello.get("secondary") else "NOT READY"


def observe(own: str, port: int, addresses: Sequence[str], ca: str = "") -> State:
    """Return the set's present state, seen from the member `own`."""
    from pymongo.errors import OperationFailure, PyMongoError  # noqa: PLC0415

    state = State()
    written: dict[str, datetime | None] = {}
    for address in addresses:
        # The localhost exception, as its name says, is for the loopback address only.
        connection = client("127.0.0.1" if address == own else address, port, ca, serverSelectionTimeoutMS=SELECTION_MS)
        try:
            hello = connection.admin.command("hello")
            state.initiated = state.initiated or "setName" in hello
            writable = bool(hello.get("isWritablePrimary"))
            if writable:
                state.primary = address
            follows = writable or hello.get("secondary")
            written[address] = hello.get("lastWrite", {}).get("lastWriteDate") if follows else None
            if address == own:
                state.fresh = "setName" not in hello
                state.member = bool(writable or hello.get("secondary"))
                if writable:
                    try:
                        connection.admin.command("replSetGetStatus")
                        state.no_users = True
                    except OperationFailure:
                        pass
        except PyMongoError:
            state.silent.append(address)
        finally:
            connection.close()
    state.behind = behind(written, state.primary)
    return state


def behind(written: Mapping[str, datetime | None], primary: str) -> list[str]:
    """Those that are not caught up. written: each one's newest operation, None where it is no healthy member."""
    newest = written.get(primary)
    return [
        address
        for address, at in written.items()
        if at is None or (newest and (newest - at).total_seconds() > BEHIND_S)
    ]


def wait(own: str, port: int, addresses: Sequence[str], goal: str, seconds: float, ca: str = "") -> State:
    """Observe the set until it reaches the goal, or for `seconds`; return the last state.

    Raises:
        ImportError: MongoDB's driver is not on this host.
    """
    end = time.monotonic() + seconds
    while True:
        state = observe(own, port, addresses, ca)
        if state.reaches(goal, own) or time.monotonic() >= end:
            return state
        time.sleep(0.5)
