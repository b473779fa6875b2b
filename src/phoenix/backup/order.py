"""An order to the running replica set: what it says, the connection that it takes, and that dumps wait meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from phoenix.backup.store import Store
from phoenix.common import endpoint
from phoenix.database import tls

BESIDE = "beside"
DUMP_SECONDS = 1800.0


class Refused(Exception):
    """Refused; nothing live was touched. The message states the reason."""


@dataclass(frozen=True)
class Order:
    """dump: a name, or "newest"; aside: the stamp for put_back.

    collection: "database.collection", or a database, or empty for all; time: to restore to, in UTC, beginning with the
    newest dump before it, or "latest", or empty for the dump's own moment. lock: the token of the fleet's lock.
    series: BESIDE, to restore time series beside live ones of their names; or empty.
    """

    user: str
    password: str
    members: list[str]
    dump: str = ""
    collection: str = ""
    check_room: bool = True
    aside: str = ""
    time: str = ""
    lock: str = ""
    series: str = ""

    @property
    def login(self) -> dict[str, str]:
        return {"username": self.user, "password": self.password} if self.user else {}


def read_order(text: str) -> Order:
    """Parse the order, which comes over standard input as it holds a password. Raises ValueError or TypeError."""
    order = Order(**json.loads(text))
    os.umask(0o077)
    return order


def login(store: Store, order: Order) -> dict[str, Any]:
    """MongoDB's Python driver's options of the user, and of TLS."""
    return {**order.login, **tls.options(store.config.ca)}


def connect(store: Store, order: Order) -> Any:
    import pymongo  # noqa: PLC0415 - the session that receives does without

    return pymongo.MongoClient(
        [endpoint.of(address, store.config.port) for address in order.members], replicaSet=store.config.replica_set,
        serverSelectionTimeoutMS=15000, w="majority", readConcernLevel="majority", **login(store, order),
    )  # fmt: skip


@contextlib.contextmanager
def alone(store: Store) -> Iterator[None]:
    """Hold off dumps meanwhile: one would include the copies next to the live collections, and fail at renames.

    One that is being received comes first: a new replica set's oplog begins with one.
    """
    deadline = time.monotonic() + DUMP_SECONDS
    while (held := store.claim()) is None:
        if time.monotonic() > deadline:
            raise Refused("a dump is being received, and does not end: try again when it is there")
        time.sleep(1)
    with held:
        yield
