"""Exchange collections: all of them or none, and the replaced ones are kept.

A collection is identified by its UUID, which a rename keeps. So each step is decided by what is where now, and can be
repeated after an election, when it is unknown whether the last one took place.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BESIDE = "phoenix_restoring."
ASIDE = "phoenix_aside."
RESTORED = "phoenix_restored."
SECONDS = 60.0
PAUSE = 0.3
LONGEST = 255  # of a namespace, in bytes
STAMP = re.compile(r"[0-9]{8}T[0-9]{6}Z(-[0-9]+)?")
# Server errors: a concurrent operation won, or an election is due. 26 and 48: a name vanished, or was taken.
PASSING = (6, 7, 24, 26, 46, 48, 50, 64, 89, 91, 112, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436)


@dataclass(frozen=True)
class Place:
    """A collection's name, and the UUID of the collection that is there; None: there is no collection."""

    database: str
    title: str
    uuid: Any = None


class Undone(Exception):
    """The exchange could not be finished; everything is where it was."""


class Mixed(Exception):
    """The exchange could neither be finished nor undone."""


def fresh_stamp() -> str:
    """What marks the collections that are set aside now, all of them alike."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())


def _unreserved(title: str) -> str:
    """A name that the server accepts behind a prefix: ".system." is its own."""
    return f"system:{title[7:]}" if title.startswith("system.") else title


def beside(title: str) -> str:
    """Where the copy of a collection is until it takes its place."""
    return BESIDE + _unreserved(title)


def aside(stamp: str, title: str) -> str:
    """Where a collection is kept that had to leave its place."""
    return f"{ASIDE}{stamp}.{_unreserved(title)}"


def restored(stamp: str, title: str) -> str:
    """Where a restored collection stays that can't change places."""
    return f"{RESTORED}{stamp}.{title}"


def own(title: str) -> bool:
    """Whether a collection of this name is a restore's."""
    return title.startswith((BESIDE, ASIDE, RESTORED))


def titles(client: Any, database: str) -> dict[str, Any]:
    """The UUIDs of a database's collections, by name; views and time series have none."""
    return {
        shown["name"]: shown["info"]["uuid"]
        for shown in client[database].list_collections()
        if "uuid" in shown.get("info", {})
    }


def park(title: str, uuid: Any, homes: Mapping[Any, str], stamp: str, taken: Collection[str]) -> str:
    """Pure: where a collection goes that is in another's place: to where it came from, or aside."""
    if uuid in homes:
        return homes[uuid]
    # What was written to a place while it was empty, for a moment, is kept under a stamp of its own.
    stamps = [stamp, *(f"{stamp}-{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in (aside(one, title) for one in stamps) if name not in taken)


def _settle(client: Any, place: Place, homes: Mapping[Any, str], stamp: str) -> None:
    """Move the one collection into its place. Raises pymongo's errors."""

    def rename(old: str, new: str, concern: Any) -> None:
        client.admin.command(
            "renameCollection", f"{place.database}.{old}", to=f"{place.database}.{new}", writeConcern={"w": concern}
        )

    found = titles(client, place.database)
    here = found.get(place.title)
    if here == place.uuid:
        return
    if here is not None:
        rename(place.title, park(place.title, here, homes, stamp, found), 1)
    if place.uuid is not None:
        # Confirmed by a majority; the first rename, which is older, with it.
        rename(next(name for name, uuid in found.items() if uuid == place.uuid), place.title, "majority")


def _reach(client: Any, places: Sequence[Place], homes: Mapping[Any, str], stamp: str, seconds: float) -> None:
    """Move every collection into its place, for good. Raises pymongo's errors, and LookupError when one is gone."""
    from pymongo.errors import OperationFailure, PyMongoError  # noqa: PLC0415 - the session that receives does without

    deadline = time.monotonic() + seconds
    while True:
        try:
            for place in places:
                _settle(client, place, homes, stamp)
            # mongodump refuses to begin at a rename, which would be the oplog's newest entry until something else is
            # written; and once a majority has the note, no election rolls back what came before it.
            client.admin.command("appendOplogNote", data={"phoenix": "restored"}, writeConcern={"w": "majority"})
            found = {database: titles(client, database) for database in {place.database for place in places}}
            if all(found[place.database].get(place.title) == place.uuid for place in places):
                return
        except StopIteration as error:
            raise LookupError("a collection that was to be moved is gone") from error
        except PyMongoError as error:
            passing = not isinstance(error, OperationFailure) or error.code in PASSING
            if not passing or time.monotonic() > deadline:
                raise
        time.sleep(PAUSE)


def exchange(
    client: Any, before: Sequence[Place], after: Sequence[Place], stamp: str, seconds: float = SECONDS
) -> None:
    """Go from what is where before to what is where after. Raises Undone, Mixed."""
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    coming = {place.uuid for place in after}
    homes = {
        uuid: name
        for database in {place.database for place in after}
        for name, uuid in titles(client, database).items()
        if uuid in coming
    }
    try:
        _reach(client, after, homes, stamp, seconds)
    except (PyMongoError, LookupError) as error:
        try:
            _reach(client, before, homes, stamp, seconds)
        except (PyMongoError, LookupError) as second:
            raise Mixed(f"{_short(error)}; and while undoing it: {_short(second)}") from error
        raise Undone(_short(error)) from error


def _short(error: Exception) -> str:
    return str(error).split(", full error:", 1)[0][:300]


def kept(client: Any, system: Collection[str]) -> dict[str, list[tuple[str, str]]]:
    """Collections that are set aside: by stamp, their original databases and names."""
    found: dict[str, list[tuple[str, str]]] = {}
    for database in client.list_database_names():
        if database in system:
            continue
        for name in titles(client, database):
            if name.startswith(ASIDE):
                stamp, _, title = name[len(ASIDE) :].partition(".")
                found.setdefault(stamp, []).append(
                    (database, f"system.{title[7:]}" if title.startswith("system:") else title)
                )
    return {stamp: sorted(found[stamp]) for stamp in sorted(found)}


def stayed(client: Any, system: Collection[str]) -> dict[str, list[str]]:
    """Namespaces of restored collections that could not change places, by stamp."""
    found: dict[str, list[str]] = {}
    for database in client.list_database_names():
        if database not in system:
            for title in sorted(client[database].list_collection_names()):
                if title.startswith(RESTORED):
                    found.setdefault(title[len(RESTORED) :].partition(".")[0], []).append(f"{database}.{title}")
    return {stamp: found[stamp] for stamp in sorted(found)}


def put_back(client: Any, stamp: str, members: Sequence[tuple[str, str]], new_stamp: str) -> None:
    """Put back what was set aside; the collections it replaces are set aside in turn. Raises Undone, Mixed."""
    found = {database: titles(client, database) for database in {database for database, _ in members}}
    before = [Place(database, title, found[database].get(title)) for database, title in members]
    after = [Place(database, title, found[database][aside(stamp, title)]) for database, title in members]
    exchange(client, before, after, new_stamp)


def drop(client: Any, matches: Callable[[str], bool], system: Collection[str]) -> list[str]:
    """Drop the collections of a restore whose names match; returns their namespaces."""
    gone = []
    for database in client.list_database_names():
        if database in system:
            continue
        for title in sorted(client[database].list_collection_names()):
            if own(title) and matches(title):
                client[database].drop_collection(title)
                gone.append(f"{database}.{title}")
    return gone
