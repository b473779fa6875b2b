"""What restores set aside, or brought beside live collections: listed, put back, or dropped."""

from __future__ import annotations

import contextlib
from typing import Any

from phoenix.backup import exchange
from phoenix.backup.fingerprint import SYSTEM_DATABASES
from phoenix.backup.order import Order, Refused, alone, connect
from phoenix.backup.store import Store


def lines(client: Any) -> list[str]:
    """Collections that are set aside, and those restored beside live ones, in lines."""
    return [
        f"set aside as {stamp}: {', '.join(f'{database}.{title}' for database, title in held)}"
        for stamp, held in exchange.kept(client, SYSTEM_DATABASES).items()
    ] + [
        f"restored beside as {stamp}: {', '.join(names)}"
        for stamp, names in exchange.stayed(client, SYSTEM_DATABASES).items()
    ]


def show(store: Store, order: Order) -> str:
    """Collections that restores have set aside, in lines."""
    with contextlib.closing(connect(store, order)) as client:
        return "\n".join(lines(client)) or "nothing is set aside"


def put_back(store: Store, order: Order) -> str:
    """Put back what was set aside; the collections it replaces are set aside in turn. Raises Refused, Mixed."""
    with alone(store), contextlib.closing(connect(store, order)) as client:
        held = _held(client, order.aside)
        stamp = exchange.fresh_stamp()
        try:
            exchange.put_back(client, order.aside, held, stamp)
        except exchange.Undone as error:
            raise Refused(f"{error}; the live data is as it was") from error
        return "\n".join([f"put back {database}.{title}" for database, title in held] + lines(client))


def drop(store: Store, order: Order) -> str:
    """Drop what was set aside, or restored beside, under one stamp. Raises Refused."""
    with contextlib.closing(connect(store, order)) as client:
        if order.aside not in exchange.stayed(client, SYSTEM_DATABASES):
            _held(client, order.aside)
        prefixes = exchange.aside(order.aside, ""), exchange.restored(order.aside, "")
        gone = exchange.drop(client, lambda title: title.startswith(prefixes), SYSTEM_DATABASES)
    return "\n".join(f"dropped {name}" for name in gone)


def _held(client: Any, stamp: str) -> list[tuple[str, str]]:
    """Collections that are set aside under a stamp. Raises Refused."""
    if not exchange.STAMP.fullmatch(stamp):
        raise Refused(f"{stamp!r} is not a stamp of what was set aside, such as 20261124T013112Z")
    held = exchange.kept(client, SYSTEM_DATABASES)
    if stamp not in held:
        raise Refused(f"nothing is set aside as {stamp}; there is: {', '.join(held) or 'nothing'}")
    return held[stamp]
