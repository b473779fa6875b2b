"""A load that the application hosts can't hold, onto hosts that do not exist yet: LAB_PROFILE=demand.

One creation is killed half-way. Everything is given back in the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any

import docker

from bench.fleet import Fleet, Row
from tests.harness.autoscaling import Watch, consistent, settings_of, settle, status_of
from tests.harness.hosts import control_of
from tests.harness.load import load
from tests.harness.waiting import wait_for
from tests.simulation import plot

LOW, HIGH = 5, float(os.environ.get("DEMAND_RATE", "200"))
STEADY_S = 30
STATUS = "/var/lib/phoenix/demand/status.json"
# Next to bench.json, with a chart of the same name; docs/ has copies from one run.
RECORD = Path("bench-demand.json")


class DemandWatch(Watch):
    """Also the hosts on demand, and since when the autoscaler needed more instances than the fleet's own hosts hold."""

    def __init__(self, inventory: str, room: int, per_host: int) -> None:
        super().__init__(inventory, every=1.0)
        self.own, self.per_host = room, per_host
        self.control = control_of(inventory)
        self.rates: list[tuple[float, float]] = []
        self.states: list[tuple[float, dict[str, str]]] = []
        self.needed: float | None = None

    def sample(self) -> None:
        super().sample()
        shown = self.control.run(f"cat {STATUS} /var/lib/phoenix/autoscaler/status.json")
        made, scaler = (json.loads(line) for line in shown.stdout.splitlines())
        self.rates.append((time.monotonic(), float(scaler["panic_requests_per_second"] or 0)))
        self.states.append((time.monotonic(), {host["name"]: host["state"] for host in made["hosts"]}))
        if self.needed is None and (scaler["needed"] or 0) > self.own:
            self.needed = time.monotonic()

    def live(self) -> dict[str, str]:
        """The hosts on demand that exist or are on their way, with their states."""
        return {name: state for name, state in self.states[-1][1].items() if state != "deleted"} if self.states else {}

    def save(self, path: Path, title: str, target: float) -> None:
        """Write the samples for tests.simulation.plot, with times in seconds since the first."""
        origin = self.rotation[0][0]
        rooms = [
            (at, self.own + self.per_host * sum(state in ("standby", "serving") for state in hosts.values()))
            for at, hosts in self.states
        ]
        rows = {
            name: [[round(at - origin, 1), number] for at, number in samples]
            for name, samples in (("rate", self.rates), ("rotation", self.rotation), ("room", rooms))
        }
        path.write_text(json.dumps({"title": title, "target": target, **rows}) + "\n")


@contextlib.contextmanager
def one_killed(fleet: Fleet) -> Iterator[list[str]]:
    """Kill the provider once, as soon as the second container that it creates is there, and it has not answered yet."""
    killed: list[str] = []
    made = set[str]()
    ended = threading.Event()
    record = Path(fleet.inventory).parents[1] / ".lab" / "engine.pid"
    client = docker.from_env()

    def watch() -> None:
        while not ended.wait(0.02) and not killed:
            found = client.containers.list(all=True, ignore_removed=True, filters={"name": "phoenix-extra-"})
            made.update(str(one.name) for one in found)
            # Not the first one: its time to service is what is measured.
            if len(made) < 2:
                continue
            for path in Path(f"/proc/{record.read_text()}/task").glob("*/children"):
                with contextlib.suppress(OSError):  # it, or its thread, has ended
                    for process in path.read_text().split():
                        os.kill(int(process), signal.SIGKILL)
                        killed.append(f"while {', '.join(sorted(made))} were made")

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def seconds(inventory: str) -> dict[str, Any]:
    return dict(json.loads(control_of(inventory).check_output("cat /etc/phoenix/demand.json")))


def measure(fleet: Fleet) -> list[Row]:
    """Measure it; without hosts on demand in the inventory there is nothing to measure."""
    if control_of(fleet.inventory).run("systemctl is-active phoenix-demand.service").rc:
        return []
    settings = seconds(fleet.inventory)
    own, per_host = settings["room"], settings["instances_per_host"]
    target = settings_of(fleet.inventory).target
    wanted = ceil(HIGH / target)
    settle(fleet.inventory)
    # One of a former run that was given back keeps its address for some minutes: the provider could still name it.
    control = control_of(fleet.inventory)
    wait_for(
        lambda: not json.loads(control.check_output(f"cat {STATUS}"))["hosts"], 900, "no host of a former run left"
    )
    client = fleet.client()
    with DemandWatch(fleet.inventory, own, per_host) as watch:
        with load(client, fleet.url, LOW) as low:
            time.sleep(15)
        began = time.monotonic()
        with one_killed(fleet) as killed, load(client, fleet.url, HIGH) as high:
            wait_for(lambda: watch.rotation[-1][1] >= wanted, 300, f"{wanted} instances in rotation")
            time.sleep(STEADY_S)
        assert killed, "the provider was not killed"
        hosts = max((sum(s == "serving" for s in made.values()) for _, made in watch.states), default=0)
        ended = time.monotonic()
        with load(client, fleet.url, LOW) as after:
            given = wait_for(lambda: not watch.live(), 400, "hosts on demand given back")
            wait_for(lambda: watch.rotation[-1][1] <= 2, 120, "spare capacity gone")
            time.sleep(5)
    assert watch.needed is not None
    first = next(at for at, count in watch.rotation if count > own)
    all_there = next(at for at, count in watch.rotation if count >= wanted)
    wait_for(lambda: consistent(fleet.inventory), 60, "a consistent fleet")
    watch.save(RECORD, f"{LOW} to {HIGH:g} requests/s onto hosts that did not exist, and back", target)
    plot.save(RECORD.with_suffix(".svg"), [plot.recorded(RECORD)])
    failed = sum(int(str(result.get("failed", 0))) for result in (low, high, after))
    sent = sum(int(str(result.get("sent", 0))) for result in (low, high, after))
    what = f"{LOW} to {HIGH:g}/s onto hosts that did not exist"
    return [
        Row(
            f"{what}: the need known", watch.needed - began, "s", None, "more instances than the fleet's own hosts hold"
        ),
        Row(f"{what}: the first new host serves", first - watch.needed, "s", 30, "since then; reference: the goal"),
        Row(f"{what}: {wanted} instances in rotation", all_there - watch.needed, "s", None, "since then"),
        Row(
            f"{what}: hosts made that served",
            float(hosts),
            "hosts",
            None,
            f"the provider killed once: {', '.join(killed)}",
        ),
        Row(f"{what}: given back", given, "s", None, f"idle time of {settings['idle_seconds']:g} s included"),
        Row(f"{what}: capacity follows", status_of(fleet.inventory)["capacity"], "instances", None, "in the end"),
        Row(
            f"{what}: failed",
            float(failed),
            "requests",
            None,
            f"of {sent}; ended {time.monotonic() - ended:.0f} s later",
        ),
    ]
