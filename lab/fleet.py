"""The lab's fleet: one systemd container for each host of an inventory, reached over SSH as a VM would be.

The inventory is the one definition of the fleet. Of each host the lab reads `ansible_host`, `ansible_user`,
`ansible_port` (sshd listens there), the bastion of `ansible_ssh_common_args` (-o ProxyJump=NAME), the groups, and

lab_debian      release of its image
lab_network     CIDR of the network, where there is one
lab_networks    name -> CIDRs of each network, one of IPv4 and perhaps one of IPv6, where there are several
lab_addresses   where there are several, the host's addresses: it is in the networks that these belong to
"""

from __future__ import annotations

import ipaddress
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IPV4 = 4
SSH_PORT = 22
JUMP = re.compile(r"-o ?ProxyJump=(\S+)")
Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Host:
    """A host of the inventory, as far as the lab needs it."""

    name: str
    address: str  # by which this machine reaches it, or its bastion does
    user: str
    debian: str
    groups: tuple[str, ...]
    port: int = SSH_PORT
    jump: str = ""  # the host through which it is reached; "" for none
    more: tuple[str, ...] = ()  # its other addresses

    @property
    def container(self) -> str:
        """The name of its container."""
        return f"phoenix-{self.name}"

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.address, *self.more)


@dataclass(frozen=True)
class Network:
    """A network of the engine: one of IPv4, and perhaps one of IPv6 as well."""

    name: str
    subnets: tuple[Subnet, ...]

    @property
    def gateway(self) -> str:
        """The IPv4 address of this machine in it: the engine forwards IPv4 alone beyond this machine."""
        return next(first(subnet) for subnet in self.subnets if subnet.version == IPV4)

    @property
    def dual(self) -> bool:
        return any(subnet.version != IPV4 for subnet in self.subnets)

    def among(self, addresses: Iterable[str]) -> list[str]:
        """Those of the addresses that belong to it."""
        return [one for one in addresses if any(ipaddress.ip_address(one) in subnet for subnet in self.subnets)]


@dataclass(frozen=True)
class Fleet:
    """A fleet as an inventory describes it."""

    inventory: Path
    networks: tuple[Network, ...]  # by name
    hosts: tuple[Host, ...]
    url: str
    engine_port: int = 0  # where the provider is offered to control; 0: no hosts on demand
    demand_image: str = ""

    def members(self, group: str) -> list[Host]:
        return [host for host in self.hosts if group in host.groups]

    def attached(self, host: Host) -> dict[str, list[str]]:
        """The networks that a host is in, by their names, with its addresses there."""
        return {network.name: own for network in self.networks if (own := network.among(host.addresses))}

    def gateway(self, host: Host) -> str:
        """The address of this machine to which the host sends what leaves its networks: the engine takes the first."""
        return next(network.gateway for network in self.networks if network.among(host.addresses))


def first(subnet: Subnet) -> str:
    """The first address for a host of a network: that of this machine."""
    return str(next(iter(subnet.hosts())))


def read(inventory: Path) -> Fleet:
    """Read the fleet that an inventory describes.

    Raises:
        RuntimeError: the inventory can't be read, or it is not one of the lab's.
    """
    command = [str(Path(sys.executable).with_name("ansible-inventory")), "-i", str(inventory), "--list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{inventory} can't be read:\n{done.stderr}")
    return described(inventory, json.loads(done.stdout))


def described(inventory: Path, data: Mapping[str, Any]) -> Fleet:
    """The fleet of an inventory, as `ansible-inventory --list` prints it.

    Raises:
        RuntimeError: it is none of the lab's.
    """
    variables = data["_meta"]["hostvars"]
    members: dict[str, list[str]] = {name: [] for name in variables}

    def collect(group: str, via: tuple[str, ...]) -> None:
        for name in data.get(group, {}).get("hosts", []):
            members[name] += [g for g in (*via, group) if g not in ("all", *members[name])]
        for child in data.get(group, {}).get("children", []):
            collect(child, (*via, group))

    collect("all", ())
    networks = _networks(inventory, variables)
    hosts = tuple(_host(name, values, members[name]) for name, values in sorted(variables.items()))
    url = next((str(v["phoenix_url"]) for v in variables.values() if "phoenix_url" in v), "")
    shared = next(iter(variables.values()))
    fleet = Fleet(
        inventory, networks, hosts, url, int(shared.get("lab_engine_port", 0)), str(shared.get("demand_image", ""))
    )
    for host in hosts:
        if strange := [one for one in host.addresses if not any(network.among([one]) for network in networks)]:
            raise RuntimeError(f"{inventory}: {', '.join(strange)} of {host.name} is in no network of the lab's")
    return fleet


def _networks(inventory: Path, variables: Mapping[str, Mapping[str, Any]]) -> tuple[Network, ...]:
    """The networks that all hosts have in common, by name: the engine gives a host the gateway of its first.

    Raises:
        RuntimeError: the inventory has none, or one without IPv4, through which hosts reach package sources.
    """
    name = f"phoenix-{inventory.name}"
    wanted = [
        {f"{name}-{own}": cidrs for own, cidrs in values["lab_networks"].items()}
        if "lab_networks" in values
        else {name: [values.get("lab_network")]}
        for values in variables.values()
    ]
    if not wanted or any(one != wanted[0] for one in wanted) or [None] in wanted[0].values():
        raise RuntimeError(f"{inventory} is not an inventory of the lab: its hosts have no lab_network in common")
    networks = tuple(Network(own, tuple(map(ipaddress.ip_network, cidrs))) for own, cidrs in sorted(wanted[0].items()))
    for network in networks:
        if [subnet.version for subnet in network.subnets] not in ([IPV4], [IPV4, 6]):
            shown = ", ".join(map(str, network.subnets))
            raise RuntimeError(
                f"{inventory}: {network.name} is {shown}; give one of IPv4, and then one of IPv6 or none"
            )
    return networks


def _host(name: str, values: Mapping[str, Any], groups: Iterable[str]) -> Host:
    jump = JUMP.search(str(values.get("ansible_ssh_common_args", "")))
    return Host(
        name,
        str(values["ansible_host"]),
        values["ansible_user"],
        values["lab_debian"],
        tuple(groups),
        int(values.get("ansible_port", SSH_PORT)),
        jump[1] if jump else "",
        tuple(one for one in values.get("lab_addresses", []) if one != values["ansible_host"]),
    )
