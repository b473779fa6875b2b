"""Whole deploys on the running fleet, for the tests and the benchmark."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.e2e import plays
from tests.e2e.support import Hosts

# Long enough for a verdict under load, short enough for a test.
SHORT = {"deploy_canary_seconds": 10, "deploy_health_timeout": 15, "deploy_lock_wait": 120}
PLAY_SECONDS = 400


def play(inventory: str, name: str, *options: str, **variables: Any) -> subprocess.Popen[str]:
    return plays.start(inventory, name, *options, **{**SHORT, **variables})


def succeed(running: subprocess.Popen[str]) -> None:
    """Wait for the play's end, which has to be a good one."""
    output, _ = running.communicate(timeout=PLAY_SECONDS)
    assert running.returncode == 0, output[-3000:]


def serving(app: Hosts) -> set[str]:
    """The releases that running instances were started with, and the current one of each host."""
    found = set()
    for host in app.values():
        seen = json.loads(host.check_output("/usr/local/lib/phoenix/phoenix_instances.py status"))
        found |= {seen["current"]} | {one["release"] for one in seen["instances"] if one["active"]}
    return found


def last(control: Any) -> dict[str, Any]:
    (record,) = json.loads(control.check_output("/usr/local/lib/phoenix/phoenix_deploys.py show --last 1 --json"))
    return dict(record)
