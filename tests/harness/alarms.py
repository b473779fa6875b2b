"""Alarms of a running fleet, as they arrive at the lab's own webhook."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.harness.hosts import remote

CPU = "phoenix_service_cpu"
# The lab's receivers record their messages there.
RECEIVED = "/var/lib/private/lab-receiver/messages"
UNIT = "phoenix-test-busy"
# What the outside watcher of the heartbeat says, on the receivers' host.
WATCHER = "http://127.0.0.1:8025/heartbeat"


@contextmanager
def busy_instance(host: Any) -> Iterator[None]:
    """Keep the instance on port 3000 busy with one core while the block runs."""
    runner = f"systemd-run --quiet --unit={UNIT} --collect /usr/bin/python3"
    host.check_output(remote("busy", runner=runner))
    try:
        yield
        host.check_output(f"systemctl is-active {UNIT}")
    finally:
        host.run(f"systemctl stop {UNIT}")


def watched(receiver: Any) -> str:
    """The outside watcher's answer: "status 200" while the heartbeat is not late, else "status 503"."""
    return str(receiver.check_output(remote("fetch", WATCHER)).splitlines()[0])


def messages(receiver: Any, since: float, alarm: str, host: str | None = None) -> list[dict[str, Any]]:
    """List the webhook's messages about one alarm (of one host) since a time by its host's clock."""
    lines = receiver.run(f"cat {RECEIVED}").stdout.splitlines()  # no file before the first message
    found = []
    for message in map(json.loads, lines):
        if message["kind"] == "webhook" and message["time"] >= since:
            found += [
                entry | {"time": message["time"]}
                for entry in message["body"]["alarms"]
                if entry["alarm"] == alarm and host in (None, entry["host"])
            ]
    return found
