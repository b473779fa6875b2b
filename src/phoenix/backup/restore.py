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
import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from phoenix.backup import aside, copying, exchange, files, fingerprint, plan, scratch
from phoenix.backup.archive import Moment
from phoenix.backup.order import Order, Refused, alone, connect
from phoenix.backup.store import Dump, Store
from phoenix.common import endpoint

UNCOUNTED = fingerprint.Collection(None, None, None, [])


def brought_forward(store: Store, order: Order) -> dict[str, fingerprint.Collection]:
    """The collections to restore as the scratch server holds them, at the order's time. Raises Refused."""
    with contextlib.closing(scratch.client(store)) as source:
        there = fingerprint.take(source, [order.collection] if "." in order.collection else None)
    return plan.selected(there, order.collection, f"the moment {order.time}")


@contextlib.contextmanager
def _scratch(
    store: Store, dump: Dump, limit: Moment | None, collection: str, look_for_room: bool = True
) -> Iterator[None]:
    """The scratch server with what is needed of the dump, brought forward to limit, as a unit. Raises Refused."""
    instance = f"{dump.name}:{limit[0]}" if limit else dump.name
    unit = f"phoenix-backup-scratch@{instance}.service"
    needed = {"instance": instance, "collection": collection}
    with scratch.noting(store, needed if look_for_room else {**needed, scratch.UNCHECKED: "yes"}):
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
    dump, limit = plan.choose_for(store, order)
    plan.planned(store, dump, order, {})
    # The safety dump, and what else has arrived since the plan, take room as well.
    if found := plan.cramped(store, order, dump, limit):
        raise Refused("nothing was touched: " + "; ".join(found))
    with (
        alone(store),
        _scratch(store, dump, limit, order.collection, order.check_room),
        contextlib.closing(connect(store, order)) as client,
    ):
        names = brought_forward(store, order) if limit else plan.wanted(dump, order.collection)
        return "\n".join(replace(store, order, dump, client, names, plan.planned(store, dump, order, names)))


def replace(
    store: Store, order: Order, dump: Dump, client: Any, names: Mapping[str, fingerprint.Collection], gone: list[str]
) -> list[str]:
    """Copy from the scratch server and replace the live collections. Returns what was done. Raises as run does."""
    stamp, live = exchange.fresh_stamp(), plan.look(client)
    gone = [name for name in gone if name in live]
    plan.check(store, order, plan.counted(dump, names), gone, live, stamp)
    staying = plan.stays(live)
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
    documents, _ = fingerprint.totals(plan.counted(dump, names))
    equal = f"the manifest of {dump.name} ({dump.manifest['moment_utc']})"
    if order.time:
        equal = f"{dump.name} with the oplog up to {order.time}"
    return [
        f"restored {len(names)} collections with {documents} documents, equal to {equal}",
        *(f"set aside {name}, which did not exist then" for name in gone),
        *(f"restored {name} beside the live one, as {place}" for name, place in series.items() if name in staying),
        *aside.lines(client),
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


def _clean(client: Any) -> None:
    """Drop what this or an interrupted restore left next to the live collections."""
    exchange.drop(client, lambda title: title.startswith(exchange.BESIDE), fingerprint.SYSTEM_DATABASES)


def verify(store: Store, order: Order) -> list[str]:
    """Differences between the live data and the dump, for a fleet without writes. Raises Refused."""
    dump, limit = plan.choose_for(store, order)
    names = _restored(store, order) if limit else plan.wanted(dump, order.collection)
    with contextlib.closing(connect(store, order)) as client:
        databases = {name.split(".", 1)[0] for name in names}
        live = [name for name in plan.look(client) if name.split(".", 1)[0] in databases]
        seen = fingerprint.take(client, names if "." in order.collection else live)
    return fingerprint.differences(names, fingerprint.comparable(dump.manifest, seen))


def _restored(store: Store, order: Order) -> dict[str, fingerprint.Collection]:
    """What the last restore to this time brought. Raises Refused."""
    noted = files.read_json(store.root / "restored.json") or {}
    if (noted.get("collection"), noted.get("time")) != (order.collection, order.time):
        raise Refused(f"nothing was restored to {order.time} that could be compared")
    return fingerprint.from_json(noted["namespaces"])
