"""How a collection and its indexes are made again that a server lists so."""

from __future__ import annotations

from typing import Any


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
