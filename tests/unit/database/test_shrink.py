"""Which sets may go on without their lost members, and with which configuration."""

from __future__ import annotations

from typing import Any

import pytest

from phoenix.database import reconfigure


def config(**votes: int) -> dict[str, Any]:
    members = [{"_id": n, "host": host, "votes": one, "priority": one} for n, (host, one) in enumerate(votes.items())]
    return {"_id": "phoenix", "version": 7, "term": 3, "members": members, "settings": {"electionTimeoutMillis": 2000}}


THREE = config(a=1, b=1, c=1)
ALONE = {"a": "SECONDARY", "b": "silent", "c": "silent"}


def test_what_is_left_is_the_set() -> None:
    wanted = reconfigure.shrunken(THREE, ALONE, ["b", "c"])
    assert wanted == {**THREE, "version": 8, "members": THREE["members"][:1]}


def test_one_without_a_vote_gets_one_where_no_other_is_left() -> None:
    (member,) = reconfigure.shrunken(config(a=0, b=1, c=1), ALONE, ["b", "c"])["members"]
    assert (member["_id"], member["votes"], member["priority"]) == (0, 1, 1)


@pytest.mark.parametrize(
    ("roles", "lost", "reason"),
    [
        ({**ALONE, "b": "PRIMARY"}, ["c"], "b is primary, so the set serves"),
        ({**ALONE, "b": "SECONDARY"}, ["c"], "a, b are a majority"),
        ({**ALONE, "c": "NOT READY"}, ["b", "c"], "c answers, and would go on in the former set"),
        (ALONE, ["b"], "c does not answer either"),
        (ALONE, ["b", "c", "d"], "d is no member of the set, which has a, b, c"),
    ],
)
def test_anything_else_is_refused(roles: dict[str, str], lost: list[str], reason: str) -> None:
    with pytest.raises(reconfigure.Refused, match=reason):
        reconfigure.shrunken(THREE, roles, lost)
