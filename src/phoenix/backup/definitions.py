"""How collections, their indexes and views are defined: made again as a server lists them, and compared."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping
from typing import Any

from phoenix.backup import fingerprint

# Hashes of a definition's parts, by part: OPTIONS, and each index's name.
Parts = Mapping[str, str]
OPTIONS = "options"
INDEX = "index "
# Options that a dump's restore may set otherwise, or that only former versions accepted.
INDEX_LEFT_OUT = ("v", "ns", "background", "safe", "dropDups")
OPTIONS_LEFT_OUT = ("temp", "autoIndexId", "flags")


def options_of(client: Any, name: str) -> dict[str, Any]:
    database, title = name.split(".", 1)
    (shown,) = client[database].list_collections(filter={"name": title})
    return dict(shown.get("options", {}))


def indexed(specification: dict[str, Any], collated: bool) -> dict[str, Any]:
    """Pure: how an index is made again that a server lists so. collated: whether its collection has a collation."""
    specification.pop("ns", None)
    if collated and "collation" not in specification:
        # Listed without one, it compares bytes; made without one, it would inherit the collection's.
        specification["collation"] = {"locale": "simple"}
    return specification


def _digest(parts: Mapping[str, Any], left_out: tuple[str, ...]) -> str:
    """The hash of what a server lists: in the order of names at the top, as it is below, where order may matter."""
    from bson import json_util  # noqa: PLC0415 - the session that receives does without

    known = {name: _plain(value) for name, value in sorted(parts.items()) if name not in left_out}
    return hashlib.sha256(json_util.dumps(known).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """The same with whole numbers of one type: 1.0 is 1, as a shell writes one or the other."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def take(client: Any) -> dict[str, Parts]:
    """Definitions by namespace, those of views and time series among them. Raises pymongo's errors."""
    found: dict[str, Parts] = {}
    for name in client.list_database_names():
        for shown in client[name].list_collections() if name not in fingerprint.SYSTEM_DATABASES else ():
            title, kind = shown["name"], shown.get("type", "collection")
            if fingerprint.internal(title):
                continue
            parts = {OPTIONS: _digest({**shown.get("options", {}), "type": kind}, OPTIONS_LEFT_OUT)}
            for one in client[name][title].list_indexes() if kind == "collection" else ():
                parts[INDEX + one["name"]] = _digest(one, INDEX_LEFT_OUT)
            found[f"{name}.{title}"] = parts
    return found


def stable(before: Mapping[str, Parts], after: Mapping[str, Parts], held: Container[str]) -> dict[str, Parts]:
    """Pure: what was the same before and after a dump, and is taken for its definition at the dump's moment.

    held: the collections of that moment. One that was dropped and made again alike, before and after it, is none.
    """
    return {
        name: parts
        for name, parts in after.items()
        if before.get(name) == parts and (name in held or not any(part.startswith(INDEX) for part in parts))
    }


def differences(wanted: Mapping[str, Parts], seen: Mapping[str, Parts], indexes: bool = True) -> list[str]:
    """Pure: definitions that differ from the wanted ones, one sentence each. indexes: whether theirs are compared.

    A collection or an index that is missing is found by its fingerprint, a view here.
    """
    found = []
    for name, parts in wanted.items():
        there = seen.get(name)
        if there is None:
            found.append(f"{name} is not defined")
            continue
        if parts[OPTIONS] != there[OPTIONS]:
            found.append(f"{name} has other options, or is a view with another definition")
        found += [
            f"{name} has another definition of the {part}"
            for part in sorted(set(parts) & set(there))
            if indexes and part.startswith(INDEX) and parts[part] != there[part]
        ]
    return found
