"""The members of a replica set, as the inventory names them and as its configuration has them."""

from phoenix.database.replica_set import configured_members


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
