"""What lasts, through a roll-out, a kill, a scale-in and a lost host: sockets, streams, polls, uploads, workers."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker

from bench.fleet import Fleet, Row
from lab.containers import LABEL
from tests.harness.deploys import play, releases_of, succeed
from tests.harness.hosts import output_of
from tests.harness.load import running
from tests.harness.waiting import wait_for

SOURCE = Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "apps" / "long-lived"
SETTINGS = {
    "nginx_affinity": "cookie",
    "nginx_paths": [{"path": "/upload", "body_max": "64m"}],
    "phoenix_processes": {"worker": {"command": "npm run worker", "count": 2}, "boss": {"command": "node worker.js"}},
    "phoenix_schedules": {"tidy": {"command": "npm run nightly", "calendar": "*:*:0/10"}},
}
SLOTS = {"worker@1", "worker@2", "boss@1"}
# Connections that last are cut when it is over; by default after 65 and 60 s.
DRAIN_S = 10
TAGS = ("--tags", "phoenix,nginx")


def measure(fleet: Fleet) -> list[Row]:
    hosts = fleet.hosts("app")
    (before,) = releases_of(hosts)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            done(fleet, "deploy", phoenix_source=str(SOURCE), deploy_drain_timeout=DRAIN_S)
            done(fleet, "site", *TAGS, **SETTINGS, deploy_drain_timeout=DRAIN_S)
            done(fleet, "scale", phoenix_capacity=4, **SETTINGS)
            second = Path(folder, "long-lived")
            shutil.copytree(SOURCE, second)
            package = json.loads((second / "package.json").read_text(encoding="utf-8"))
            (second / "package.json").write_text(json.dumps({**package, "version": "2.0.0"}), encoding="utf-8")
            rows += event(
                fleet,
                "roll",
                lambda: done(fleet, "deploy", phoenix_source=str(second), deploy_drain_timeout=DRAIN_S, **SETTINGS),
            )
            (new,) = releases_of(hosts)
            rows.append(Row("workers that run the release at the end of its roll-out", len(on(hosts, new)), "of 3", 3))
            rows += event(fleet, "kill", lambda: kill(hosts["app1"]))
            rows += event(
                fleet,
                "scale-in",
                lambda: done(fleet, "scale", phoenix_capacity=2, phoenix_drain_timeout=DRAIN_S, **SETTINGS),
            )
            rows += lost_host(fleet)
        finally:
            done(fleet, "site", *TAGS, deploy_drain_timeout=DRAIN_S)
            done(fleet, "rollback", phoenix_version=before)
            done(fleet, "scale", phoenix_capacity=2)
    return rows


def done(fleet: Fleet, name: str, *options: str, **variables: Any) -> None:
    """Run a play. Those that write upstreams or units need SETTINGS, as an inventory would give them to all."""
    began = time.monotonic()
    succeed(play(fleet.inventory, name, *options, **variables))
    print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)


def kill(host: Any) -> None:
    host.check_output("systemctl kill --signal=KILL phoenix@3000")
    time.sleep(5)


@contextmanager
def clients(fleet: Fleet) -> Iterator[dict[str, Any]]:
    with running(fleet.client(), "phoenix-long-lived", "long_lived", fleet.url) as result:
        time.sleep(15)  # until all are open, also on a busy machine
        yield result


def event(fleet: Fleet, name: str, act: Callable[[], Any]) -> list[Row]:
    with clients(fleet) as result:
        act()
    rows = []
    for kind in ("websocket", "polling", "events"):
        seen = result[kind]
        note = f"{seen['refused']} attempts to open one again failed; {seen['answers']} answers"
        rows += [
            Row(f"{name}: {kind} connections lost", seen["lost"], "", None, note),
            Row(f"{name}: {kind}, longest without an answer", seen["outage_s"], "s"),
        ]
    for kind in ("poll", "upload"):
        seen = result[kind]
        rows.append(Row(f"{name}: {kind} failed", seen["failed"], "requests", None, f"of {seen['sent']}"))
    return rows


def on(hosts: dict[str, Any], release: str = "") -> dict[str, list[str]]:
    """Slot -> the hosts that run it, with that release."""
    found: dict[str, list[str]] = {}
    for name, host in hosts.items():
        report = json.loads(output_of(host, "phoenixctl processes status") or "{}")
        for slot, unit in report.get("running", {}).items():
            if slot in SLOTS and not unit["stopping"] and unit["revision"].startswith(release):
                found.setdefault(slot, []).append(name)
    return found


def lost_host(fleet: Fleet) -> list[Row]:
    """The host of the process that runs once is gone, and comes back; nothing runs twice meanwhile."""
    hosts = fleet.hosts("app")
    engine = docker.from_env()
    (victim,) = on(hosts)["boss@1"]
    (machine,) = engine.containers.list(filters={"name": f"^phoenix-{victim}$", "label": LABEL})
    others = {name: host for name, host in hosts.items() if name != victim}
    machine.kill()
    began = time.monotonic()
    try:
        wait_for(lambda: set(on(others)) == SLOTS, 150, "every process is elsewhere")
        moved = time.monotonic() - began
    finally:
        machine.start()
    wait_for(lambda: output_of(hosts[victim], "systemctl is-system-running") == "running", 90, "it is back")
    time.sleep(10)
    twice = {slot: names for slot, names in on(hosts).items() if len(names) > 1}
    return [
        Row(
            "host lost: its processes run elsewhere after", round(moved, 1), "s", 60, "reference: 50 s and stop_timeout"
        ),
        Row("host back: processes that run twice", len(twice), "", None, str(twice or "")),
    ]
