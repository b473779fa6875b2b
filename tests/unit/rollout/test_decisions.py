"""What a roll-out goes by: which release, which hosts, and what is left out of rotation when it fails."""

from __future__ import annotations

import json
from typing import Any

import pytest

from phoenix.rollout import decisions, order, plan, reach

HOSTS: list[dict[str, Any]] = [
    {"name": "app1", "address": "192.0.2.21", "ports": [3000]},
    {"name": "app2", "address": "192.0.2.22", "ports": [3000]},
    {"name": "app3", "address": "192.0.2.23", "ports": []},
]
CANARY = {"parts": [{"host": "app1", "ports": [3000]}], "servers": ["192.0.2.21:3000"]}
NOTHING: dict[str, Any] = {"canary": None, "steps": [], "already": ["192.0.2.22:3000"], "others": [], "neighbours": {}}


def status(*kept: str, current: str = "a") -> dict[str, Any]:
    return {"configuration": "c", "current": current, "kept": list(kept), "instances": []}


@pytest.mark.parametrize(
    ("what", "named", "recorded", "previous", "expected"),
    [
        ("deploy", "b", "a", "", "b"),
        ("rollback", "", "b", "a", "a"),
        ("rollback", "c", "b", "a", "c"),
        ("rollback", "", "b", "", ""),
        ("roll", "", "a", "", "a"),
        ("roll", "b", "a", "", "a"),
    ],
)
def test_which_release_is_meant(what: str, named: str, recorded: str, previous: str, expected: str) -> None:
    assert decisions.target(what, named, recorded, previous) == expected


@pytest.mark.parametrize(
    ("what", "release", "prepared", "due"),
    [
        ("deploy", "c", "no", True),
        ("deploy", "c", "yes", False),  # carried out in a deploy that failed later
        ("deploy", "b", "no", False),  # it served, on some host at least
        ("rollback", "c", "no", False),
        ("roll", "c", "no", False),
    ],
)
def test_a_release_is_prepared_once_before_it_serves(what: str, release: str, prepared: str, due: bool) -> None:
    seen = {"app1": status("a", "b"), "app2": status("a")}
    assert decisions.command_due(what, seen, release, prepared) == due


def test_a_release_can_be_rolled_back_to_where_every_host_keeps_it() -> None:
    seen = {"app1": status("a", "b", "c"), "app2": status("b", "c")}
    assert decisions.common_releases(seen) == ["b", "c"]
    assert decisions.rollback_refusal(seen, "b") == ""
    refusal = decisions.rollback_refusal(seen, "a")
    assert "did not serve on app2" in refusal and "Kept everywhere: b, c." in refusal
    assert "(none)" in decisions.rollback_refusal(seen, "")
    for host, own in {"app1": "a1", "app2": "b2"}.items():
        seen[host]["checksums"] = {"b": f"sha256:{own * 32}"}
    assert "sha256:a1a1a1a1a1a1… on app1, sha256:b2b2b2b2b2b2… on app2" in decisions.rollback_refusal(seen, "b")
    seen["app2"]["checksums"] = {}  # unpacked by an earlier version
    assert decisions.rollback_refusal(seen, "b") == ""
    assert decisions.unserved(seen, "a") == ["app2"]
    assert decisions.common_releases({}) == []


@pytest.mark.parametrize(
    ("found", "seen", "release", "recorded", "expected"),
    [
        (NOTHING, {"app1": status(current="a")}, "a", "a", False),
        (NOTHING, {"app1": status(current="old")}, "a", "a", True),
        (NOTHING, {"app1": status(current="a")}, "a", "b", True),
        ({**NOTHING, "canary": CANARY}, {"app1": status(current="a")}, "a", "a", True),
        ({**NOTHING, "steps": [CANARY]}, {"app1": status(current="a")}, "a", "a", True),
        ({**NOTHING, "canary": CANARY}, {"app1": status(current="")}, "", "", False),
    ],
)
def test_whether_anything_is_to_be_done(
    found: dict[str, Any], seen: dict[str, Any], release: str, recorded: str, expected: bool
) -> None:
    assert decisions.needed(found, seen, release, recorded, {"app1": "c"}) is expected


def test_a_configuration_is_needed_where_it_is_not_the_accepted_one() -> None:
    """Also on a standby host, which new instances go to."""
    seen = {"app1": status(current="a"), "app3": status(current="a")}
    assert not decisions.needed(NOTHING, seen, "a", "a", {"app1": "c"})
    assert decisions.needed(NOTHING, seen, "a", "a", {"app1": "c", "app3": "d"})


def test_there_is_a_way_back_only_from_another_configuration_than_the_recorded_one() -> None:
    assert not decisions.changed({"app1": "c"}, {"app1": "c"})
    assert not decisions.changed({"app1": "c"}, {})
    assert decisions.changed({"app1": "c", "app2": "d"}, {"app1": "c", "app2": "c"})


@pytest.mark.parametrize(
    ("former", "wanted", "reached", "app2"),
    [
        ({"app1": "c", "app2": "c"}, {"app1": "d", "app2": "d"}, ["app1"], "d"),
        ({"app1": "c", "app2": "c"}, {"app1": "d"}, ["app1"], "d"),
        # A configuration of its own, which nobody else could give it.
        ({"app1": "c", "app2": "own"}, {"app1": "d", "app2": "e"}, ["app1"], "own"),
        # It was one among others whose settings differ now.
        ({"app1": "c", "app2": "c", "app3": "c"}, {"app1": "d", "app3": "e"}, ["app1", "app3"], "c"),
        ({"app1": "c", "app2": "c", "app3": "c"}, {"app1": "d"}, ["app1", "app3"], "c"),
        ({"app1": "c", "app2": "c"}, {"app1": "d", "app2": "d"}, [], "c"),
    ],
)
def test_a_host_that_was_not_reached_is_to_get_what_all_have_that_shared_its_configuration(
    former: dict[str, str], wanted: dict[str, str], reached: list[str], app2: str
) -> None:
    results = [{"item": host, "rc": 0} for host in reached] + [{"item": "app2", "unreachable": True}]
    assert decisions.accepted(former, wanted, results)["app2"] == app2


def test_a_new_host_is_recorded_with_what_it_got() -> None:
    assert decisions.accepted({"app1": "c"}, {"app4": "d"}, [{"item": "app4", "rc": 0}]) == {"app1": "c", "app4": "d"}


def test_the_announcement_names_each_step_and_who_is_left_out() -> None:
    found = {
        **NOTHING,
        "canary": CANARY,
        "steps": [{"parts": [{"host": "app2", "ports": [3000, 3001]}], "servers": []}],
    }
    assert decisions.announcement(found, "b", "a", True, ["app3"]) == [
        "From a to b",
        "left out, does not answer: app3",
        "canary: app1 3000",
        "app2 3000, 3001",
    ]
    said = decisions.announcement(NOTHING, "b", "a", True, ["app3", "app2"], {"app2": "read-only"})
    assert said[1:] == ["left out, does not answer: app3", "left out, can't report its instances: app2 (read-only)"]
    assert decisions.announcement(NOTHING, "a", "", False, []) == ["From nothing to a: nothing to do"]
    assert order.back(found) == [CANARY, *found["steps"]]


def test_a_killed_roll_outs_instances_are_judged_with_the_canary_of_the_next() -> None:
    found = {**NOTHING, "canary": CANARY}
    assert decisions.canaries(found, True) == ["192.0.2.21:3000", "192.0.2.22:3000"]
    assert decisions.canaries(found, False) == ["192.0.2.21:3000"]


@pytest.mark.parametrize(
    ("stuck", "before", "out"),
    [
        (["x", "y"], ["x"], ["x"]),
        (["x", "y"], ["x", "z"], ["x", "y"]),
        ([], ["x"], []),
        (["y"], [], []),
    ],
)
def test_a_way_back_leaves_no_more_servers_out_than_before(stuck: list[str], before: list[str], out: list[str]) -> None:
    assert decisions.capped(stuck, before) == out


def test_only_servers_of_silent_hosts_stay_out_of_rotation_after_a_good_roll() -> None:
    drained = ["192.0.2.21:3001", "192.0.2.22:3001", "192.0.2.2:3000"]
    assert decisions.silent(HOSTS, ["app2", "app3"], drained) == ["192.0.2.22:3000", "192.0.2.22:3001"]
    assert decisions.silent(HOSTS, [], drained) == []


def test_the_spares_of_a_silent_host_stay_out_as_its_ordinary_instances_do() -> None:
    """They would answer failed requests with what the host had before it was lost. A standby host has none."""
    assert decisions.silent(HOSTS, ["app2", "app3"], last_ports=[3950, 3900]) == [
        "192.0.2.22:3000",
        "192.0.2.22:3950",
        "192.0.2.22:3900",
    ]


def test_a_fleet_of_silent_hosts_keeps_its_servers_in_rotation() -> None:
    """With all of them out, whatever returns would serve nobody until the next play."""
    assert decisions.silent(HOSTS, ["app1", "app2"], ["192.0.2.21:3000"], [3900]) == []


def test_what_is_out_of_rotation_and_runs_nowhere_is_returned_as_well() -> None:
    seen = {"app1": status("a"), "app2": status("a")}
    assert not decisions.needed(NOTHING, seen, "a", "a", {})
    assert decisions.needed(NOTHING, seen, "a", "a", {}, returning=["192.0.2.99:3000"])


def test_a_standby_host_that_was_away_keeps_nobody_from_going_back() -> None:
    seen = {"app1": {**status("a"), "releases": ["a"]}, "app3": {**status(), "releases": []}}
    assert decisions.rollback_refusal(decisions.placed(seen, HOSTS), "a") == ""
    assert decisions.holding(seen, "a") == ["app1"]
    running = {**status(), "instances": [{"active": True}]}
    assert "app3" in decisions.rollback_refusal(decisions.placed({**seen, "app3": running}, HOSTS), "a")


@pytest.mark.parametrize(
    ("elsewhere", "recorded", "stuck", "end"),
    [
        (True, "a", [], "no answer. The fleet is back on a."),
        (True, "a", ["x"], "Not back in order: x. Check the instances there, then run the play again."),
        (False, "a", [], "The instances that were not switched yet run as before; fix it, then run the play again."),
        (True, "", [], "The instances that were not switched yet run as before; fix it, then run the play again."),
    ],
)
def test_how_a_failure_is_reported(elsewhere: bool, recorded: str, stuck: list[str], end: str) -> None:
    assert decisions.ending("no answer", elsewhere, recorded, stuck).endswith(end)
    assert decisions.result(stuck, elsewhere, recorded) == ("rolled back" if "is back" in end else "failed")
    assert "do not answer: app3." in decisions.ending("no answer.", elsewhere, recorded, stuck, ["app3"])
    both = decisions.ending("no.", elsewhere, recorded, stuck, ["app3", "app2"], {"app2": "read-only"})
    assert "do not answer: app3. Left out, for they can't report their instances: app2 (read-only)." in both


# --- hosts that do not answer


@pytest.mark.parametrize(
    ("wanted", "without", "share", "good"),
    [
        (["app1", "app2"], [], 0.5, True),
        (["app1", "app2"], ["app3"], 1, True),  # an empty standby never counts
        (["app1", "app2"], ["app1"], 0.5, True),
        (["app1", "app2", "app4"], ["app1", "app2"], 0.5, False),
        (["app1", "app2"], ["app1"], 1, False),
        (["app1", "app2"], ["app1", "app2"], 0, False),
        (["lb1"], ["lb1"], 0.5, False),
        (["app1", "app2", "app4"], ["app1", "app2"], 0, True),
        ([], ["app3"], 0.5, True),
    ],
)
def test_who_has_to_answer(wanted: list[str], without: list[str], share: float, good: bool) -> None:
    refusal = reach.refusal(wanted, without, share)
    assert (refusal == "") is good
    assert good or all(host in refusal for host in without)


def test_a_host_that_answers_and_is_broken_is_named_with_the_reason() -> None:
    results: list[dict[str, Any]] = [
        {"item": "app1", "rc": 0, "stdout": '{"a": 1}'},
        {"item": "app2", "rc": 1, "stdout": "", "stderr": "Traceback:\n  File x\nOSError: [Errno 30] Read-only\n"},
        {"item": "app3", "unreachable": True, "msg": "No route to host"},
        {"item": "app4", "msg": "no shell"},
        {"item": "app5", "rc": 137, "stdout": "{"},
    ]
    broken = {"app2": "OSError: [Errno 30] Read-only", "app4": "no shell", "app5": "exit status 137"}
    assert reach.broken(results) == broken
    assert reach.answers(results) == {"app1": {"a": 1}}
    refusal = reach.refusal(["app1", "app2", "app3"], ["app2", "app3"], 0.5, broken)
    assert refusal.startswith(
        "app3 can't be reached by SSH; app2 answers, but can't report its instances (OSError: [Errno 30] Read-only): "
        "1 of 3 hosts are too few"
    )


def test_hosts_that_are_left_out_stay_left_out() -> None:
    results: list[dict[str, Any]] = [{"item": "app1", "stdout": '{"a": 1}'}, {"item": "app2", "unreachable": True}]
    assert reach.lost(results, ["app3"]) == ["app3", "app2"]
    assert reach.answers(results) == {"app1": {"a": 1}}
    assert reach.left(["app1", "app2"], ["app2"]) == ["app1"]
    assert [host["name"] for host in reach.left(HOSTS, ["app2"])] == ["app1", "app3"]
    assert reach.wanted(HOSTS) == ["app1", "app2"]
    assert reach.options(["x", "y"], "--down") == ["--down", "x", "--down", "y"]
    assert reach.changes({"stdout": '{"changed": [{"action": "start", "port": 1}]}'}) == [
        {"action": "start", "port": 1}
    ]
    assert reach.changes({"unreachable": True}) == reach.changes({"stdout": "skipped, since"}) == []


# --- out of rotation, and the verdict out of results


@pytest.mark.parametrize(
    ("down", "expected"),
    [
        (["192.0.2.21:3000"], ["192.0.2.22:3000", "192.0.2.22:3900"]),
        ([], ["192.0.2.22:3000", "192.0.2.22:3900"]),
        # Nothing else would be in rotation: it may answer after all, and its spare must not be asked before another.
        (["192.0.2.21:3000", "192.0.2.23:3000"], ["192.0.2.22:3900"]),
        (["192.0.2.22:3000"], ["192.0.2.22:3900"]),
    ],
)
def test_servers_of_silent_hosts_are_out_as_long_as_another_one_is_not(down: list[str], expected: list[str]) -> None:
    hosts = [{"name": f"app{n}", "address": f"192.0.2.2{n}", "ports": [3000]} for n in (1, 2, 3)]
    silent = decisions.silent(hosts, ["app2"], [], [3900])
    assert order.also_down(down, silent, hosts) == expected


def test_a_drained_server_comes_first_and_is_switched_though_it_runs_the_release() -> None:
    seen = {
        "app1": {"instances": [{"port": 3000, "active": True, "release": "a", "stale": False}]},
        "app2": {"instances": [{"port": 3000, "active": True, "release": "a", "stale": False}]},
    }
    assert plan.plan(seen, HOSTS, "a")["canary"] is None
    found = plan.plan(seen, HOSTS, "a", drained=["192.0.2.22:3000"])
    assert found["canary"]["servers"] == ["192.0.2.22:3000"]
    found = plan.plan(seen, HOSTS, "b", drained=["192.0.2.22:3000"])
    assert found["canary"]["servers"] == ["192.0.2.22:3000"]
    assert [step["servers"] for step in found["steps"]] == [["192.0.2.21:3000"]]


def test_a_verdict_out_of_results() -> None:
    seen = {"servers": {"c": {"requests": 100, "errors": 50, "kinds": {}}}}
    traffic: list[dict[str, Any]] = [{"stdout": json.dumps(seen)}, {"skipped": True}]
    memory = {"stdout": json.dumps({"3000": {"samples": [[0, 400.0]], "ended": 2, "max_mb": 0}})}
    others: list[dict[str, Any]] = [
        {"stdout": json.dumps({"3001": {"samples": [[0, 60.0], [1, 50.0]]}, "3002": {"samples": []}})},
        {"unreachable": True},
    ]
    assert len(plan.verdict(traffic, ["c"], [], {})["faults"]) == 1
    faults = plan.verdict(traffic, ["c"], [], {}, memory, others)["faults"]
    assert any("ended 2 times" in fault for fault in faults)
    assert any("the others: 50 MB at most" in fault for fault in faults)


def test_each_path_is_rehearsed_once() -> None:
    asked = {"path": "/", "host": "a"}
    results: list[dict[str, Any]] = [
        {"stdout": json.dumps([asked])},
        {"stdout": json.dumps([asked, {"path": "/b", "host": "a"}])},
        {"unreachable": True},
    ]
    assert plan.rehearsal(results) == [asked, {"path": "/b", "host": "a"}]


def test_a_path_that_is_slow_on_any_load_balancer_is_not_rehearsed_and_is_given_the_longest_time() -> None:
    fast, slow = {"path": "/", "host": "a"}, {"path": "/report", "host": "a"}
    results = [
        {"stdout": json.dumps([fast, slow])},
        {"stdout": json.dumps([fast, {**slow, "seconds": 1.5}])},
        {"stdout": json.dumps([fast, {**slow, "seconds": 2.5}, {**slow, "host": "b", "seconds": 30.0}])},
    ]
    assert plan.rehearsal(results) == [fast]
    assert plan.slow(results) == [{**slow, "seconds": 2.5}, {**slow, "host": "b", "seconds": 30.0}]
