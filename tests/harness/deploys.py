"""Whole deploys on the running fleet, for the tests and the benchmark."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.harness import plays, programs
from tests.harness.hosts import Hosts

# Of the canary long enough for a decision under load, short enough for a test. An instance that is only slow to start,
# with all hosts and several plays on the same cores, is no failure of a test.
TIMES = {
    "deploy_canary_seconds": 10, "deploy_health_limit": 20, "deploy_health_timeout": 180, "deploy_lock_wait": 120,
}  # fmt: skip
PLAY_SECONDS = 900


def play(inventory: str, name: str, *options: str, **variables: Any) -> subprocess.Popen[str]:
    """Start a play with the times of these tests."""
    return plays.start(inventory, name, *options, **{**TIMES, **variables})


def succeed(*running: subprocess.Popen[str]) -> None:
    """Wait for all plays to end, and check that each succeeded: one that goes on would disturb what comes after."""
    # All are read at once: a full pipe would stop a play that holds the lock.
    with ThreadPoolExecutor() as pool:
        outputs = list(pool.map(lambda one: one.communicate(timeout=PLAY_SECONDS)[0], running))
    for one, output in zip(running, outputs, strict=True):
        assert one.returncode == 0, plays.excerpt(output)


def put_back(running: subprocess.Popen[str], app: Hosts, control: Any, start: str) -> str:
    """Wait for a roll-out that has to fail, check that the fleet is back on its release, and return the output."""
    output, _ = running.communicate(timeout=PLAY_SECONDS)
    assert running.returncode != 0 and f"The fleet is back on {start}." in output, plays.excerpt(output)
    assert releases_of(app) == {start}
    assert last(control)["result"] == "rolled back"
    return output


def of_instances(app: Hosts, host_key: str, instance_key: str) -> set[str]:
    """Return what each host has for new instances, and what the running ones were started with."""
    found = set()
    for host in app.values():
        seen = json.loads(host.check_output(programs.INSTANCES_STATUS))
        found |= {seen[host_key]} | {one[instance_key] for one in seen["instances"] if one["active"]}
    return found


def releases_of(app: Hosts) -> set[str]:
    return of_instances(app, "current", "release")


def configurations_of(app: Hosts) -> set[str]:
    return of_instances(app, "configuration", "configuration")


def history(control: Any, count: int) -> list[dict[str, Any]]:
    """Return the newest entries of the history, the newest last."""
    return list(json.loads(control.check_output(f"{programs.DEPLOYS_SHOW} --last {count} --json")))


def last(control: Any) -> dict[str, Any]:
    """Return the newest entry of the history."""
    return history(control, 1)[0]
