"""What roles need to know about a host, out of Ansible's facts and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CONTAINERS = ("docker", "container", "containerd", "podman")


def in_container(facts: Mapping[str, Any]) -> bool:
    """Whether the host shares the kernel of a machine below it, whose settings and counters are not its own."""
    return facts.get("virtualization_type", "") in CONTAINERS


def libcurl(facts: Mapping[str, Any]) -> str:
    """The package of libcurl, which brings the TLS, LDAP and GSSAPI libraries that MongoDB's programs need."""
    return "libcurl4t64" if int(facts["distribution_major_version"]) >= 13 else "libcurl4"


def java(facts: Mapping[str, Any]) -> str:
    """The package of the newest Java that the distribution has and Jenkins supports; without facts, that of Debian 12.

    Ansible checks the inputs of a role before its first task, which gathers facts where a play has none.
    """
    return f"openjdk-{21 if int(facts.get('distribution_major_version', 12)) >= 13 else 17}-jre-headless"


def site_names(facts: Mapping[str, Any], floating: Sequence[str], ipv6: bool) -> list[str]:
    """Names under which a load balancer serves a site that has none: its own, its addresses, and the floating ones.

    As they are in a URL. A floating address is on any load balancer, so that it is no address of this one's own.
    """
    own = list(facts["all_ipv4_addresses"])
    if ipv6:
        own += [address for address in facts["all_ipv6_addresses"] if not address.startswith("fe80:")]
    addresses = [address for address in own if address not in floating] + list(floating)
    names = [facts["hostname"], facts["fqdn"], "localhost", "127.0.0.1"]
    names += [f"[{address}]" if ":" in address else address for address in addresses]
    return list(dict.fromkeys(names))
