"""Hosts that lose their power and get it back: the fleet serves again as before, without an operator.

The lab's containers are its machines, so the Docker engine switches them.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.e2e.conftest import Pids
from tests.harness.database import primaries
from tests.harness.hosts import hosts_of, output_of
from tests.harness.load import send
from tests.harness.waiting import wait_for

STOP_SECONDS = 30


def answers(client: Any, url: str) -> bool:
    return bool(send(client, f"{url}/", 5, 1)["failed"] == 0)


def settled(host: Any) -> Callable[[], bool]:
    return lambda: output_of(host, "systemctl is-system-running") == "running"


def running(pids: Pids) -> set[str]:
    return {unit for unit, (pid, _) in pids.items() if pid}


def test_fleet_stopped_and_started_serves_untouched(
    machines: dict[str, Any], client: Any, base_url: str, inventory: str, application_pids: Callable[[], Pids]
) -> None:
    """All stop at once and the database hosts start last: the application finds no database when it starts."""
    before = application_pids()
    with ThreadPoolExecutor(len(machines)) as pool:
        list(pool.map(lambda machine: machine.stop(timeout=STOP_SECONDS), machines.values()))
    later = set(hosts_of("db", inventory))
    for name, machine in machines.items():
        if name not in later:
            machine.start()
    wait_for(lambda: output_of(client, "echo up") == "up", 60, "the client host")
    restarts = "systemctl show -p NRestarts --value phoenix@3000"
    host = next(h for name, h in hosts_of("app", inventory).items() if f"{name}/phoenix@3000.service" in before)
    wait_for(lambda: output_of(host, restarts) not in ("", "0"), 90, "the application dies without a database")
    for name in later:
        machines[name].start()
    took = wait_for(lambda: len(primaries(hosts_of("db", inventory))) == 1, 60, "a primary")
    took += wait_for(lambda: answers(client, base_url), 60, "the page")
    print(f"database hosts started to served page: {took:.1f} s")
    assert running(application_pids()) == running(before)
    for name, host in hosts_of("all", inventory).items():
        wait_for(settled(host), 30, f"{name} runs without a failed unit")
