"""The floating addresses of a pair of load balancers: whether they can be, and where each is meant to be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_interface
from typing import Any

MOST = 2  # one for each balancer of a pair: more would share nothing out


def errors(
    addresses: Sequence[Any], balancers: Mapping[str, Sequence[str]], others: Mapping[str, str]
) -> Iterator[str]:
    """What is wrong with these addresses.

    balancers: by each one's name, its own addresses in the network of the floating ones; others: by address, the host
    of any group that has it.
    """
    if not addresses:
        return
    if len(balancers) < 2:
        yield (
            f"phoenix_floating_addresses: {', '.join(map(str, addresses))}, but the group lb has "
            f"{', '.join(balancers) or 'no host'}; add a second load balancer, or take the addresses out"
        )
    if len(addresses) > MOST or len(set(map(str, addresses))) < len(addresses):
        yield (
            f"phoenix_floating_addresses: {', '.join(map(str, addresses))}; give one address, or {MOST} different ones"
        )
    owners = {**others, **{address: host for host, own in balancers.items() for address in own}}
    for address in map(str, addresses):
        try:
            version = ip_address(address).version
        except ValueError:
            yield f"phoenix_floating_addresses: {address!r} is not an address; write it like 192.0.2.10"
            continue
        if address in owners:
            yield (
                f"phoenix_floating_addresses: {address} is the own address of {owners[address]}; "
                "give one that no host has"
            )
        for host, own in balancers.items():
            if not {0, version}.intersection(map(_version, own)):
                yield (
                    f"phoenix_floating_addresses: {address} is IPv{version}, but {host} has {', '.join(own)}; give an "
                    "address of the same kind, or the load balancers' own of that kind in phoenix_front_addresses"
                )


def places(
    addresses: Sequence[str], facts: Mapping[str, Any], own: Sequence[str], peers: Sequence[str], order: int
) -> list[dict[str, Any]]:
    """How a balancer takes part in each floating address, by its own address and the peers' of the same kind.

    Each has address, own, peers, interface, network and priority; own, interface and network are "" where this balancer
    has no such address.
    """
    found = []
    for number, address in enumerate(map(str, addresses)):
        alike = [one for one in own if _version(one) == _version(address)]
        others = [one for one in peers if _version(one) == _version(address)]
        here = interface(facts, alike[0]) if alike else {}
        found.append(
            {
                "address": address,
                "own": alike[0] if alike else "",
                "peers": others,
                "interface": here.get("name", ""),
                "network": here.get("network", ""),
                "priority": priorities(len(addresses), order, len(others) + 1)[number],
            }
        )
    return found


def _version(address: str) -> int:
    """4 or 6; 0 for a host name."""
    try:
        return ip_address(address).version
    except ValueError:
        return 0


def homes(addresses: Sequence[str], balancers: Sequence[str], master: str = "") -> dict[str, str]:
    """The balancer on which each address is meant to be: the master, or else its own one, in the inventory's order."""
    return {address: master or balancers[number % len(balancers)] for number, address in enumerate(addresses)}


def priorities(count: int, order: int, balancers: int) -> list[int]:
    """VRRP's priority of a balancer, the one with this place in the inventory's order, for each of the addresses.

    Near 255, as the time until another one takes an address that was given up is (256 - priority) / 256 intervals.
    """
    return [250 - 10 * ((order - number) % balancers) for number in range(count)]


def interface(facts: Mapping[str, Any], address: str) -> dict[str, str]:
    """The interface that has this address, with its network; {} where none does. `facts` are Ansible's."""
    for name in facts.get("interfaces", []):
        known = facts.get(str(name).replace("-", "_").replace(".", "_").replace(":", "_"), {})
        for own in [known.get("ipv4", {}), *known.get("ipv4_secondaries", []), *known.get("ipv6", [])]:
            if own.get("address") == address:
                network = ip_interface(f"{address}/{own.get('prefix') or own.get('netmask')}").network
                return {"name": str(known.get("device", name)), "network": str(network)}
    return {}


def outside(kept: Iterable[Mapping[str, Any]]) -> list[str]:
    """Of what places() returns, the addresses that no host of the network there can have."""
    found = []
    for place in kept:
        if place["network"]:
            whole, address = ip_interface(place["network"]).network, ip_address(place["address"])
            reserved = {whole.network_address, *([whole.broadcast_address] if whole.version == 4 else [])}
            if address not in whole or address in reserved:
                found.append(str(place["address"]))
    return found


def holder_error(holders: Mapping[str, Sequence[str]]) -> str:
    """Why clients may not reach each address on one balancer; "" when exactly one has it."""
    wrong = [
        f"{address} is on {' and '.join(hosts) or 'none'}" for address, hosts in holders.items() if len(hosts) != 1
    ]
    return f"Of the load balancers, one has to hold each floating address: {'; '.join(wrong)}." if wrong else ""


def refusal(wanted: Mapping[str, str], seen: Mapping[str, Mapping[str, Any]]) -> str:
    """Why the addresses may not be moved to these balancers; "" when they may. `seen` is what each host printed."""
    for host in dict.fromkeys(wanted.values()):
        if not seen.get(host):
            return f"{host} does not answer, so no address was moved to it. Check that it runs and has keepalived."
        if obstacle := seen[host]["obstacle"]:
            return f"{host} could not serve, so no address was moved to it: {obstacle}."
    return ""


def leaving(wanted: Mapping[str, str], host: str, seen: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The addresses that this host has to stay away from until the one that is meant to have them does."""
    return [
        address
        for address, home in wanted.items()
        if home != host and not seen.get(home, {}).get("held", {}).get(address, False)
    ]


def failover(balancers: Sequence[str], seen: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Who is to have all addresses for a while, and then again: {to, from}.

    to: "" where no other one could serve; from: "" for each at its home, where not one balancer has all of them.
    """
    holders = [host for host in balancers if any(seen.get(host, {}).get("held", {}).values())]
    able = [host for host in balancers if seen.get(host) and not seen[host]["obstacle"]]
    others = [host for host in able if host not in holders] or able[1:]
    return {"from": holders[0] if len(holders) == 1 else "", "to": others[0] if others else ""}
