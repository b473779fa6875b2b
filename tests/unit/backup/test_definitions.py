"""How definitions are compared: what differs is named, and what a restore may write otherwise does not differ."""

from __future__ import annotations

from typing import Any

from phoenix.backup import definitions


class Client:
    """What of a server is asked: its databases, and each one's collections with their indexes."""

    def __init__(self, **databases: list[dict[str, Any]]) -> None:
        self._databases = databases

    def list_database_names(self) -> list[str]:
        return list(self._databases)

    def __getitem__(self, name: str) -> Database:
        return Database(self._databases[name])


class Database:
    def __init__(self, shown: list[dict[str, Any]]) -> None:
        self._shown = shown

    def list_collections(self) -> list[dict[str, Any]]:
        return self._shown

    def __getitem__(self, title: str) -> Any:
        (found,) = (one for one in self._shown if one["name"] == title)
        return type("Listed", (), {"list_indexes": lambda _: found["indexes"]})()


def listed(options: dict[str, Any], *indexes: dict[str, Any], kind: str = "collection") -> dict[str, definitions.Parts]:
    shown = {"name": "a", "type": kind, "options": options, "indexes": list(indexes)}
    return definitions.take(Client(app=[shown, {"name": "system.views"}], admin=[{"name": "x"}]))


def test_what_is_defined_otherwise_is_named() -> None:
    by = {"v": 2, "key": {"a": 1, "b": 1}, "name": "by"}
    wanted = listed({"capped": True, "size": 4096}, by)
    assert definitions.differences(wanted, wanted) == []
    assert definitions.differences(wanted, {}) == ["app.a is not defined"]
    assert "app.a has other options" in definitions.differences(wanted, listed({}, by))[0]
    assert definitions.differences(wanted, listed({"capped": True, "size": 4096})) == [], "the fingerprint's matter"
    for other in ({**by, "unique": True}, {**by, "key": {"b": 1, "a": 1}}):
        seen = listed({"capped": True, "size": 4096}, other)
        assert definitions.differences(wanted, seen) == ["app.a has another definition of the index by"]
        assert definitions.differences(wanted, seen, indexes=False) == []
    view = {"viewOn": "b", "pipeline": [{"$match": {"x": 1}}]}
    other = {"viewOn": "b", "pipeline": [{"$match": {"x": 2}}]}
    assert definitions.differences(listed(view, kind="view"), listed(other, kind="view"))


def test_what_a_restore_may_write_otherwise_does_not_differ() -> None:
    member = listed({"size": 4096.0, "capped": True}, {"v": 1, "key": {"a": 1.0}, "name": "by", "dropDups": True})
    scratch = listed({"capped": True, "size": 4096}, {"name": "by", "key": {"a": 1}, "v": 2, "ns": "app.a"})
    assert definitions.differences(member, scratch) == []


def test_what_changed_during_the_dump_is_not_compared() -> None:
    before, after = {"app.a": {"options": "1"}, "app.b": {"options": "2"}}, {"app.a": {"options": "1"}}
    changed = {**after, "app.b": {"options": "3"}, "app.c": {"options": "4"}}
    assert definitions.stable(before, changed, {"app.a", "app.b"}) == after


def test_what_was_made_again_after_the_dumps_moment_is_not_asked_for() -> None:
    alike = {"app.staging": {"options": "1", "index _id_": "2"}, "app.view": {"options": "3"}}
    assert definitions.stable(alike, alike, {"app.a"}) == {"app.view": {"options": "3"}}
    assert definitions.stable(alike, alike, {"app.staging"}) == alike
