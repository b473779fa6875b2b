"""A fleet in two networks: clients and the operator come by the front one, hosts reach each other by IPv6 in the other.

`make networks`, on LAB_PROFILE=networks; the other fleets have one network.
"""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from lab import fleet as lab
from phoenix.common import endpoint
from tests.harness import programs
from tests.harness.autoscaling import capacity_of, consistent
from tests.harness.hosts import Hosts, remote
from tests.harness.load import RATE, assert_none_failed, load
from tests.harness.pair import PATIENT, Pair

PROFILE = "networks"
pytestmark = pytest.mark.skipif(
    Path(os.environ.get("PHOENIX_INVENTORY", "")).name != PROFILE, reason=f"PHOENIX_INVENTORY is not that of {PROFILE}"
)
# What a host of each private group offers to others of the fleet.
OFFERED = {"app1": 3000, "db1": 27017, "control1": 19999}


@pytest.fixture(scope="module")
def described(inventory: str) -> lab.Fleet:
    return lab.read(Path(inventory))


@pytest.fixture(scope="module")
def urls(fleet: Hosts, base_url: str) -> list[str]:
    """The site's, at each floating address."""
    addresses = json.loads(fleet["lb1"].check_output("cat /etc/phoenix/floating.json"))["addresses"]
    assert sorted(":" in address for address in addresses) == [False, True]
    port = urlsplit(base_url).port
    assert port
    return [f"https://{endpoint.of(address, port)}" for address in addresses]


def private(described: lab.Fleet) -> list[lab.Host]:
    """The hosts that are reached through a bastion."""
    found = [host for host in described.hosts if host.jump]
    assert {host.name for host in found} >= OFFERED.keys()
    return found


def peers(shown: str) -> set[str]:
    """The addresses at the other ends of the connections that `ss -Hnt state established` shows."""
    found = (line.split()[3].rpartition(":")[0].strip("[]").removeprefix("::ffff:") for line in shown.splitlines())
    return set(found)


def test_clients_are_served_at_an_address_of_each_kind(client: Any, urls: list[str]) -> None:
    for url in urls:
        page = client.check_output(remote("fetch", f"{url}/"))
        assert page.startswith("status 200\n") and "requests recorded" in page, url
        address = str(urlsplit(url).hostname)
        for port in (80, 443):
            assert client.run(remote("connect", address, port)).rc != 0, (address, port)
        # Sent to the port of HTTPS, at the same address.
        assert client.check_output(remote("fetch", f"http://{endpoint.of(address, 8080)}/")).startswith("status 200\n")


def test_private_hosts_admit_the_bastion_and_control_alone(client: Any, fleet: Hosts, described: lab.Fleet) -> None:
    (bastion,) = {host.jump for host in private(described)}
    admitted = {own for host in described.hosts if host.name in (bastion, "control1") for own in host.addresses}
    for host in private(described):
        if "control" not in host.groups:  # to which the others send their dumps and logs
            shown = fleet[host.name].check_output(f"ss -Hnt state established '( sport = :{host.port} )'")
            assert peers(shown) and peers(shown) <= admitted, f"{host.name}: {shown}"
    for name, port in OFFERED.items():
        host = next(one for one in described.hosts if one.name == name)
        for address in host.addresses:
            for wanted in (host.port, port):
                assert client.run(remote("connect", address, wanted)).rc != 0, (name, address, wanted)
            # This machine has an address in that network, too.
            with pytest.raises(OSError):
                socket.create_connection((address, host.port), 2).close()


def test_hosts_reach_each_other_by_ipv6(fleet: Hosts, described: lab.Fleet) -> None:
    known = {address for host in described.hosts for address in host.addresses}
    for host in private(described):
        shown = fleet[host.name].check_output("ss -Hnt state established")
        others = (peers(shown) & known) - set(host.addresses)
        assert others and all(":" in address for address in others), f"{host.name}: {shown}"


def test_control_scales_by_its_own_way_to_the_hosts(control: Any, inventory: str) -> None:
    wanted = capacity_of(inventory) + 1
    for capacity in (wanted, wanted - 1):
        done = control.run(f"{programs.PLAY} scale -e phoenix_capacity={capacity}")
        assert done.rc == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert capacity_of(inventory) == capacity and consistent(inventory)


def test_the_balancers_limit_each_client_of_either_kind(fleet: Hosts) -> None:
    rules = fleet["lb1"].check_output("nft list chain inet phoenix input")
    limits = re.findall(r"tcp dport \{ 8080, 8443 \} ct state new .*?add @(ip6?)_web \{ .* limit rate over", rules)
    assert sorted(limits) == ["ip", "ip6"], rules


def test_a_balancer_that_stops_is_survived_at_each_address(
    client: Any, inventory: str, urls: list[str], fleet: Hosts
) -> None:
    for url in urls:
        pair = Pair(inventory, url)
        holder, other = pair.roles()
        with load(client, url, RATE, *PATIENT) as result:
            fleet[holder].check_output("systemctl stop nginx")
            assert pair.holds(other), url
            fleet[holder].check_output("systemctl start nginx")
        assert_none_failed(result)
