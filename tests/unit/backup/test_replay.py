"""What of the oplog is applied to the scratch server, and how."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import Int64, Timestamp
from bson.raw_bson import RawBSONDocument

from phoenix.backup.archive import Moment
from phoenix.backup.oplog.replay import BATCH, Replay, Unreplayable, replay
from phoenix.backup.scope import EVERYTHING, Scope

SINCE = (100, 5)


class Scratch:
    """Records what is applied: each call's changes, by their _id or command, and what is dropped."""

    def __init__(self) -> None:
        self.admin, self.calls = self, []  # type: ignore[var-annotated]
        self.views: list[str] = []

    def command(self, verb: str, operations: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        if verb != "applyOps":
            self.calls.append([verb, operations, more])
            return {}
        assert more == {"bypassDocumentValidation": True}
        self.calls.append([dict(one["o"]).get("_id", dict(one["o"])) for one in operations])
        self.views += [one["o"]["create"] for one in operations if "create" in one["o"]]
        return {"results": [True] * len(operations)}

    def __getitem__(self, database: str) -> Scratch:
        return self

    def list_collection_names(self, filter: dict[str, str]) -> list[str]:
        return [name for name in self.views if name == filter["name"]]

    def drop_collection(self, title: str) -> None:
        self.calls.append(["drop", title])


def change(key: int, name: str = "app.items", **more: Any) -> dict[str, Any]:
    return {"op": "i", "ns": name, "o": {"_id": key}, **more}


def part(ordinal: int, before: int, changes: list[dict[str, Any]], number: int = 1, **more: Any) -> dict[str, Any]:
    """An entry of a transaction; before: the ordinal of the one before it, 0 for the first."""
    previous = Timestamp(SINCE[0], before) if before else Timestamp(0, 0)
    return {
        "op": "c",
        "ns": "admin.$cmd",
        "o": {"applyOps": changes, **more},
        "ts": Timestamp(SINCE[0], ordinal),
        "lsid": {"id": b"s"},
        "txnNumber": Int64(number),
        "prevOpTime": {"ts": previous, "t": Int64(1)},
    }


def run(*entries: dict[str, Any], scope: Scope = EVERYTHING) -> list[Any]:
    scratch = Scratch()

    def feed() -> Any:
        for number, one in enumerate(entries):
            stamp: Timestamp = one.get("ts", Timestamp(SINCE[0] + 1, number + 1))
            moment: Moment = (stamp.time, stamp.inc)
            yield moment, bson.encode({**one, "ts": stamp})

    replay(scratch, feed(), SINCE, scope)
    return scratch.calls


def test_what_the_dump_has_and_what_is_no_data_is_left_out() -> None:
    assert run(change(1, ts=Timestamp(100, 5)), change(2, ts=Timestamp(100, 6))) == [[2]]
    others = [change(1, name) for name in ("config.transactions", "admin.system.users", "local.x")]
    assert run(*others, {"op": "n", "ns": "", "o": {"msg": "periodic noop"}}) == []
    for verb in ("startIndexBuild", "abortIndexBuild", "dbCheck"):
        assert run({"op": "c", "ns": "app.$cmd", "o": {verb: "items"}}) == []


def test_changes_are_applied_together_and_commands_in_their_place() -> None:
    drop = {"op": "c", "ns": "app.$cmd", "o": {"drop": "items"}}
    assert run(change(1), change(2), drop, change(3)) == [[1, 2], [{"drop": "items"}], [3]]
    view = change(8, "app.system.views")
    assert run(change(1), view, change(2)) == [[1], [8], [2]]
    calls = run(*[change(number) for number in range(BATCH + 1)])
    assert [len(call) for call in calls] == [BATCH, 1]


def test_a_rename_drops_its_target_by_name() -> None:
    for target in (b"0" * 16, True, False):
        order = {"renameCollection": "app.a", "to": "app.b", "stayTemp": False, "dropTarget": target}
        assert run({"op": "c", "ns": "app.$cmd", "o": order}) == [
            ["renameCollection", "app.a", {"to": "app.b", "dropTarget": bool(target)}]
        ]


def test_a_transaction_is_applied_when_it_ends() -> None:
    one = part(6, 0, [change(1), change(2)], partialTxn=True)
    other = part(7, 0, [change(9)], number=2)
    end = part(8, 6, [change(3)])
    assert run(one, other, change(5, ts=Timestamp(100, 9)), end) == [[9, 5, 1, 2, 3]]
    assert run(one, other) == [[9]], "it never ended"


def test_a_transaction_across_the_dumps_moment_is_applied_whole() -> None:
    """The dump has nothing of it, as it ended later; and nothing of one that ended before is applied again."""
    straddling = [part(4, 0, [change(1)], partialTxn=True), part(6, 4, [change(2)])]
    before = [part(2, 0, [change(8)], number=2, partialTxn=True), part(3, 2, [change(9)], number=2)]
    assert run(*before, *straddling) == [[1, 2]]
    with pytest.raises(Unreplayable, match="began before"):
        run(straddling[1])
    assert run(part(5, 4, [change(2)])) == [], "it was whole before the moment"


def test_of_one_collection_the_rest_is_not_applied() -> None:
    scope = Scope.of("app.items")
    mixed = part(6, 0, [change(1), change(2, "app.other"), change(3)])
    assert run(mixed, change(4, "app.other"), change(5), scope=scope) == [[1, 3, 5]]
    away = {"op": "c", "ns": "app.$cmd", "o": {"renameCollection": "app.items", "to": "app.old"}}
    foreign = {"op": "c", "ns": "app.$cmd", "o": {"renameCollection": "app.x", "to": "app.y"}}
    assert run(change(1), away, foreign, scope=scope) == [[1], ["drop", "items"]]
    with pytest.raises(Unreplayable, match="the command reshard is unknown"):
        run({"op": "c", "ns": "app.$cmd", "o": {"reshard": "items"}}, scope=scope)


def test_a_time_series_made_since_has_a_place_for_its_view() -> None:
    """That place is made for another view, or is in the dump with another: neither is in the scope."""
    made = [
        {"op": "c", "ns": "app.$cmd", "o": {"create": title}} for title in ("system.views", "system.buckets.metrics")
    ]
    views = [
        {"op": "i", "ns": "app.system.views", "o": {"_id": f"app.{title}"}} for title in ("shown", "metrics", "metrics")
    ]
    scoped = [[{"create": "system.buckets.metrics"}], [{"create": "system.views"}], ["app.metrics"], ["app.metrics"]]
    assert run(*made, *views, scope=Scope.of("app.metrics")) == scoped
    assert run(*made[1:], views[1]) == [[{"create": "system.buckets.metrics"}], ["app.metrics"]], "the dump has it"


def test_what_can_not_be_replayed_is_named() -> None:
    with pytest.raises(Unreplayable, match="prepared"):
        run(part(6, 0, [change(1)], prepare=True))
    with pytest.raises(Unreplayable, match="the command reshard is unknown"):
        run({"op": "c", "ns": "app.$cmd", "o": {"reshard": "items"}})
    large = {"op": "u", "ns": "app.items", "o": {"$v": 2, "diff": {"u": {"x": "x" * 13 * 1024 * 1024}}}}
    with pytest.raises(Unreplayable, match=r"a change of \d+ bytes in app\.items"):
        run(large)

    class Refusing(Scratch):
        def command(self, verb: str, operations: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
            return {"results": [False]}

    broken = Replay(Refusing(), SINCE, Scope())
    broken.feed((101, 1), RawBSONDocument(bson.encode(change(1))).raw)
    with pytest.raises(Unreplayable, match="did not apply"):
        broken.finish()
