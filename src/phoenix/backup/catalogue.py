"""Changes of the catalogue that end a dump: renames, and collections that are made, dropped or indexed meanwhile."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping
from typing import Any

# Of mongodump, which can't follow them; `$out` renames, too.
RENAMES = "renames occur"
# The server's error for a collection that can't be read at a moment, as it was changed since.
CHANGED = 246
TEMPORARY = "tmp.agg_out."  # of $out; its name ends with a UUID
VERBS = {
    "create": "made", "drop": "dropped", "collMod": "changed", "commitIndexBuild": "indexed",
    "createIndexes": "indexed", "dropIndexes": "its indexes dropped",
}  # fmt: skip
SHOWN = 5
MARGIN = 15  # seconds: mongodump also counts the last entry before it began
READ = 10_000  # entries at most, the newest


def take(client: Any, since: float) -> list[Mapping[str, Any]]:
    """Such changes in a member's oplog since then, in seconds since 1970, the newest last. Raises pymongo's errors.

    Not its transactions, which are commands as well, of up to 16 MB each.
    """
    from bson import Timestamp  # noqa: PLC0415 - only database hosts have it

    wanted = {
        "ts": {"$gte": Timestamp(max(int(since) - MARGIN, 0), 0)},
        "op": "c",
        "$or": [{f"o.{verb}": {"$exists": True}} for verb in ("renameCollection", *VERBS)],
    }
    # Forwards: a server that reads its oplog backwards does not stop at the first of these times.
    return list(collections.deque(client.local["oplog.rs"].find(wanted, {"ns": 1, "o": 1}), maxlen=READ))


def _changes(entries: Iterable[Mapping[str, Any]], verbs: Mapping[str, str]) -> list[str]:
    """Each change once, in the order of the last of its kind."""
    found: dict[str, None] = {}
    for entry in entries:
        order = entry["o"]
        verb, database = next(iter(order), ""), entry["ns"].split(".", 1)[0]
        if verb == "renameCollection":
            source, target = str(order[verb]), str(order["to"])
            name = f"$out into {target}" if f".{TEMPORARY}" in source else f"{source} renamed to {target}"
        elif verb in verbs:
            if str(order[verb]).startswith(("tmp.", "system.")):
                continue
            name = f"{database}.{order[verb]} {verbs[verb]}"
        else:
            continue
        found.pop(name, None)
        found[name] = None
    return list(found)


def _shown(changes: list[str]) -> str:
    more = len(changes) - SHOWN
    return "; ".join(changes[-SHOWN:]) + (f"; and {more} more" if more > 0 else "")


def renamed(entries: Iterable[Mapping[str, Any]]) -> str:
    """Pure: which collections were renamed during a dump, and what to do; empty if none was."""
    if not (changes := _changes(entries, {})):
        return ""
    return (
        f"collections were renamed during the dump, which mongodump can't follow: {_shown(changes)}. It is tried "
        "again; where that never succeeds, have them pause at backup_schedule or set that to another hour. $out "
        "renames, and $merge in its place does not"
    )


def changed(entries: Iterable[Mapping[str, Any]]) -> str:
    """Pure: which collections were changed during a dump, and what to do; empty if none was."""
    if not (changes := _changes(entries, VERBS)):
        return ""
    return (
        f"a collection can't be read at the dump's moment, as it was changed during the dump: {_shown(changes)}. It is "
        "tried again; where that never succeeds, have such changes pause at backup_schedule or set that to another hour"
    )
