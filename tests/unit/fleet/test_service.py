"""Hosts taken out of service: their order, what stands against it, and what comes back."""

from __future__ import annotations

from typing import Any

import pytest

from phoenix.fleet import service

GROUPS = {
    "lb": ["lb1", "lb2"],
    "app": ["app1", "app2", "app3"],
    "app_standby": ["app3"],
    "db": ["db1", "db2", "db3"],
    "control": ["control1"],
}
ALL = [*GROUPS["lb"], *GROUPS["app"], *GROUPS["db"], *GROUPS["control"]]
STATUSES: dict[str, dict[str, Any]] = {
    "lb1": {"floating": {"192.0.2.10": True}},
    "lb2": {"floating": {"192.0.2.10": False}},
    "app1": {"instances": ["3000", "3900"]},
    "app2": {"instances": ["3000", "3900"]},
    "app3": {"instances": ["3900"]},
    "db1": {"database": "PRIMARY"},
    "db2": {"database": "SECONDARY"},
    "db3": {"database": "SECONDARY"},
}


# --- order


def test_those_that_clients_miss_least_come_first_and_control_last() -> None:
    assert service.turns(GROUPS, STATUSES, ALL) == [
        "lb2", "lb1", "app3", "app1", "app2", "db2", "db3", "db1", "control1",
    ]  # fmt: skip


def test_the_order_of_what_the_hosts_are_given_in_does_not_matter() -> None:
    assert service.turns(GROUPS, STATUSES, ALL[::-1]) == service.turns(GROUPS, STATUSES, ALL)


def test_a_host_of_several_groups_has_its_turn_with_the_last_of_them() -> None:
    groups = {**GROUPS, "control": ["lb1"], "jenkins": ["app1"]}
    assert service.turns(groups, STATUSES, ALL[:-1])[-2:] == ["app1", "lb1"]


def test_only_hosts_on_which_something_is_due_have_a_turn() -> None:
    nothing: dict[str, Any] = {"packages": [], "reboot": ""}
    updates = dict.fromkeys(ALL, nothing) | {
        "db1": {"packages": ["libssl3"], "reboot": ""},
        "lb1": {"packages": [], "reboot": "the kernel 2 is installed, and 1 runs"},
    }
    assert service.due(GROUPS, STATUSES, updates, ["app2"], ["app1"]) == [
        {"host": "lb1", "why": "a reboot: the kernel 2 is installed, and 1 runs"},
        {"host": "app1", "why": "still out of service"},
        {"host": "app2", "why": "a reboot, as asked"},
        {"host": "db1", "why": "1 updates (libssl3)"},
    ]


def test_reboots_are_asked_for_by_name() -> None:
    assert service.reboots("needed", ALL) == []
    assert service.reboots("all", ALL) == ALL
    assert service.reboots("lb1, db2", ALL) == ["lb1", "db2"]
    with pytest.raises(ValueError, match="db9 is not a host of this run"):
        service.reboots("lb1,db9", ALL)


# --- who stands in


def test_a_host_leaves_the_services_that_others_carry_on() -> None:
    assert service.services("db2", GROUPS, False) == ["db"]
    assert service.services("control1", GROUPS, False) == []


def test_the_only_host_of_a_group_needs_the_operators_word() -> None:
    groups = {"lb": ["vm"], "app": ["vm", "app2"], "db": ["vm"], "control": ["vm"]}
    with pytest.raises(ValueError, match=r"vm is the only host of lb and db: .* phoenix_downtime=true"):
        service.services("vm", groups, False)
    assert service.services("vm", groups, True) == ["app"]


@pytest.mark.parametrize(
    ("found", "step"),
    [
        (["12", "in use"], "leave"),
        (["12"], "install"),
        (["13"], "join"),
        (["13", "in use"], "done"),
        ([], "install"),
    ],
)
def test_a_host_with_another_release_of_debian_is_replaced_step_by_step(found: list[str], step: str) -> None:
    assert service.debian_step(found, "13") == step


# --- load balancers


def test_one_balancer_that_could_serve_is_enough() -> None:
    down = {"item": "lb2", "rc": 1, "stdout": '{"obstacle": "nginx does not answer"}'}
    assert service.balancer_refusal("lb1", [down, {"item": "lb3", "rc": 0}]) == ""
    refusal = service.balancer_refusal("lb1", [down, {"item": "lb3", "unreachable": True, "msg": "timed out"}])
    assert "lb2: " in refusal and "nginx does not answer" in refusal and "lb3: timed out" in refusal


# --- application hosts

HOSTS: list[dict[str, Any]] = [
    {"name": "app1", "address": "192.0.2.21", "ports": [3000]},
    {"name": "app2", "address": "192.0.2.22", "ports": [3000]},
    {"name": "app3", "address": "192.0.2.23", "ports": []},
]


def running(*ports: int, active: bool = True) -> dict[str, Any]:
    return {"instances": [{"port": port, "active": active} for port in ports]}


def test_all_servers_of_a_host_leave_and_a_standby_host_has_none() -> None:
    assert service.servers("app1", HOSTS, [3900]) == ["192.0.2.21:3000", "192.0.2.21:3900"]
    assert service.servers("app3", HOSTS, [3900]) == []


@pytest.mark.parametrize(
    ("statuses", "drained", "left"),
    [
        ({"app2": running(3000)}, [], None),
        ({"app2": running(3000, active=False)}, [], 0),
        ({"app2": running(3900)}, [], 0),
        ({}, [], 0),
        ({"app2": running(3000)}, ["192.0.2.22:3000"], 0),
    ],
)
def test_enough_instances_have_to_stay(statuses: dict[str, Any], drained: list[str], left: int | None) -> None:
    refusal = service.application_refusal("app1", HOSTS, 2, statuses, drained, 0.5)
    assert refusal == "" if left is None else f"of 2 instances {left} would be left" in refusal


def test_a_larger_share_asks_for_another_host() -> None:
    refusal = service.application_refusal("app1", HOSTS, 2, {"app2": running(3000)}, [], 0.75)
    assert "add an application host" in refusal


def test_what_runs_of_the_placement_around_a_host_stands_in_for_it() -> None:
    around = {"app1": [3000], "app2": [3000, 3001], "app3": [3000]}
    statuses = {"app2": running(3000, 3001, 3002, 3900), "app3": running(3000, active=False)}
    placed = service.stand_ins(HOSTS, around, statuses)
    assert [host["ports"] for host in placed] == [[3000], [3000, 3001], []], "neither what does not run nor more"
    assert service.application_refusal("app1", placed, 2, statuses, [], 1) == "", "the whole capacity stays"
    assert "of 2 instances 1 would" in service.application_refusal("app1", placed, 2, {"app2": running(3001)}, [], 1)
    assert service.stand_ins(HOSTS, around, {}) == HOSTS, "none could be started"


def test_a_host_without_instances_may_always_leave() -> None:
    assert service.application_refusal("app3", HOSTS, 2, {}, [], 1) == ""


def test_what_is_out_for_another_reason_stays_out() -> None:
    drained = {
        "192.0.2.21:3000": "out of service: app1",
        "192.0.2.21:3900": "did not answer when 1.2 was rolled out",
        "192.0.2.22:3000": "out of service: app2",
    }
    servers = service.servers("app1", HOSTS, [3900])
    assert service.without(drained, servers) == ["192.0.2.21:3900", "192.0.2.22:3000"]
    addresses = {str(host["name"]): str(host["address"]) for host in HOSTS}
    assert service.left_out(drained, addresses) == ["app1", "app2"]


# --- database members


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"silent": [], "behind": [], "primary": "a"}, ""),
        # Its own state does not matter: one that is down already is not missed any more.
        ({"silent": ["b"], "behind": [], "primary": "a"}, ""),
        ({"silent": [], "behind": ["b"], "primary": "a"}, ""),
        ({"silent": ["c"], "behind": [], "primary": "a"}, "c does not answer"),
        ({"silent": [], "behind": ["c"], "primary": "a"}, "c has not caught up"),
        ({"silent": [], "behind": [], "primary": ""}, "there is no primary"),
    ],
)
def test_a_member_leaves_only_a_set_that_is_whole(state: dict[str, Any], reason: str) -> None:
    refusal = service.member_refusal("db2", "b", state)
    assert refusal.startswith("db2 is not taken out of service") and reason in refusal if reason else refusal == ""
