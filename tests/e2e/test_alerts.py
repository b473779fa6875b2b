"""Alarms as the people who are told see them: at the lab's own mail server and webhook.

The long ones (a load that flaps for five minutes, each alarm provoked) are in roles/netdata/README.md.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import fleet
from tests.e2e.support import hosts_of, wait_for

# Asks one instance for the route that burns CPU, past nginx, for a number of seconds.
PIN = """
import http.client, sys, time
end = time.time() + float(sys.argv[1])
while time.time() < end:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", 3000, timeout=10)
        connection.request("GET", "/generatecert")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        time.sleep(0.05)
"""
ALARM = "phoenix_service_cpu"

Messages = Callable[[float, str], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def receiver(inventory: str) -> Any:
    (host,) = hosts_of("receivers", inventory).values()
    return host


@pytest.fixture(scope="module")
def parent(inventory: str) -> Any:
    return next(iter(hosts_of("control", inventory).values()))


@pytest.fixture(scope="module")
def messages(receiver: Any) -> Messages:
    """A function that reads what the webhook got since a time (of that host) about one alarm, one entry a message."""

    def read(since: float, alarm: str) -> list[dict[str, Any]]:
        lines = receiver.run("cat /var/lib/private/lab-receiver/messages").stdout.splitlines()  # none before the first
        found = []
        for message in map(json.loads, lines):
            if message["kind"] == "webhook" and message["time"] >= since:
                found += [a | {"time": message["time"]} for a in message["body"]["alarms"] if a["alarm"] == alarm]
        return found

    return read


def pin(host: Any, seconds: float) -> None:
    ran = host.run("python3 -c %s %s", PIN, str(seconds))
    assert ran.rc == 0, ran.stderr


@pytest.fixture(scope="module")
def instance_host(inventory: str) -> tuple[str, Any]:
    return next((n, h) for n, h in hosts_of("app", inventory).items() if h.service("phoenix@3000").is_running)


def test_brief_burst_is_nobodys_business(instance_host: tuple[str, Any], messages: Messages) -> None:
    start = time.time()
    pin(instance_host[1], 3)
    time.sleep(20)
    assert [a for a in messages(start, ALARM) if a["host"] == instance_host[0]] == []


def test_pinned_core_is_told_once_and_cleared_once(instance_host: tuple[str, Any], messages: Messages) -> None:
    name, host = instance_host
    start = time.time()
    pin(host, 30)
    told = [a for a in messages(start, ALARM) if a["host"] == name]
    assert [a["event"] for a in told] == ["raised"], told
    print(f"pinned to told: {told[0]['time'] - start:.1f} s")
    assert told[0]["time"] - start <= 30
    assert {"value", "threshold", "since", "runbook"} <= {key for key, value in told[0].items() if value}
    wait_for(lambda: len(messages(start, ALARM)) > 1, 100, "a clear")
    told = [a for a in messages(start, ALARM) if a["host"] == name]
    assert [a["event"] for a in told] == ["raised", "cleared"], told
    assert told[1]["lasted"] != "0 s"


def test_message_survives_a_receiver_that_is_down(parent: Any, receiver: Any, messages: Messages) -> None:
    """The webhook is down while an alarm is raised: the mail comes, the message waits, and comes when it is back."""

    def set_alarm(value: int) -> None:
        gauge = "/var/lib/phoenix/metrics/test.prom"
        parent.check_output(f"echo phoenix_test_alarm {value} > {gauge}.new && mv {gauge}.new {gauge}")

    def mails() -> int:
        pattern = '"kind": "mail".*A test of the alarms'
        return int(receiver.run("grep -c %s /var/lib/private/lab-receiver/messages", pattern).stdout or 0)

    failing = "grep -q '^phoenix_notify_failing_channels [1-9]' /var/lib/phoenix-notify/metrics/notify.prom"
    start, before = time.time(), mails()
    assert receiver.run("systemctl stop lab-receiver@http").rc == 0
    try:
        set_alarm(1)
        wait_for(lambda: mails() > before, 40, "the mail")
        wait_for(lambda: parent.run(failing).rc == 0, 20, "the failure in the metrics")
        assert messages(start, "phoenix_test") == []
    finally:
        assert receiver.run("systemctl start lab-receiver@http").rc == 0
        set_alarm(0)
    wait_for(lambda: len(messages(start, "phoenix_test")) > 0, 70, "the message that waited")


def test_outside_watcher_hears_the_heartbeat(receiver: Any) -> None:
    ask = "python3 -c \"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8025/heartbeat').status)\""
    assert receiver.check_output(ask) == "200"


def test_dashboards_are_closed(inventory: str, receiver: Any) -> None:
    """From another host no dashboard can be reached, neither an agent's nor the parent's: it only takes streams."""
    probe = "python3 -c \"import urllib.request as u; u.urlopen('http://%s:19999/api/v1/info', timeout=3)\""
    for host in (host for host in fleet.read(Path(inventory)).hosts if "receivers" not in host.groups):
        assert receiver.run(probe % host.address).rc != 0, host.name
