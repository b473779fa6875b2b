"""Hosts that do not answer in site.yml, and ports that move."""

from __future__ import annotations

import json

import pytest

from phoenix.rollout import reach

GROUPS = {
    "app": ["app1", "app2", "app3"],
    "app_standby": ["app3"],
    "lb": ["lb1", "lb2"],
    "control": ["c1"],
    "db": ["db1"],
}
ALL = ["app1", "app2", "app3", "lb1", "lb2", "c1", "db1"]


@pytest.mark.parametrize(
    ("silent", "tags", "expected"),
    [
        ([], ["all"], ""),
        (["app3"], ["all"], "app3 can't be reached by SSH, and a run with these tags (all) wants every host"),
        (["db1"], ["nginx", "mongodb"], "wants every host"),
        (["app3"], ["nginx"], ""),
        (["db1"], ["nginx"], ""),
        (["app1"], ["phoenix", "nginx"], ""),
        (["app1", "app2"], ["nginx"], "app1, app2 can't be reached"),
        (["lb1"], ["nginx"], ""),
        (["lb1", "lb2"], ["nginx"], "0 of 2 hosts are too few"),
        (["c1"], ["nginx"], "c1 can't be reached"),
    ],
)
def test_which_runs_go_on_without_a_host(silent: list[str], tags: list[str], expected: str) -> None:
    answering = [host for host in ALL if host not in silent]
    found = reach.site_refusal(GROUPS, ALL, answering, tags, 0.5)
    assert bool(found) == bool(expected), found
    assert expected in found


def test_of_a_limited_run_only_its_own_hosts_count() -> None:
    assert reach.site_refusal(GROUPS, ["lb1"], ["lb1"], ["all"], 0.5) == ""
    assert "0 of 1" in reach.site_refusal(GROUPS, ["lb1", "app1"], ["app1"], ["nginx"], 0.5)


def test_a_port_that_moves_stays_open_while_an_instance_listens_there() -> None:
    found = [{"port": port, "active": port != 3001} for port in (3000, 3001, 3100, 3900)]
    status = json.dumps({"instances": found})
    assert reach.served_ports(status, 3100, 4, [3900]) == [3000]
    assert reach.served_ports(status, 3000, 200, [3900]) == []
    assert reach.served_ports("skipped, since /usr/local/bin/phoenixctl does not exist", 3000, 4, []) == []
