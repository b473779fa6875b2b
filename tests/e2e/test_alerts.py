"""Alarms as the people who receive them see them: at the lab's own mail server and webhook.

The long ones (a load that flaps for five minutes, each alarm provoked) are in roles/alerting/README.md.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from lab.fleet import read as read_fleet
from phoenix.alerting.deadman import HEALTHY_AGE_S
from tests.harness import alarms, programs
from tests.harness.alarms import busy_instance, messages, watched
from tests.harness.hosts import Hosts, first_of, output_of, remote
from tests.harness.instances import serving
from tests.harness.waiting import wait_for

# Since when a core is busy, and a function that returns the messages of its alarm.
Busy = tuple[float, Callable[[], list[dict[str, Any]]]]
DASHBOARD = "http://{}:19999/api/v1/info"
CLOSED = ("refused", "timed out", "status 403")


@pytest.fixture(scope="module")
def receiver(inventory: str) -> Any:
    return first_of("receivers", inventory)


@pytest.fixture(scope="module")
def instance_host(inventory: str) -> tuple[str, Any]:
    return next(iter(serving(inventory).items()))


def test_brief_burst_raises_nothing(instance_host: tuple[str, Any], receiver: Any) -> None:
    name, host = instance_host
    start = time.time()
    with busy_instance(host):
        time.sleep(3)
    time.sleep(20)
    assert messages(receiver, start, alarms.CPU, name) == []


@pytest.fixture(scope="module")
def busy_core(instance_host: tuple[str, Any], receiver: Any) -> Busy:
    """A core that was busy until its alarm was raised."""
    name, host = instance_host
    start = time.time()

    def reported() -> list[dict[str, Any]]:
        return messages(receiver, start, alarms.CPU, name)

    with busy_instance(host):
        wait_for(lambda: len(reported()) > 0, 180, "the message")
        # What is already reported is not reported again while it lasts.
        time.sleep(15)
    return start, reported


def test_busy_core_is_reported_once(busy_core: Busy) -> None:
    start, reported = busy_core
    raised = reported()
    assert [message["event"] for message in raised if message["event"] != "cleared"] == ["raised"], raised
    print(f"busy to reported: {raised[0]['time'] - start:.1f} s")
    assert {"value", "threshold", "since", "runbook"} <= {key for key, value in raised[0].items() if value}


def test_message_survives_a_receiver_that_is_down(control: Any, receiver: Any) -> None:
    """The webhook is down while an alarm is raised: the mail comes, the message waits, and arrives afterwards."""

    def set_alarm(value: int) -> None:
        gauge = "/var/lib/phoenix/metrics/test.prom"
        control.check_output(f"echo phoenix_test_alarm {value} > {gauge}.new && mv {gauge}.new {gauge}")

    def mails() -> int:
        pattern = '"kind": "mail".*A test of the alarms'
        return int(receiver.run(f"grep -c %s {alarms.RECEIVED}", pattern).stdout or 0)

    failing = "grep -q '^phoenix_notify_failing_channels [1-9]' /var/lib/phoenix-notify/metrics/notify.prom"
    start, before = time.time(), mails()
    assert receiver.run("systemctl stop lab-receiver@http").rc == 0
    try:
        set_alarm(1)
        wait_for(lambda: mails() > before, 40, "the mail")
        wait_for(lambda: control.run(failing).rc == 0, 20, "the failure in the metrics")
        assert messages(receiver, start, "phoenix_test") == []
    finally:
        assert receiver.run("systemctl start lab-receiver@http").rc == 0
        set_alarm(0)
    wait_for(lambda: len(messages(receiver, start, "phoenix_test")) > 0, 70, "the message that waited")


def test_outside_watcher_receives_the_heartbeat(receiver: Any) -> None:
    assert watched(receiver) == "status 200"


def test_status_page_is_renewed_and_whole(control: Any) -> None:
    """Netdata serves it on loopback, as the dashboard; every host of the fleet is on it, and nothing is missing."""
    assert control.run("systemctl start phoenix-page.service").rc == 0
    answer = control.check_output(remote("fetch", "http://127.0.0.1:19999/phoenix/"))
    assert answer.splitlines()[0] == "status 200"
    assert "This page is incomplete" not in answer, answer
    timer = control.check_output("systemctl show --property=ActiveState,SubState phoenix-page.timer")
    assert timer == "ActiveState=active\nSubState=waiting"


def test_two_hosts_ask_for_the_site(fleet: Hosts, inventory: str, base_url: str) -> None:
    """Of those that reach the balancers as clients do: behind a front network, themselves; otherwise, others."""
    values = "http://127.0.0.1:19999/api/v1/allmetrics?format=json&filter=phoenix_site*%20phoenix_certificate_name*"
    certificate = f"phoenix_certificate_name.lb1_{urlsplit(base_url).port or 443}"
    asking = []
    for host in (host for host in read_fleet(Path(inventory)).hosts if "client" not in host.groups):
        shown = json.loads(fleet[host.name].check_output(remote("fetch", values)).partition("\n")[2])
        if "phoenix_site.lb1_https" in shown:
            asking.append(host.name)
            assert shown["phoenix_site.lb1_https"]["dimensions"]["up"]["value"] == 1, host.name
            assert shown[certificate]["dimensions"]["matches"]["value"] == 1, host.name
    assert len(asking) == 2, asking


def test_the_parent_accepts_the_fleets_key_alone(fleet: Hosts, inventory: str) -> None:
    """As rotate-metrics.yml proves it, by the answer to one more connection of a host that streams already."""
    (address,) = (host.address for host in read_fleet(Path(inventory)).hosts if host.name == "control1")
    asked = remote("stream_keys", address, 19999, runner=programs.PYTHON)
    for host in (fleet["lb1"], fleet["db3"]):
        # While an agent connects again, the parent would take this connection for the agent's.
        wait_for(lambda host=host: output_of(host, asked) == "[true, false]", 60, "its key, and no other")  # type: ignore[misc]


def test_dashboards_are_closed(inventory: str, fleet: Hosts, receiver: Any, base_url: str) -> None:
    """From another host no dashboard is reachable, neither an agent's nor the parent's, which accepts only streams."""
    # The control: the receivers' host reaches the fleet where it may, and each host reaches its own dashboard.
    assert receiver.check_output(remote("fetch", f"{base_url}/")).splitlines()[0] == "status 200"
    for host in (host for host in read_fleet(Path(inventory)).hosts if "receivers" not in host.groups):
        own = fleet[host.name].check_output(remote("fetch", DASHBOARD.format("127.0.0.1")))
        assert own.splitlines()[0] == "status 200", host.name
        from_outside = receiver.check_output(remote("fetch", DASHBOARD.format(host.address), 3))
        assert from_outside.splitlines()[0] in CLOSED, f"{host.name}: {from_outside}"


def test_the_heartbeat_notices_that_nothing_is_measured(control: Any) -> None:
    """Netdata answers, and evaluates alarms on the last values as before. Meanwhile the alarm of the core ends."""

    def unwell() -> str:
        return str(control.check_output(remote("unwell", runner=programs.PYTHON))).strip()

    plugin = control.check_output("pgrep --full '[p]hoenixctl metrics collect'")
    assert unwell() == ""
    control.check_output(f"kill -STOP {plugin}")
    try:
        time.sleep(HEALTHY_AGE_S)
        wait_for(lambda: unwell().startswith("Phoenix's plugin last filled"), 30, "no heartbeat")
    finally:
        control.check_output(f"kill -CONT {plugin}")
    # The unit itself waits until all is well, and pings.
    control.check_output("systemctl start phoenix-deadman.service")
    assert unwell() == ""


def test_busy_core_is_cleared_once(busy_core: Busy) -> None:
    """Last: minutes pass until an alarm is over for good."""
    _, reported = busy_core
    wait_for(lambda: len(reported()) > 1, 300, "the message that it is over")
    both = reported()
    assert [message["event"] for message in both] == ["raised", "cleared"], both
    assert both[1]["lasted"] != "0 s"
