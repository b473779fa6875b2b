"""Hosts that do not answer in site.yml, and ports that move."""

from __future__ import annotations

import json
from typing import Any

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
    without = reach.site_refusal(GROUPS, ["app1", "lb1"], ["app1", "lb1"], ["all"], 0.5)
    assert "--limit c1,app1,lb1. Nothing was changed" in without
    assert reach.site_refusal(GROUPS, ["app1"], ["app1"], ["nginx"], 0.5) == ""
    assert "0 of 1" in reach.site_refusal(GROUPS, ["lb1", "app1"], ["app1"], ["nginx"], 0.5)


def test_a_port_that_moves_stays_open_while_an_instance_listens_there() -> None:
    found = [{"port": port, "active": port != 3001} for port in (3000, 3001, 3100, 3900)]
    status = json.dumps({"instances": found})
    assert reach.served_ports(status, 3100, 4, [3900]) == [3000]
    assert reach.served_ports(status, 3000, 200, [3900]) == []
    assert reach.served_ports("skipped, since /usr/local/bin/phoenixctl does not exist", 3000, 4, []) == []


def test_a_step_went_well_only_if_each_of_its_parts_did() -> None:
    """The last host's command ends with the task; the others were started in the background, and are waited for."""
    last = {"item": {"host": "app3"}, "rc": 0}
    started = {"item": {"host": "app1"}, "rc": 0, "stdout": "job-7"}
    end = {"item": started, "rc": 0}
    assert reach.switch_errors([last], []) == []
    assert reach.switch_errors([started, last], [end]) == []
    for waited, reason in (
        ([{**end, "rc": 1, "stderr": "it did not answer"}], "app1: it did not answer"),
        ([{"item": started, "msg": "the task failed"}], "app1: the task failed"),
        ([{"item": started, "unreachable": True}], "app1 can't be reached by SSH any more."),
    ):
        assert reach.switch_errors([started, last], waited) == [reason]
    not_started = {**started, "rc": 1, "stderr": "no room"}
    assert reach.switch_errors([not_started, last], []) == ["app1: no room"]
    lost = {"item": {"host": "app3"}, "unreachable": True}
    assert reach.switch_errors([started, lost], [end]) == ["app3 can't be reached by SSH any more."]


def test_upstreams_lead_only_where_instances_run() -> None:
    """Ports that moved in a run of the load balancers alone; a single instance that is down must not keep them."""

    def status(*ports: int, active: bool = True) -> dict[str, Any]:
        return {"instances": [{"port": port, "active": active} for port in ports]}

    old, moved = {"app1": [3000], "app2": [3000]}, {"app1": [3100], "app2": [3100]}
    running = {"app1": status(3000), "app2": status(3000)}
    assert reach.unserved(running, old, 0.5) == ""
    assert "app1:3100, app2:3100 do not run" in reach.unserved(running, moved, 0.0)
    assert reach.unserved({**running, "app2": {}}, old, 1.0) == "", "a host that does not answer is not asked"
    one_down = {**running, "app2": status(3000, active=False)}
    assert reach.unserved(one_down, old, 0.5) == ""
    assert "app2:3000 do not run" in reach.unserved(one_down, old, 0.6)
    assert reach.unserved({"app1": {}, "app2": {}}, old, 0.5) == "", "nothing is known, as in a fleet that is set up"
