"""Deploys, rollbacks, scalings and site.yml while a host of each group is stopped, under GET and POST load.

`make stopped`, not `make test`: it takes about half an hour. PHOENIX_STOPPED names the groups: app,lb,db,control.
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from lab import releases
from tests.harness import plays, programs
from tests.harness.alarms import watched
from tests.harness.autoscaling import capacity_of, consistent
from tests.harness.deploys import play, releases_of, succeed
from tests.harness.hosts import Hosts, first_of, hosts_of
from tests.harness.load import assert_none_failed, load
from tests.harness.machines import stopped
from tests.harness.waiting import wait_for

GROUPS = os.environ.get("PHOENIX_STOPPED", "").split(",")
UNREACHABLE = 4  # Ansible's exit status of a play that did its work, but not on every host
# Longer than the watcher waits for one that is late, and than control takes to be well after its boot.
HEARTBEAT_S = 600
SHORT = {"deploy_canary_seconds": 5}


def left_out(group: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(group not in GROUPS, reason=f"PHOENIX_STOPPED does not name the group {group}")


def timed(name: str, running: Any, status: int = 0) -> str:
    """Wait for the end of the play, check its exit status, and return its output."""
    began = time.monotonic()
    output, _ = running.communicate(timeout=400)
    print(f"{name}: {time.monotonic() - began:.0f} s")
    assert running.returncode == status, plays.excerpt(output)
    return str(output)


def recorded(control: Any) -> dict[str, Any]:
    """Return the desired state as control has it."""
    return dict(json.loads(control.check_output(programs.STATE_SHOW)))


@pytest.mark.parametrize("group", [pytest.param(group, marks=left_out(group)) for group in ("app", "lb", "db")])
def test_with_a_stopped_host_plays_do_their_work(
    group: str,
    machines: dict[str, Any],
    client: Any,
    base_url: str,
    inventory: str,
    application_hosts: Hosts,
    control: Any,
    tmp_path: Path,
) -> None:
    """The second of its group: of the application hosts one with instances, of the load balancers not the address's."""
    name, host = list(hosts_of(group, inventory).items())[1]
    (before,) = releases_of(application_hosts)
    left = {one: seen for one, seen in application_hosts.items() if one != name}
    source = str(releases.make("good", tmp_path / "good", f"{time.strftime('%H%M%S')}{group}"))
    try:
        with (
            stopped(machines[name], host),
            load(client, base_url, 50) as got,
            load(client, base_url, 10, method="POST") as posted,
        ):
            output = timed(f"{name} is stopped: deploy", play(inventory, "deploy", phoenix_source=source, **SHORT))
            assert group == "db" or name in output, "what was left out is reported"
            (deployed,) = releases_of(left)
            assert deployed != before
            timed(f"{name} is stopped: scale", play(inventory, "scale", phoenix_capacity=3, scale_lock_wait=60))
            assert capacity_of(inventory) == 3
            site = play(inventory, "site", "--tags", "nginx")
            output = timed(f"{name} is stopped: site", site, UNREACHABLE)
            assert re.search(rf"{name} .*unreachable=1", output), plays.excerpt(output)
            assert not re.search("failed=[1-9]", output), plays.excerpt(output)
            timed(f"{name} is stopped: rollback", play(inventory, "rollback", phoenix_version=before, **SHORT))
            assert releases_of(left) == {before}
        # It is back, and nobody does anything: the timer phoenix-reconcile brings it to what is recorded. A member of
        # the database missed nothing.
        with load(client, base_url, 50) as after:
            wait_for(lambda: not recorded(control)["away"], 600, f"{name} is up to date")
            assert releases_of(application_hosts) == {before}
            assert recorded(control)["drained"] == {}
            assert capacity_of(inventory) == 3 and consistent(inventory)
    finally:
        succeed(play(inventory, "scale", phoenix_capacity=2, scale_lock_wait=300))
    assert_none_failed(got)
    assert_none_failed(posted)
    assert_none_failed(after)
    assert releases_of(application_hosts) == {before}
    assert consistent(inventory)


@left_out("control")
def test_without_control_nothing_changes_and_all_is_served(
    machines: dict[str, Any], client: Any, base_url: str, inventory: str, application_hosts: Hosts
) -> None:
    """What is recorded there is not known: every play stops before it changes anything, and says so.

    The outside watcher notices it, and nothing else could: who would report it is what is stopped.
    """
    receiver = first_of("receivers", inventory)
    wait_for(lambda: watched(receiver) == "status 200", HEARTBEAT_S, "the watcher has a heartbeat")
    (name, control), *_ = hosts_of("control", inventory).items()
    before = releases_of(application_hosts)
    with load(client, base_url, 50) as got, stopped(machines[name], control):
        for playbook, options, variables in (
            ("deploy", (), {"phoenix_version": next(iter(before))}),
            ("rollback", (), {}),
            ("scale", (), {"phoenix_capacity": 3}),
            ("site", ("--tags", "nginx"), {}),
        ):
            done = plays.run(inventory, playbook, *options, **variables)
            assert done.returncode != 0 and name in done.stdout, f"{playbook}: {plays.excerpt(done.stdout)}"
        wait_for(lambda: watched(receiver) == "status 503", HEARTBEAT_S, "the watcher notices that it is late")
    assert_none_failed(got)
    assert releases_of(application_hosts) == before
    wait_for(lambda: consistent(inventory), 60, "the fleet is as it was")
    wait_for(lambda: watched(receiver) == "status 200", HEARTBEAT_S, "the heartbeat is back")
