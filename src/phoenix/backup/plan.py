"""Plan a restore: the dump that is meant, what of it replaces what, and every obstacle before anything is touched."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phoenix.backup import exchange, files, fingerprint, left_out, members, room, scratch
from phoenix.backup.archive import Moment
from phoenix.backup.oplog import chain
from phoenix.backup.order import BESIDE, Order, Refused, connect, login
from phoenix.backup.scope import BUCKETS, Scope
from phoenix.backup.store import NAME, Dump, Store

RESTORABLE = ("good", "shrunken")


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
    return selected(fingerprint.from_json(dump.manifest["namespaces"]), collection, dump.name)


def selected(
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
    """Pure: what a full restore of a dump would be refused for, or leaves out, were the database as it was then."""
    names = matching(fingerprint.from_json(dump.manifest["namespaces"]), "")
    live = {name: Live("timeseries" if one.series else "collection") for name, one in names.items()}
    others = [left_out.condition(name) for name in dump.manifest.get("left_out", ())]
    return [*others, *obstacles(names, (), live, exchange.fresh_stamp())]


def look(client: Any) -> dict[str, Live]:
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


def counted(dump: Dump, names: Mapping[str, fingerprint.Collection]) -> dict[str, fingerprint.Collection]:
    """Pure: the same with what the dump's proof counted, where nothing else has counted it."""
    held = dump.namespaces
    return {name: held.get(name, one) if one.documents is None else one for name, one in names.items()}


def cramped(store: Store, order: Order, dump: Dump, limit: Moment | None) -> list[str]:
    """Why an order's scratch server does not fit on the store's disk; empty if it does, or is not to be checked."""
    found = room.obstacle(store, dump, Scope.of(order.collection), limit) if order.check_room else ""
    fewer = "" if "." in order.collection else ", or restore single collections (-e phoenix_restore_collection=…)"
    return [f"{found}{fewer}. Where you know better: -e phoenix_restore_check_room=no"] if found else []


def check(
    store: Store,
    order: Order,
    names: Mapping[str, fingerprint.Collection],
    gone: Sequence[str],
    live: Mapping[str, Live],
    stamp: str,
    others: Sequence[str] = (),
) -> None:
    """Check for obstacles. names: counted; others: that were found already. Raises Refused, listing all of them."""
    found = obstacles(names, gone, live, stamp, order.series)
    size = fingerprint.totals(names)[1]
    rooms = members.look(order.members, store.config.port, login(store, order)) if order.check_room else []
    if reasons := [*found, *members.obstacles(rooms, size, store.config.min_free), *others]:
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
        live = look(client)
    gone = surplus(_collections(live), names, order.collection)
    sizes = counted(dump, names)
    check(store, order, sizes, gone, live, exchange.fresh_stamp(), cramped(store, order, dump, limit))
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
        for name, one in sorted(sizes.items())
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
    lines += [left_out.condition(name) for name in dump.manifest.get("left_out", ())]
    rooms = members.look(order.members, store.config.port, login(store, order))
    lines += members.warnings(rooms, fingerprint.totals(sizes)[1])
    return dump.name, lines


def stays(live: Mapping[str, Live]) -> set[str]:
    """Pure: what can't change places: live time series."""
    return {name for name, one in live.items() if one.kind == "timeseries"}


def _collections(live: Mapping[str, Live]) -> dict[str, Live]:
    return {name: one for name, one in live.items() if one.kind != "view"}


def planned(store: Store, dump: Dump, order: Order, names: Mapping[str, fingerprint.Collection]) -> list[str]:
    """The surplus among the collections that were live when the plan was confirmed. Raises Refused."""
    noted = files.read_json(store.root / "plan.json") or {}
    if (noted.get("dump"), noted.get("collection"), noted.get("time")) != (dump.name, order.collection, order.time):
        raise Refused(
            f"there is no plan for {dump.name} {order.collection} {order.time}: phoenixctl backup plan comes first"
        )
    return surplus(dict.fromkeys(noted["live"]), names, order.collection)
