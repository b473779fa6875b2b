"""The autoscaler of a running fleet: its reports, the instances in rotation, and stopping it for a while."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import yaml

from phoenix.autoscaler.config import Config
from phoenix.autoscaler.policy import Settings
from tests.harness.hosts import Hosts, control_of, hosts_of
from tests.harness.waiting import wait_for

STATUS = "/var/lib/phoenix/autoscaler/status.json"
UNITS = "phoenix-autoscaler.socket phoenix-autoscaler.service"


def status_of(inventory: str) -> dict[str, Any]:
    """Return the autoscaler's own status."""
    found: dict[str, Any] = json.loads(control_of(inventory).check_output(f"cat {STATUS}"))
    return found


def settings_of(inventory: str) -> Settings:
    """Return the policy's settings as the running autoscaler has them."""
    text = control_of(inventory).check_output("cat /etc/phoenix/autoscaler.yml")
    return Config.model_validate(yaml.safe_load(text)).placeable()[0]


def actions_of(inventory: str, since: float) -> list[tuple[float, int]]:
    """Return when the autoscaler decided to scale, by time.monotonic(), and to how many: what it did since then.

    The lab's hosts share this machine's clock.
    """
    offset = time.monotonic() - time.time()
    lines = control_of(inventory).check_output("cat /var/lib/phoenix/autoscaler/decisions.jsonl").splitlines()
    made = [one for one in map(json.loads, lines) if one["action"] != "hold"]
    found = [(datetime.fromisoformat(one["time"]).timestamp() + offset, int(one["count"])) for one in made]
    return [(at, count) for at, count in found if at >= since]


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
    """Records, while entered, the instances in rotation; times of time.monotonic()."""

    def __init__(self, inventory: str, every: float = 0.5) -> None:
        self.every = every
        self.balancers: Hosts = hosts_of("lb", inventory)
        self.rotation: list[tuple[float, int]] = []
        self.missed = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Self:
        self.sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if kind is None:
            assert self.missed <= len(self.rotation) / 10, f"{self.missed} samples failed, {len(self.rotation)} did not"

    def _sample(self) -> None:
        while not self._ended.is_set():
            due = time.monotonic() + self.every
            # A host that is too busy to answer once ends nothing.
            try:
                self.sample()
            except (AssertionError, RuntimeError, ValueError):
                self.missed += 1
            self._ended.wait(max(0.0, due - time.monotonic()))

    def sample(self) -> None:
        """Take one sample."""
        # The smallest if they differ: an instance is in rotation when every load balancer has it.
        self.rotation.append((time.monotonic(), min(in_rotation(host) for host in self.balancers.values())))

    def each_second(self, origin: float, seconds: int) -> list[int]:
        """Return the instances in rotation at each second from the origin."""
        return [
            max((at, number) for at, number in self.rotation if at <= max(origin + second, self.rotation[0][0]))[1]
            for second in range(seconds)
        ]


@contextmanager
def still(inventory: str) -> Iterator[None]:
    """Stop a running autoscaler while the block runs: it would react to the load of other tests.

    It is not started by a boot of its host either.
    """
    hosts = hosts_of("control", inventory).values()
    running = [host for host in hosts if host.run("systemctl is-active phoenix-autoscaler.service").rc == 0]
    for host in running:
        host.check_output(f"systemctl disable --now --quiet {UNITS}")
    try:
        yield
    finally:
        for host in running:
            host.check_output(f"systemctl enable --now --quiet {UNITS}")
