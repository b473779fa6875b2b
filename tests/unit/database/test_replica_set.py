"""The members of a replica set, as the inventory names them and as its configuration has them."""

from datetime import datetime, timedelta

import pytest

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
