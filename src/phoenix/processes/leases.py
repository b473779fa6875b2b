"""The slots' leases, in a collection of the application's database.

The database is what every application host reaches, and what the application can't work without. No host's clock is
compared with another's: a lease has lapsed for a host that has seen it unchanged for long enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from phoenix.processes.model import Lease, Target

COLLECTION = "phoenix_leases"
CALL_MS = 5000
T = TypeVar("T")


class Unreachable(Exception):
    """The database did not answer, or did not confirm that a majority has what was written."""


class Leases:
    """Those of one database. Every method raises Unreachable."""

    def __init__(self, uri: str, ca: str = "") -> None:
        """ca: path of the CAs that are trusted; "" where the database's address is without TLS."""
        import pymongo  # noqa: PLC0415 - only where there are processes
        from pymongo.errors import DuplicateKeyError, PyMongoError  # noqa: PLC0415

        self.error, self.taken = PyMongoError, DuplicateKeyError
        self.client: Any = pymongo.MongoClient(
            uri,
            appname="phoenix-processes",
            serverSelectionTimeoutMS=CALL_MS,
            connectTimeoutMS=CALL_MS,
            socketTimeoutMS=CALL_MS,
            maxPoolSize=2,
            **({"tlsCAFile": ca} if ca else {}),
        )
        self.collection: Any = self.client.get_default_database("phoenix").get_collection(
            COLLECTION, write_concern=pymongo.WriteConcern("majority", wtimeout=CALL_MS)
        )

    def close(self) -> None:
        self.client.close()

    def _asked(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except self.error as error:
            raise Unreachable(str(error).partition(", Timeout:")[0][:300]) from error

    def read(self) -> dict[str, Lease]:
        """All leases, by slot."""
        found = self._asked(lambda: list(self.collection.find()))
        return {one["_id"]: Lease(one["holder"], one["number"], one["release"], one["since"]) for one in found}

    def renew(self, slot: str, holder: str, target: Target) -> bool:
        """Whether the lease is still the holder's; it is renewed then."""
        return self._changed({"_id": slot, "holder": holder}, self._owned(holder, target))

    def take(self, slot: str, seen: Lease | None, holder: str, target: Target) -> bool:
        """Take the lease, if it is as it was seen. Whether it is the holder's now."""
        if seen is not None:
            expected = {"_id": slot, "holder": seen.holder, "number": seen.number}
            return self._changed(expected, self._owned(holder, target))
        new = {"_id": slot, "number": 1, **self._owned(holder, target)["$set"]}
        try:
            self.collection.insert_one(new)
        except self.taken:
            return False
        except self.error as error:
            raise Unreachable(str(error)[:300]) from error
        return True

    def release(self, slot: str, holder: str) -> bool:
        """Give the lease up: another host may take it at once."""
        return self._changed({"_id": slot, "holder": holder}, {"$set": {"holder": ""}, "$inc": {"number": 1}})

    def _changed(self, which: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
        return bool(self._asked(lambda: self.collection.update_one(which, change).matched_count))

    @staticmethod
    def _owned(holder: str, target: Target) -> dict[str, Any]:
        return {
            "$set": {"holder": holder, "release": target.release, "since": target.since},
            "$inc": {"number": 1},
            "$currentDate": {"renewed": True},
        }
