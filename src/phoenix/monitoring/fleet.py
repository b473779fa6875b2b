"""On the parent: what only the host that receives all metrics can measure."""

from __future__ import annotations

import http.client
import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from phoenix.monitoring.charts import TIMEOUT_S, Chart, Collector
from phoenix.provider import demand, published
from phoenix.state import desired


def on_demand() -> list[str]:
    """Names of the hosts on demand; none while their record can't be read, which has an alarm of its own."""
    try:
        return [str(host["name"]) for host in published.read()]
    except (OSError, demand.Corrupt):
        return []


class Parent(Collector):
    """What is measured of several hosts, from what they have sent to this one."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.agents: dict[str, str] = {}

    def ask(self, path: str) -> dict[str, Any]:
        """What the parent answers; nothing where it does not."""
        try:
            with urllib.request.urlopen(f"{self.url}/{path}", timeout=TIMEOUT_S) as answer:
                return dict(json.load(answer))
        except (OSError, http.client.HTTPException, ValueError):
            return {}

    def find_agents(self) -> None:
        """Note the agent of each host name: the parent still lists the former one of a machine that was replaced."""
        for agent in self.ask("api/v1/info").get("mirrored_hosts_status", []):
            if agent["reachable"]:
                self.agents[agent["hostname"]] = agent["guid"]

    def rows(self, host: str, chart: str) -> list[tuple[float, float]]:
        """The (time, value) pairs of a host's chart within the last 30 s, the newest first."""
        if host not in self.agents:
            return []
        rows = self.ask(f"host/{self.agents[host]}/api/v1/data?chart={chart}&after=-30&format=json").get("data", [])
        return [(row[0], row[1]) for row in rows if len(row) > 1 and row[1] is not None]

    def newest(self, host: str, chart: str) -> tuple[float, float] | None:
        """Newest (time, value) of a host's chart within the last 30 s, or None."""
        return next(iter(self.rows(host, chart)), None)


class FleetWatch(Parent):
    """On the parent: hosts that are silent, servers out of rotation, and instances that run against those wanted."""

    interval = 5

    def __init__(self, url: str, hosts: list[str], application_hosts: list[str], state_folder: str) -> None:
        super().__init__(url)
        self.hosts, self.application_hosts = hosts, application_hosts
        self.state = Path(state_folder)
        # No host is silent before the parent had time to listen.
        self.heard: dict[str, float] = dict.fromkeys(hosts, time.time())
        self.out: dict[str, float] = {}  # when each server was taken out of rotation, seconds since 1970

    def rotation(self) -> Iterator[Chart]:
        """What is recorded as out of rotation. One that was out before this began is so since the last change."""
        try:
            drained = desired.read_drained(self.state)
            record = self.state / "drained.json"
            changed = record.stat().st_mtime if drained else 0.0
        except (desired.Corrupt, OSError):
            return
        self.out = {server: self.out.get(server, changed) for server in drained}
        longest = max((time.time() - since for since in self.out.values()), default=0.0)
        yield Chart(
            "phoenix_fleet.drained",
            "Servers out of rotation",
            "servers",
            "phoenix.drained",
            {"servers": len(drained)},
        )
        yield Chart(
            "phoenix_fleet.drained_longest",
            "For how long the first of them has been out",
            "seconds",
            "phoenix.drained_longest",
            {"longest": max(0.0, longest)},
        )

    def collect(self, now: float) -> Iterator[Chart]:
        self.find_agents()
        for host in self.hosts:
            beat = self.newest(host, "phoenix_agent.beat")
            if beat is not None:
                self.heard[host] = beat[0]
            silent = max(0.0, time.time() - self.heard[host])
            yield Chart(
                f"phoenix_silent.{host}",
                f"For how long {host} has been silent",
                "seconds",
                "phoenix.silent",
                {"silent": silent},
            )
        yield from self.rotation()
        try:
            wanted = desired.read_capacity(self.state)
        except (desired.Corrupt, OSError):
            wanted = None
        if wanted is None:
            return
        hosts = [*self.application_hosts, *on_demand()]
        counts = [self.newest(host, "phoenix_fleet.instances") for host in hosts]
        running = sum(count[1] for count in counts if count is not None)
        yield Chart(
            "phoenix_fleet.capacity",
            "Instances",
            "instances",
            "phoenix.capacity",
            {"wanted": wanted, "running": running, "missing": max(0.0, wanted - running)},
        )
