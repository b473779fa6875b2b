"""Failures of the application's instances, provoked on their hosts."""

from __future__ import annotations

from typing import Any

from tests.harness.hosts import Hosts, hosts_of, pid_of, remote
from tests.harness.waiting import wait_for


def serving(inventory: str) -> Hosts:
    """Return the application hosts that run ordinary instances (a standby host does not)."""
    return {name: host for name, host in hosts_of("app", inventory).items() if host.service("phoenix@3000").is_running}


def kill_and_ask(host: Any) -> int:
    """Kill the instance on port 3000 and return the time until it answers again, in ms."""
    return int(host.check_output(remote("answer_time", "kill")))


def start_and_ask(host: Any) -> int:
    """Start the application without a supervisor, then end it; return the time until it answers, in ms."""
    return int(host.check_output(remote("answer_time", "start")))


def past_start(host: Any, seconds: float = 16) -> None:
    """Wait until the instance on port 3000 is that old: in the grace period after its start it is never hung."""
    age = 'echo $(( $(date +%s) - $(date -d "$(systemctl show -p ExecMainStartTimestamp --value phoenix@3000)" +%s) ))'
    wait_for(lambda: int(host.check_output(age)) >= seconds, seconds + 10, "an instance past its start")


def freeze_and_wait(host: Any) -> float:
    """Freeze the instance on port 3000, which has to be past its start, and return how long until it was replaced."""
    frozen = pid_of(host, "phoenix@3000")
    assert host.run(f"kill -STOP {frozen}").rc == 0
    return wait_for(lambda: pid_of(host, "phoenix@3000") not in (0, frozen), 60, "a frozen instance is replaced")
