"""Restore a dump, or a later moment, into the running replica set: all of it or nothing, and keep what it replaces.

1. The plan lists every obstacle before anything is touched: kinds that can't be moved, no room on a member.
2. The archive is checked and verified again in the scratch server, which stops a damaged or foreign one. For a moment
   after the dump's, the store's oplog is replayed there.
3. Its collections are copied next to the live ones, and compared with the manifest there (or the scratch server).
4. Only when all are equal are they exchanged with the live ones, which are set aside: they hold what was written since
   the dump, until an operator drops them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phoenix.backup import copying, exchange, files, fingerprint, members, scratch
from phoenix.backup.archive import Moment
from phoenix.backup.oplog import chain
from phoenix.backup.scope import BUCKETS
from phoenix.backup.store import NAME, Dump, Store
from phoenix.common import endpoint
from phoenix.database import tls

RESTORABLE = ("good", "shrunken")
BESIDE = "beside"
DUMP_SECONDS = 1800.0
UNCOUNTED = fingerprint.Collection(None, None, None, [])
STAMP = re.compile(r"[0-9]{8}T[0-9]{6}Z(-[0-9]+)?")


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


@dataclass(frozen=True)
class Live:
    """A live collection, view or time series. documents: as the server estimates them."""

    kind: str
    documents: int = 0


def choose(known: list[Dump], name: str) -> Dump:
    """Pure: the dump that is meant. Raises Refused."""
    if name == "newest":
        good = [one for one in known if one.folder and one.state == "good"]
        own = [one for one in good if one.counts]
        if own:
            return own[-1]
        others = f" of its own; name one of: {', '.join(one.name for one in good)}" if good else ""
        raise Refused(f"the store holds no good dump{others}")
    if not NAME.fullmatch(name):
        raise Refused(f"{name!r} is not the name of a dump")
    found = next((one for one in known if one.folder and one.name == name), None)
    if found is None:
        raise Refused(f"the store holds no dump {name}: see phoenixctl backup list")
    if found.state not in RESTORABLE:
        raise Refused(f"{name} is {found.state}, not proven: {found.reason}")
    return found


def choose_for(store: Store, order: Order) -> tuple[Dump, Moment | None]:
    """The dump that is meant, and the moment before which the replay of the oplog ends, or None. Raises Refused."""
    known = store.dumps()
    if not order.time:
        return choose(known, order.dump), None
    if order.dump != "newest":
        known = [choose(known, order.dump)]
    try:
        return chain.choose(chain.Chain(store.root).ranges(), known, order.time, time.time())
    except chain.Unreachable as error:
        raise Refused(str(error)) from error


def wanted(dump: Dump, collection: str) -> dict[str, fingerprint.Collection]:
    """Pure: the collections to restore. Raises Refused."""
    return _selected(fingerprint.from_json(dump.manifest["namespaces"]), collection, dump.name)


def _selected(
    there: Mapping[str, fingerprint.Collection], collection: str, source: str
) -> dict[str, fingerprint.Collection]:
    """Pure: of what is there, what is to be restored. source: what holds it. Raises Refused."""
    if found := matching(there, collection):
        return found
    kind = "collection" if "." in collection else "database"
    raise Refused(f"{source} holds no {kind} {collection}; it holds {', '.join(sorted(matching(there, '')))}")


def matching(there: Mapping[str, fingerprint.Collection], collection: str) -> dict[str, fingerprint.Collection]:
    """Pure: the collections of an order, without those that earlier restores had set aside: they are not restored."""
    return {
        name: one
        for name, one in there.items()
        if not exchange.own(name.split(".", 1)[1]) and collection in ("", name, name.split(".", 1)[0])
    }


def brought_forward(store: Store, order: Order) -> dict[str, fingerprint.Collection]:
    """The collections to restore as the scratch server holds them, at the order's time. Raises Refused."""
    with contextlib.closing(scratch.client(store)) as source:
        there = fingerprint.take(source, [order.collection] if "." in order.collection else None)
    return _selected(there, order.collection, f"the moment {order.time}")


def surplus(live: Mapping[str, Any], restored: Mapping[str, Any], collection: str) -> list[str]:
    """Pure: live collections of the restored databases that did not exist at the restored moment."""
    if "." in collection:
        return []
    databases = {name.split(".", 1)[0] for name in restored}
    return sorted(name for name in live if name.split(".", 1)[0] in databases and name not in restored)


def obstacles(
    names: Mapping[str, fingerprint.Collection],
    gone: Sequence[str],
    live: Mapping[str, Live],
    stamp: str,
    series: str = "",
) -> list[str]:
    """Pure: collections that can't be exchanged, by name, and what to do about it."""
    found = []
    for name in (*names, *gone):
        database, title = name.split(".", 1)
        kind = live[name].kind if name in live else ""
        place = exchange.aside(stamp, title)
        if kind == "view":
            found.append(f"{name} is a view now, and a collection in the dump: drop the view")
        elif kind == "timeseries" and name in names and not names[name].series:
            found.append(f"{name} is a time series now, and a collection in the dump: make a dump and drop it")
        elif kind == "timeseries":
            # The live one stays; only what comes beside it needs a name.
            place = BUCKETS + exchange.restored(stamp, title) if name in names and series == BESIDE else ""
            what = f"restores it as {database}.{exchange.restored('STAMP', title)} and " if name in names else ""
            if series != BESIDE:
                found.append(
                    f"{name} is a time series, which can't be renamed: -e phoenix_restore_series={BESIDE} {what}leaves "
                    "the live one as it is; or make a dump and drop it first, and its place is free"
                )
        elif kind and name in names and names[name].series:
            found.append(f"{name} is a time series in the dump, and something else now: rename that")
        if len(f"{database}.{place}".encode()) > exchange.LONGEST:
            found.append(f"{name} has too long a name to be set aside: rename it")
    return found


def conditions(dump: Dump) -> list[str]:
    """Pure: what a full restore of a dump would be refused for, were the database as it was at the dump's moment."""
    names = matching(fingerprint.from_json(dump.manifest["namespaces"]), "")
    live = {name: Live("timeseries" if one.series else "collection") for name, one in names.items()}
    return obstacles(names, (), live, _stamp())


def _login(store: Store, order: Order) -> dict[str, Any]:
    """MongoDB's Python driver's options of the user, and of TLS."""
    return {**order.login, **tls.options(store.config.ca)}


def connect(store: Store, order: Order) -> Any:
    import pymongo  # noqa: PLC0415 - the session that receives does without

    return pymongo.MongoClient(
        [endpoint.of(address, store.config.port) for address in order.members], replicaSet=store.config.replica_set,
        serverSelectionTimeoutMS=15000, w="majority", readConcernLevel="majority", **_login(store, order),
    )  # fmt: skip


def _look(client: Any) -> dict[str, Live]:
    """Every collection that belongs neither to the system nor to a restore."""
    found = {}
    for name in client.list_database_names():
        if name in fingerprint.SYSTEM_DATABASES:
            continue
        for shown in client[name].list_collections():
            title, kind = shown["name"], shown.get("type", "collection")
            if fingerprint.internal(title) or exchange.own(title):
                continue
            count = client[name][title].estimated_document_count() if kind == "collection" else 0
            found[f"{name}.{title}"] = Live(kind, count)
    return found


def _hindered(store: Store, order: Order, names: Mapping[str, fingerprint.Collection], found: Sequence[str]) -> None:
    """Check for obstacles. Raises Refused, listing all of them."""
    size = fingerprint.totals(names)[1]
    room = members.look(order.members, store.config.port, _login(store, order)) if order.check_room else []
    if reasons := [*found, *members.obstacles(room, size, store.config.min_free)]:
        raise Refused("nothing was touched: " + "; ".join(reasons))


def covered(store: Store, order: Order) -> bool:
    """Whether no safety dump is needed: one collection is set aside, and the store has every second until now."""
    return "." in order.collection and chain.covered(chain.Chain(store.root).ranges(), store.dumps(), time.time())


def plan(store: Store, order: Order) -> tuple[str, list[str]]:
    """The name of the dump, and what a restore would do, in lines. Raises Refused."""
    if order.series not in ("", BESIDE):
        raise Refused(f"phoenix_restore_series is {order.series!r}: it is {BESIDE!r}, or not given")
    dump, limit = choose_for(store, order)
    # What else the oplog makes or drops is known once it is replayed.
    there = fingerprint.from_json(dump.manifest["namespaces"])
    names = matching(there, order.collection) if limit else wanted(dump, order.collection)
    try:
        scratch.check(store, dump)
    except scratch.Unproven as error:
        raise Refused(f"{dump.name}: {error}") from error
    with contextlib.closing(connect(store, order)) as client:
        live = _look(client)
    gone = surplus(_collections(live), names, order.collection)
    _hindered(store, order, names, obstacles(names, gone, live, _stamp(), order.series))
    noted = {"dump": dump.name, "collection": order.collection, "time": order.time, "live": sorted(_collections(live))}
    files.write(store.root / "plan.json", json.dumps(noted))
    lines = [
        f"dump {dump.name}, {dump.state}: the data of {dump.manifest['moment_utc']}, from {dump.manifest['member']}, "
        f"MongoDB {dump.manifest['server_version']}"
    ]
    if limit:
        until = f"its end, {chain.show(limit[0] - 1)}" if order.time == chain.LATEST else order.time
        lines.append(f"with the oplog from there up to {until}, replayed: it may add and remove collections")
    lines += [
        f"{name}: {live[name].documents if name in live else 'no'} documents now, "
        f"{'?' if one.documents is None else one.documents} from the dump"
        for name, one in sorted(names.items())
    ]
    unless = f", unless it existed at {order.time}" if limit else ""
    staying = stays(live)
    lines += [
        f"{name}: a time series, which stays; what is restored comes beside it{unless}"
        for name in names
        if name in staying
    ]
    lines += [
        f"{name}: a time series that did not exist then, and stays{unless}"
        if name in staying
        else f"{name}: {live[name].documents} documents now, set aside{unless}"
        for name in gone
    ]
    room = members.look(order.members, store.config.port, _login(store, order))
    lines += members.warnings(room, fingerprint.totals(names)[1])
    return dump.name, lines


def stays(live: Mapping[str, Live]) -> set[str]:
    """Pure: what can't change places: live time series."""
    return {name for name, one in live.items() if one.kind == "timeseries"}


def _collections(live: Mapping[str, Live]) -> dict[str, Live]:
    return {name: one for name, one in live.items() if one.kind != "view"}


def _stamp() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())


def planned(store: Store, dump: Dump, order: Order, names: Mapping[str, fingerprint.Collection]) -> list[str]:
    """The surplus among the collections that were live when the plan was confirmed. Raises Refused."""
    noted = files.read_json(store.root / "plan.json") or {}
    if (noted.get("dump"), noted.get("collection"), noted.get("time")) != (dump.name, order.collection, order.time):
        raise Refused(
            f"there is no plan for {dump.name} {order.collection} {order.time}: phoenixctl backup plan comes first"
        )
    return surplus(dict.fromkeys(noted["live"]), names, order.collection)


@contextlib.contextmanager
def _alone(store: Store) -> Iterator[None]:
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


@contextlib.contextmanager
def _scratch(store: Store, dump: Dump, limit: Moment | None, collection: str) -> Iterator[None]:
    """The scratch server with what is needed of the dump, brought forward to limit, as a unit. Raises Refused."""
    instance = f"{dump.name}:{limit[0]}" if limit else dump.name
    unit = f"phoenix-backup-scratch@{instance}.service"
    needed = {"instance": instance, "collection": collection}
    with scratch.noting(store, needed):
        try:
            # A restore that was killed leaves its unit behind, which may serve another collection of the same moment;
            # one of another moment ends by itself, and this one waits for that.
            if subprocess.run(["systemctl", "restart", unit], check=False).returncode:
                raise Refused(f"{dump.name} can't be proven again, nothing was touched: journalctl -u {unit}")
            if (served := files.read_json(store.root / scratch.SERVED)) != needed:
                raise Refused(f"nothing was touched: {unit} serves {served} instead of {needed}: restore again")
            yield
        finally:
            subprocess.run(["systemctl", "stop", unit], check=False)
            subprocess.run(["systemctl", "reset-failed", unit], check=False, stderr=subprocess.DEVNULL)


def run(store: Store, order: Order) -> str:
    """Restore; returns what was done, in lines. Raises Refused, exchange.Mixed, and pymongo's errors."""
    dump, limit = choose_for(store, order)
    planned(store, dump, order, {})
    with (
        _alone(store),
        _scratch(store, dump, limit, order.collection),
        contextlib.closing(connect(store, order)) as client,
    ):
        names = brought_forward(store, order) if limit else wanted(dump, order.collection)
        return "\n".join(replace(store, order, dump, client, names, planned(store, dump, order, names)))


def replace(
    store: Store, order: Order, dump: Dump, client: Any, names: Mapping[str, fingerprint.Collection], gone: list[str]
) -> list[str]:
    """Copy from the scratch server and replace the live collections. Returns what was done. Raises as run does."""
    stamp, live = _stamp(), _look(client)
    gone = [name for name in gone if name in live]
    _hindered(store, order, names, obstacles(names, gone, live, stamp, order.series))
    staying = stays(live)
    gone = [name for name in gone if name not in staying]
    moved = [name for name, one in names.items() if not one.series]
    series = {name: _place(name, stamp, staying) for name, one in names.items() if one.series}
    servers = [endpoint.of(address, store.config.port) for address in order.members]
    hosts = f"{store.config.replica_set}/{','.join(servers)}"
    begun: list[str] = []
    _clean(client)
    try:
        with contextlib.closing(scratch.client(store)) as source:
            copying.prepare(source, client, moved)
            if moved:
                copying.pipe(store, *_selection(order, names), order.login, hosts)
            copying.compare(client, {name: names[name] for name in moved}, source)
            copying.index(source, client, moved)
            before, after = copying.places(client, moved, gone)
            begun = list(series.values())
            copying.series(store, source, client, series, order.login, hosts)
            exchange.exchange(client, before, after, stamp)
            begun = []
            failed = [] if "." in order.collection else copying.views(source, client, order.collection)
    except (copying.Failed, exchange.Undone) as error:
        raise Refused(f"{error}; the live data is as it was") from error
    finally:
        for name in begun:
            database, title = name.split(".", 1)
            client[database].drop_collection(title)
        _clean(client)
    # What came beside a live one is not compared with it.
    there = {name: UNCOUNTED if name in staying else one for name, one in names.items()}
    restored = {"collection": order.collection, "time": order.time, "namespaces": fingerprint.to_json(there)}
    # Written by root, read by the store's user.
    files.write(store.root / "restored.json", json.dumps(restored), 0o644)
    documents, _ = fingerprint.totals(names)
    equal = f"the manifest of {dump.name} ({dump.manifest['moment_utc']})"
    if order.time:
        equal = f"{dump.name} with the oplog up to {order.time}"
    return [
        f"restored {len(names)} collections with {documents} documents, equal to {equal}",
        *(f"set aside {name}, which did not exist then" for name in gone),
        *(f"restored {name} beside the live one, as {place}" for name, place in series.items() if name in staying),
        *_told(client),
        *failed,
    ]


def _place(name: str, stamp: str, staying: set[str]) -> str:
    """Pure: where a time series is restored to."""
    database, title = name.split(".", 1)
    return f"{database}.{exchange.restored(stamp, title)}" if name in staying else name


def _selection(order: Order, names: Mapping[str, fingerprint.Collection]) -> tuple[list[str], list[str]]:
    """Pure: options of mongodump, what to read from the scratch server, and of mongorestore, where to write it."""
    beside = ["--noIndexRestore"]
    for title in ("$name$", fingerprint.FUNCTIONS):  # the last that matches counts
        beside += [f"--nsFrom=$db$.{title}", f"--nsTo=$db$.{exchange.beside(title)}"]
    database, _, title = order.collection.partition(".")
    if title:
        return [f"--db={database}", f"--collection={title}"], beside
    left_out = ["admin.*", "config.*", *(f"*.{one}*" for one in (exchange.ASIDE, exchange.BESIDE, exchange.RESTORED))]
    left_out += [_literal(name) for name, one in names.items() if one.series]
    # The manifest of an earlier version does not list stored functions.
    if not any(name.endswith(f".{fingerprint.FUNCTIONS}") for name in names):
        left_out.append(f"*.{fingerprint.FUNCTIONS}")
    chosen = [f"--db={database}"] if database else []
    return chosen, [*beside, *(f"--nsExclude={pattern}" for pattern in left_out)]


def _literal(name: str) -> str:
    """Pure: a pattern of mongorestore that matches this name alone."""
    return re.sub(r"([\\*$])", r"\\\1", name)


def _told(client: Any) -> list[str]:
    """Collections that are set aside, and those restored beside live ones, in lines."""
    return [
        f"set aside as {stamp}: {', '.join(f'{database}.{title}' for database, title in held)}"
        for stamp, held in exchange.kept(client, fingerprint.SYSTEM_DATABASES).items()
    ] + [
        f"restored beside as {stamp}: {', '.join(names)}"
        for stamp, names in exchange.stayed(client, fingerprint.SYSTEM_DATABASES).items()
    ]


def _clean(client: Any) -> None:
    """Drop what this or an interrupted restore left next to the live collections."""
    exchange.drop(client, lambda title: title.startswith(exchange.BESIDE), fingerprint.SYSTEM_DATABASES)


def list_aside(store: Store, order: Order) -> str:
    """Collections that restores have set aside, in lines."""
    with contextlib.closing(connect(store, order)) as client:
        return "\n".join(_told(client)) or "nothing is set aside"


def put_back(store: Store, order: Order) -> str:
    """Put back what was set aside; the collections it replaces are set aside in turn. Raises Refused, Mixed."""
    with _alone(store), contextlib.closing(connect(store, order)) as client:
        held = _held(client, order.aside)
        stamp = _stamp()
        try:
            exchange.put_back(client, order.aside, held, stamp)
        except exchange.Undone as error:
            raise Refused(f"{error}; the live data is as it was") from error
        return "\n".join([f"put back {database}.{title}" for database, title in held] + _told(client))


def drop_aside(store: Store, order: Order) -> str:
    """Drop what was set aside, or restored beside, under one stamp. Raises Refused."""
    with contextlib.closing(connect(store, order)) as client:
        if order.aside not in exchange.stayed(client, fingerprint.SYSTEM_DATABASES):
            _held(client, order.aside)
        prefixes = exchange.aside(order.aside, ""), exchange.restored(order.aside, "")
        gone = exchange.drop(client, lambda title: title.startswith(prefixes), fingerprint.SYSTEM_DATABASES)
    return "\n".join(f"dropped {name}" for name in gone)


def _held(client: Any, stamp: str) -> list[tuple[str, str]]:
    """Collections that are set aside under a stamp. Raises Refused."""
    if not STAMP.fullmatch(stamp):
        raise Refused(f"{stamp!r} is not a stamp of what was set aside, such as 20261124T013112Z")
    held = exchange.kept(client, fingerprint.SYSTEM_DATABASES)
    if stamp not in held:
        raise Refused(f"nothing is set aside as {stamp}; there is: {', '.join(held) or 'nothing'}")
    return held[stamp]


def verify(store: Store, order: Order) -> list[str]:
    """Differences between the live data and the dump, for a fleet without writes. Raises Refused."""
    dump, limit = choose_for(store, order)
    names = _restored(store, order) if limit else wanted(dump, order.collection)
    with contextlib.closing(connect(store, order)) as client:
        databases = {name.split(".", 1)[0] for name in names}
        live = [name for name in _look(client) if name.split(".", 1)[0] in databases]
        seen = fingerprint.take(client, names if "." in order.collection else live)
    return fingerprint.differences(names, fingerprint.comparable(dump.manifest, seen))


def _restored(store: Store, order: Order) -> dict[str, fingerprint.Collection]:
    """What the last restore to this time brought. Raises Refused."""
    noted = files.read_json(store.root / "restored.json") or {}
    if (noted.get("collection"), noted.get("time")) != (order.collection, order.time):
        raise Refused(f"nothing was restored to {order.time} that could be compared")
    return fingerprint.from_json(noted["namespaces"])


def read_order(text: str) -> Order:
    """Parse the order, which comes over standard input as it holds a password. Raises ValueError or TypeError."""
    order = Order(**json.loads(text))
    os.umask(0o077)
    return order
