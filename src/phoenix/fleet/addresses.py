"""Addresses: of the firewall's rules, whose check is that they do not lock the operator out, and of the hosts."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

ANY = "any"


def bad_addresses(sources: Iterable[str]) -> list[str]:
    """Return the `sources` that are neither an address, nor a CIDR, nor `any`."""
    bad = []
    for source in sources:
        try:
            if source != ANY:
                ipaddress.ip_network(str(source), strict=False)
        except ValueError:
            bad.append(str(source))
    return bad


def networks(sources: Iterable[str], version: int) -> list[str]:
    """Return the IPv4 or IPv6 (`version` 4 or 6) networks of `sources`, merged: nft refuses overlapping sets."""
    parsed = [ipaddress.ip_network(str(source), strict=False) for source in sources if source != ANY]
    if version == 4:
        return [
            str(net) for net in ipaddress.collapse_addresses(n for n in parsed if isinstance(n, ipaddress.IPv4Network))
        ]
    return [str(net) for net in ipaddress.collapse_addresses(n for n in parsed if isinstance(n, ipaddress.IPv6Network))]


def contains(sources: Iterable[str], address: str) -> bool:
    """Whether `address` is within one of `sources`. An IPv4 address mapped into IPv6 counts as IPv4, as on the wire."""
    sources = list(sources)
    if ANY in sources:
        return True
    seen = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(seen, ipaddress.IPv6Address) and seen.ipv4_mapped:
        seen = seen.ipv4_mapped
    return any(seen in ipaddress.ip_network(str(source), strict=False) for source in sources)


def own_errors(own: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What is wrong with the addresses by which hosts reach each other (host -> phoenix_address): host and message."""
    owners: dict[str, str] = {}
    versions: dict[int, str] = {}
    for host, text in own.items():
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            yield (
                host,
                f"phoenix_address: {text!r} is no address, which firewalls and MongoDB need; set it beside "
                "ansible_host, which may be a name",
            )
            continue
        if str(address) != text:
            # nginx reports it like this, and compares.
            yield host, f"phoenix_address: {text} has a shorter form; write {address}"
        if address.is_loopback and len(own) > 1:
            yield host, f"phoenix_address: {text} is no address by which other hosts reach this one; give another"
        elif (first := owners.setdefault(str(address), host)) != host:
            yield "", f"phoenix_address: {text} is that of {first} and of {host}; give each host its own"
        versions.setdefault(address.version, host)
    if len(versions) > 1:
        seen = " and ".join(f"{own[host]} on {host}" for _, host in sorted(versions.items()))
        yield "", f"phoenix_address: {seen}; hosts reach each other by addresses of one kind: give all IPv4 or all IPv6"


def front_errors(own: Sequence[str]) -> Iterator[str]:
    """What is wrong with a load balancer's addresses in the network of the floating ones."""
    versions = []
    for text in own:
        try:
            versions.append(ipaddress.ip_address(text).version)
        except ValueError:
            yield f"phoenix_front_addresses: {text!r} is no address; write it like 192.0.2.11 or 2001:db8::11"
            return
    if not versions or len(set(versions)) < len(versions):
        yield f"phoenix_front_addresses: {', '.join(own) or 'none'}; give one IPv4, one IPv6 address, or one of each"


def misplaced(address: str, facts: Mapping[str, Any]) -> str:
    """Why other hosts could not know this one by the address; "" if they can. facts: Ansible's of the host."""
    found = [str(one) for kind in ("all_ipv4_addresses", "all_ipv6_addresses") for one in facts.get(kind, [])]
    wanted = ipaddress.ip_address(address)
    if wanted.is_loopback or any(wanted == ipaddress.ip_address(one.partition("%")[0]) for one in found):
        return ""
    return (
        f"phoenix_address: {address} is on no interface of this host, which has "
        f"{', '.join(one for one in found if not one.startswith('fe80:')) or 'none'}; set it to the one by which the "
        "fleet's other hosts reach this one (ansible_host is for your own SSH)"
    )
