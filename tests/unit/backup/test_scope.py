"""What one collection or database needs of the oplog, and of nothing else."""

from __future__ import annotations

from typing import Any

import bson
import pytest

from phoenix.backup.scope import Scope

ASIDE = "phoenix_aside.20261124T010000Z.items"


def command(**order: Any) -> dict[str, Any]:
    return {"op": "c", "ns": "app.$cmd", "o": order}


def rename(old: str, new: str) -> bytes:
    return bytes(bson.encode(command(renameCollection=f"app.{old}", to=f"app.{new}")))


def entries(*listed: bytes) -> list[tuple[tuple[int, int], bytes]]:
    return [((1, number), one) for number, one in enumerate(listed)]


def test_a_scope_is_everything_a_database_or_a_collection() -> None:
    for name in ("app.items", "app.system.buckets.items", f"app.{ASIDE}", "other.items"):
        assert Scope().holds(name)
    assert Scope.of("") == Scope()
    database, one = Scope.of("app"), Scope.of("app.items")
    assert database.holds("app.items") and database.holds("app.system.js") and not database.holds("apps.items")
    assert not database.holds(f"app.{ASIDE}") and not database.holds("app.phoenix_restoring.items")
    assert one.holds("app.items") and one.holds("app.system.buckets.items")
    assert not one.holds("app.item") and not one.holds("app.items.more") and not one.holds("items")


def test_renames_are_followed_to_where_they_began() -> None:
    since = entries(rename("a", "b"), rename("b", "items"), rename("items", "old"), rename("x", "y"))
    assert Scope.of("app.items").followed(since).names == {"app.items", "app.a", "app.b"}
    # What a restore did: the copies took the place, and what was put back comes from aside.
    restored = entries(rename("items", ASIDE), rename("phoenix_restoring.items", "items"))
    assert Scope.of("app").followed(restored).names == {"app", "app.phoenix_restoring.items"}
    assert f"app.{ASIDE}" in Scope.of("app.items").followed(entries(rename(ASIDE, "items"))).names
    assert Scope().followed(since) == Scope()
    text = bson.encode({"op": "i", "ns": "app.x", "o": {"renameCollection": "app.q", "to": "app.items"}})
    assert Scope.of("app.items").followed(entries(text)).names == {"app.items"}, "a document, not a rename"


@pytest.mark.parametrize(
    ("change", "held"),
    [
        ({"op": "i", "ns": "app.items", "o": {"_id": 1}}, True),
        ({"op": "i", "ns": "app.other", "o": {"_id": 1}}, False),
        ({"op": "u", "ns": "app.system.buckets.items", "o": {}, "o2": {"_id": 1}}, True),
        ({"op": "i", "ns": "app.system.views", "o": {"_id": "app.items"}}, True),
        ({"op": "u", "ns": "app.system.views", "o": {"$v": 2}, "o2": {"_id": "app.shown"}}, False),
        ({"op": "n", "ns": "", "o": {"msg": "periodic noop"}}, True),
        (command(create="items"), True),
        (command(create="system.buckets.items"), True),
        (command(create="other"), False),
        (command(commitIndexBuild="other", indexes=[]), False),
        (command(dropDatabase=1), True),
        ({**command(dropDatabase=1), "ns": "other.$cmd"}, False),
        (command(renameCollection="app.items", to="app.old"), True),
        (command(renameCollection="app.old", to="app.other"), False),
        (command(commitTransaction=1), True),
    ],
)
def test_what_concerns_one_collection(change: dict[str, Any], held: bool) -> None:
    assert Scope.of("app.items").part(change) == (change if held else None)
    assert Scope().part(change) is change


def test_of_a_transaction_a_part_is_left() -> None:
    wanted, other = ({"op": "i", "ns": f"app.{title}", "o": {"_id": 1}} for title in ("items", "other"))
    scope = Scope.of("app.items")
    mixed = scope.part(command(applyOps=[wanted, other], partialTxn=True))
    assert mixed and mixed["o"] == {"applyOps": [wanted], "partialTxn": True}
    alone = command(applyOps=[wanted])
    assert scope.part(alone) is alone
    none = scope.part(command(applyOps=[other]))
    assert none and none["o"] == {"applyOps": []}, "the entries of a transaction name each other"
