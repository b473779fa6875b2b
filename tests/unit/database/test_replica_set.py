"""The members of a replica set, as the inventory names them and as its configuration has them."""

from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from phoenix.database import replica_set
from phoenix.database.replica_set import State, behind, configured_members


def test_the_first_member_is_preferred_and_all_vote() -> None:
    assert configured_members([{"address": "192.0.2.31"}, {"address": "192.0.2.32"}], 27017) == [
        {"host": "192.0.2.31:27017", "priority": 2, "votes": 1},
        {"host": "192.0.2.32:27017", "priority": 1, "votes": 1},
    ]


def test_what_the_inventory_says_of_a_member_counts() -> None:
    members: list[dict[str, object]] = [
        {"address": "a", "priority": 1},
        {"address": "b", "priority": 0, "votes": 0},
        {"address": "c"},
    ]
    assert [(m["priority"], m["votes"]) for m in configured_members(members, 1)] == [(1, 1), (0, 0), (1, 1)]


NOW = datetime(2026, 11, 25, 12)


def test_a_member_is_behind_that_lacks_the_primarys_newest_documents_or_is_none() -> None:
    written = {"a": NOW, "b": NOW - timedelta(seconds=10), "c": NOW - timedelta(seconds=11), "d": None}
    assert behind(written, "a") == ["c", "d"]
    assert behind(written, "") == ["d"], "without a primary nobody is compared"


@pytest.mark.parametrize(
    ("state", "settled"),
    [
        (State(primary="a"), True),
        (State(), False),
        (State(primary="a", silent=["b"]), False),
        (State(primary="a", behind=["b"]), False),
    ],
)
def test_a_set_has_settled_when_any_one_member_could_leave(state: State, settled: bool) -> None:
    assert state.reaches("settled", "a") is settled


class Asked(AbstractContextManager["Asked"]):
    """A connection that gives one answer, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.closed = answer, False
        self.admin = SimpleNamespace(command=self.command)

    def command(self, _: str) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def __exit__(self, *_: object) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("answer", "role"),
    [
        ({"isWritablePrimary": True}, "PRIMARY"),
        ({"isWritablePrimary": False, "secondary": True}, "SECONDARY"),
        ({"isWritablePrimary": False, "secondary": False}, "NOT READY"),
        (OSError("refused"), "silent"),
    ],
)
def test_a_member_that_was_asked_for_its_role_is_not_asked_on(
    monkeypatch: pytest.MonkeyPatch, answer: Any, role: str
) -> None:
    """The driver of an open client goes on asking in threads of its own."""
    asked = Asked(answer)
    monkeypatch.setattr(replica_set, "client", lambda *_, **__: asked)
    assert replica_set.role("192.0.2.31", 27017) == role
    assert asked.closed
