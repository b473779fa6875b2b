"""Whole deploys on the running fleet, for the tests and the benchmark."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.harness import plays, programs
from tests.harness.hosts import Hosts

# Long enough for a decision under load, short enough for a test.
SHORT = {"deploy_canary_seconds": 10, "deploy_health_timeout": 15, "deploy_lock_wait": 120}
PLAY_SECONDS = 400


def play(inventory: str, name: str, *options: str, **variables: Any) -> subprocess.Popen[str]:
    """Start a play with the short times of these tests."""
    return plays.start(inventory, name, *options, **{**SHORT, **variables})


def succeed(running: subprocess.Popen[str]) -> None:
    """Wait for the play to end, and check that it succeeded."""
    output, _ = running.communicate(timeout=PLAY_SECONDS)
    assert running.returncode == 0, output[-3000:]


def releases_of(app: Hosts) -> set[str]:
    """Return the releases that running instances were started with, and the current one of each host."""
    found = set()
    for host in app.values():
        seen = json.loads(host.check_output(programs.INSTANCES_STATUS))
        found |= {seen["current"]} | {instance["release"] for instance in seen["instances"] if instance["active"]}
    return found


def configurations_of(app: Hosts) -> set[str]:
    """Return the configurations that running instances have, and that new ones get."""
    found = set()
    for host in app.values():
        seen = json.loads(host.check_output(programs.INSTANCES_STATUS))
        found |= {seen["configuration"]} | {one["configuration"] for one in seen["instances"] if one["active"]}
    return found


def last(control: Any) -> dict[str, Any]:
    """Return the newest entry of the history."""
    (record,) = json.loads(control.check_output(f"{programs.DEPLOYS_SHOW} --last 1 --json"))
    return dict(record)
