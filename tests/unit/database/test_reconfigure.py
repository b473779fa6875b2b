"""The steps by which a replica set's configuration reaches the wanted one."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from phoenix.database import reconfigure

SETTINGS = {"electionTimeoutMillis": 2000, "heartbeatTimeoutSecs": 2}


def member(host: str, priority: float = 1, votes: int = 1) -> dict[str, Any]:
    return {"host": host, "priority": priority, "votes": votes}


def config(*members: dict[str, Any], **settings: int) -> dict[str, Any]:
    return {"_id": "phoenix", "members": [{"_id": n, **m} for n, m in enumerate(members)], "settings": settings}


def test_nothing_to_do() -> None:
    assert reconfigure.plan(config(member("a"), **SETTINGS), [member("a")], SETTINGS) == []


def test_settings_and_priorities_are_one_step() -> None:
    found = config(member("a"), member("b"), member("c"), electionTimeoutMillis=2000, heartbeatTimeoutSecs=10)
    ((what, wanted),) = reconfigure.plan(found, [member("a", 2), member("b"), member("c")], SETTINGS)
    assert what == "a: priority 2, heartbeatTimeoutSecs 2"
    assert wanted["settings"] == SETTINGS and wanted["members"][0]["priority"] == 2


def test_replacing_a_member_adds_before_it_removes() -> None:
    found = config(member("a"), member("b"), member("c"), **SETTINGS)
    steps = reconfigure.plan(found, [member("a"), member("b"), member("d")], SETTINGS)
    assert [what for what, _ in steps] == ["add d", "remove c"]
    assert [m["_id"] for m in steps[-1][1]["members"]] == [0, 1, 3]


def test_a_member_gets_its_name_and_stays_the_same() -> None:
    found = config(member("[::1]:1"), member("[::2]:1"), member("[::9]:1"), **SETTINGS)
    former = {"a:1": "[::1]:1", "b:1": "[::2]:1", "c:1": "[::3]:1"}
    steps = reconfigure.plan(found, [member(host) for host in former], SETTINGS, former)
    renamed = ["[::1]:1: known as a:1", "[::2]:1: known as b:1"]
    assert [what for what, _ in steps] == [*renamed, "add c:1", "remove [::9]:1"]
    assert [[m["host"] for m in wanted["members"]] for _, wanted in steps[:2]] == [
        ["a:1", "[::2]:1", "[::9]:1"],
        ["a:1", "b:1", "[::9]:1"],
    ]
    assert [m["_id"] for m in steps[-1][1]["members"]] == [0, 1, 3]
    assert reconfigure.plan(steps[-1][1], [member(host) for host in former], SETTINGS, former) == []


HOSTS = st.lists(
    st.builds(member, st.sampled_from("abcdefg"), st.sampled_from([1, 2, 5]), st.just(1)),
    min_size=1,
    max_size=7,
    unique_by=lambda m: m["host"],
)
OBSERVERS = st.sets(st.sampled_from("abcdefg"))


@given(HOSTS, HOSTS, OBSERVERS, OBSERVERS)
def test_one_voting_change_a_step_and_the_wanted_end(
    found: list[dict[str, Any]], wanted: list[dict[str, Any]], found_silent: set[str], wanted_silent: set[str]
) -> None:
    def mute(members: list[dict[str, Any]], silent: set[str]) -> list[dict[str, Any]]:
        return [{**m, "votes": 0, "priority": 0} if m["host"] in silent else m for m in members]

    found, wanted = mute(found, found_silent), mute(wanted, wanted_silent)
    before = config(*found)
    untouched = copy.deepcopy(before)
    steps = reconfigure.plan(before, wanted, SETTINGS)
    assert before == untouched
    now = before
    for _, after in steps:
        voters = [{m["host"] for m in c["members"] if m["votes"]} for c in (now, after)]
        assert len(voters[0] ^ voters[1]) <= 1
        assert all(m["votes"] or not m["priority"] for m in after["members"])
        now = after
    assert {m["host"]: (m["priority"], m["votes"]) for m in now["members"]} == {
        m["host"]: (m["priority"], m["votes"]) for m in wanted
    }
    assert now["settings"] == SETTINGS
