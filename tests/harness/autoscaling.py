"""The autoscaler of a running fleet: its reports, the instances in rotation, and stopping it for a while."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.harness.hosts import Hosts, control_of, hosts_of
from tests.harness.waiting import wait_for

STATUS = "/var/lib/phoenix/autoscaler/status.json"
UNITS = "phoenix-autoscaler.socket phoenix-autoscaler.service"


def status_of(inventory: str) -> dict[str, Any]:
    """Return the autoscaler's own status."""
    found: dict[str, Any] = json.loads(control_of(inventory).check_output(f"cat {STATUS}"))
    return found


def capacity_of(inventory: str) -> int:
    """Return the recorded capacity, or the inventory's, 2, if nothing has been scaled yet."""
    return int(control_of(inventory).run("cat /var/lib/phoenix/state/capacity").stdout.strip() or 2)


def in_rotation(balancer: Any) -> int:
    """Count the ordinary instances in a load balancer's upstreams that are not drained."""
    text = balancer.check_output("cat /etc/nginx/phoenix/upstreams.conf")
    pool = re.search(r"upstream phoenix \{(.*?)\n\}", text, re.S)
    assert pool, text
    return len(re.findall(r"^\s*server (?!.* down;)", pool[1], re.M))


def instances_of(inventory: str) -> int:
    """Count the ordinary instances that run."""
    count = 0
    for host in hosts_of("app", inventory).values():
        units = host.check_output("systemctl list-units --state=active --plain --no-legend 'phoenix@3[0-8]*.service'")
        count += len(units.splitlines())
    return count


def consistent(inventory: str) -> bool:
    """Whether the record, the upstreams of every load balancer, and the instances agree."""
    capacity = capacity_of(inventory)
    pools = {in_rotation(host) for host in hosts_of("lb", inventory).values()}
    return pools == {capacity} and instances_of(inventory) == capacity


def settle(inventory: str, capacity: int = 2) -> None:
    """Wait until an idle fleet is at its minimum and the autoscaler takes no action."""

    control = control_of(inventory)

    def calm() -> bool:
        status = status_of(inventory)
        # By its own host's clock: a status from before it was stopped proves nothing.
        fresh = float(control.check_output("date +%s")) - status["written"] < 3
        return fresh and status["capacity"] == capacity and not status["acting"] and not status["silent"]

    wait_for(calm, 400, f"a fleet at rest with {capacity} instances")


class Watch:
    """Records, while entered, the instances in rotation and the autoscaler's rate; times of time.monotonic()."""

    def __init__(self, inventory: str, every: float = 0.5) -> None:
        self.every = every
        self.control = control_of(inventory)
        self.balancers: Hosts = hosts_of("lb", inventory)
        self.rotation: list[tuple[float, int]] = []
        self.rates: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.is_set():
            due = time.monotonic() + self.every
            self.sample()
            self._ended.wait(max(0.0, due - time.monotonic()))

    def sample(self) -> None:
        """Take one sample."""
        # The smallest if they differ: an instance is in rotation when every load balancer has it.
        self.rotation.append((time.monotonic(), min(in_rotation(host) for host in self.balancers.values())))
        shown = self.control.run(f"cat {STATUS}")
        if shown.rc == 0:
            rate = json.loads(shown.stdout).get("panic_requests_per_second")
            self.rates.append((time.monotonic(), float(rate or 0)))

    def save(self, path: Path, origin: float) -> None:
        """Write the samples, with times in seconds since origin."""
        rows = {
            "rotation": [[round(at - origin, 1), number] for at, number in self.rotation],
            "rate": [[round(at - origin, 1), rate] for at, rate in self.rates],
        }
        path.write_text(json.dumps(rows) + "\n")


@contextmanager
def still(inventory: str) -> Iterator[None]:
    """Stop a running autoscaler while the block runs: it would react to the load of other tests."""
    hosts = hosts_of("control", inventory).values()
    running = [host for host in hosts if host.run("systemctl is-active phoenix-autoscaler.service").rc == 0]
    for host in running:
        host.check_output(f"systemctl stop {UNITS}")
    try:
        yield
    finally:
        for host in running:
            host.check_output(f"systemctl start {UNITS}")
