"""Address arithmetic for the firewall's rules, and for its check that they do not lock the operator out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

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
