"""The fleet as its users and its operator see it, and the failures that it survives under load.

Load is sent from the inventory's client host; failures are provoked over SSH, on the hosts themselves.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lab.fleet import read as read_fleet
from tests.harness import exposure, plays
from tests.harness.autoscaling import capacity_of
from tests.harness.hosts import Hosts, control_of, pid_of, remote, secrets_of, ssh
from tests.harness.instances import kill_and_ask, start_and_ask
from tests.harness.load import RATE, assert_none_failed, load
from tests.harness.programs import STATE_SHOW
from tests.harness.waiting import median
from tests.harness.wire import Client, Request


def test_page_shows_what_was_recorded(client: Any, base_url: str) -> None:
    page = client.check_output(remote("fetch", f"{base_url}/"))
    assert page.startswith("status 200\n")
    assert "requests recorded" in page
    assert "<td>/</td>" in page


def test_no_unit_has_failed(fleet: Hosts) -> None:
    for name, host in fleet.items():
        assert host.check_output("systemctl list-units --failed --plain --no-legend") == "", name


def test_instance_runs_node_directly(serving: Hosts) -> None:
    for name, host in serving.items():
        command = host.check_output(f"cat /proc/{pid_of(host, 'phoenix@3000')}/comm")
        assert command == "node", (name, command)


def test_units_are_sandboxed(fleet: Hosts, serving: Hosts) -> None:
    for name, host in fleet.items():
        configured = host.check_output("ls /etc/systemd/system").split()
        seen = exposure.of_host(host.check_output("systemd-analyze security --no-pager"), configured)
        assert exposure.excess(seen) == {}, name
        assert name not in serving or "phoenix@.service" in seen, name


def test_secrets_stay_secret(fleet: Hosts, inventory: str) -> None:
    secrets = secrets_of(inventory)
    for name, host in fleet.items():
        seen = host.check_output("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; journalctl --no-pager -o cat")
        assert not [s for s in secrets if s in seen], f"{name}: a secret in process arguments or the journal"
        # Over standard input: sudo records every command line in the journal. The planted file proves the search.
        done = ssh(
            inventory,
            name,
            "umask 077; cat >/run/secrets; install -m 0644 /run/secrets /var/lib/planted; "
            "find /etc /opt /var/log /var/lib /usr/local -xdev -type f -perm -o=r -size -200k -print0 | "
            "xargs -0 grep -lFf /run/secrets; rm /run/secrets /var/lib/planted",
            "".join(f"{secret}\n" for secret in secrets),
        )
        assert done.stdout.split() == ["/var/lib/planted"], f"{name}: a secret in {done.stdout} {done.stderr}"


def test_other_hosts_cannot_reach_inside(client: Any, inventory: str, base_url: str) -> None:
    known = {host.name: host for host in read_fleet(Path(inventory)).hosts}
    assert client.run(remote("connect", known["lb1"].address, urlsplit(base_url).port or 443)).rc == 0
    for host, port in ((known["app1"], 3000), (known["db1"], 27017), (known["control1"], known["control1"].port)):
        for address in host.addresses:
            assert client.run(remote("connect", address, port)).rc != 0, (address, port)


def test_a_command_runs_in_the_environment_of_an_instance(inventory: str) -> None:
    command = "node -p \"process.env.PORT + ('DB_CONNECTION_STRING' in process.env)\""
    done = plays.run(inventory, "run", phoenix_command=command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0true" in done.stdout, done.stdout


def test_the_logs_of_all_instances_are_shown_in_the_order_of_time(inventory: str, serving: Hosts) -> None:
    since, lines = "30 days ago", 5000
    # Their hosts' newest; more may come until the play reads them.
    newest = [host.check_output(f"phoenixctl logs --since '{since}' --lines 1") for host in serving.values()]
    done = plays.run(inventory, "logs", phoenix_since=since, phoenix_log_lines=lines)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = re.findall(r"^[-\s\"']*(\d{4}-\d\d-\d\dT[\d:.]+Z) (\S+) ", done.stdout, re.MULTILINE)
    assert {tuple(line.split()[:2]) for line in newest} <= set(shown), newest
    assert [when for when, _ in shown] == sorted(when for when, _ in shown)


def test_killed_instances_are_unseen(client: Any, base_url: str, serving: Hosts) -> None:
    """Instances killed on one host and then the other; each answers again like after a start by hand."""
    took: list[int] = []
    by_hand: list[int] = []
    # At half the rate: while an instance is away, the others' queues shall not decide how long a start takes.
    with load(client, base_url, RATE / 2) as result:
        hosts = list(serving.values())
        for number in range(12):
            for ask, times in ((kill_and_ask, took), (start_and_ask, by_hand)):
                began = time.monotonic()
                times.append(ask(hosts[number % len(hosts)]))
                time.sleep(max(0.0, 2 - (time.monotonic() - began)))
    print(
        f"killed to answering, ms: median {median(took)}, all {took}; started by hand {median(by_hand)}, all {by_hand}"
    )
    assert_none_failed(result)
    assert median(took) <= 2 * median(by_hand), (median(took), median(by_hand), took, by_hand)


def test_maintenance_is_for_clients_alone(base_url: str, inventory: str) -> None:
    """It holds over a change of the upstreams, and the fleet's own checks see the application."""
    wire = Client(base_url)
    plays.run(inventory, "maintenance", phoenix_maintenance="on").check_returncode()
    try:
        answer = wire.send(Request(b"/"))
        assert answer.status == 503 and b"Retry-After: " in answer.raw
        assert wire.send(Request(b"/crash")).status == 404
        control = control_of(inventory)
        assert json.loads(control.check_output(STATE_SHOW))["maintenance"] is True
        plays.run(inventory, "scale", phoenix_capacity=capacity_of(inventory)).check_returncode()
        assert wire.send(Request(b"/")).status == 503
        plays.run(inventory, "verify").check_returncode()
    finally:
        plays.run(inventory, "maintenance", phoenix_maintenance="off").check_returncode()
    assert wire.send(Request(b"/")).status == 200
