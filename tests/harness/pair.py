"""The pair of load balancers: who has the floating address, and what happens to them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.harness.hosts import Hosts, hosts_of, output_of
from tests.harness.machines import HEAL, without_power
from tests.harness.waiting import wait_for

# Before the fleet's own rules, in a table of its own. VRRP is protocol 112.
CUT = (
    "nft add table inet cut; nft 'add chain inet cut input { type filter hook input priority -10; }'; "
    "nft add rule inet cut input meta l4proto 112 drop"
)
SETTLE_S = 60
MASTER = "Entering MASTER STATE"  # keepalived's log, each time that it takes an address
# A request in flight on a host that is lost gets no answer, nor any sign that none will come: a client needs a limit of
# its own, and then asks again.
PATIENT = ("--retry", "--timeout", "3")


class Pair:
    """The load balancers and the address that one of them has."""

    def __init__(self, inventory: str, url: str) -> None:
        self.hosts: Hosts = hosts_of("lb", inventory)
        parts = urlsplit(url)
        self.address, port = str(parts.hostname), parts.port or 443
        self._served = f"openssl s_client -connect 127.0.0.1:{port} </dev/null 2>/dev/null | openssl x509 -noout"

    def certificates(self, *shown: str) -> set[str]:
        """What they serve: of each certificate what openssl's options show, by default its fingerprint."""
        words = " ".join(shown or ("-fingerprint",))
        return {host.check_output(f"{self._served} {words}") for host in self.hosts.values()}

    def holders(self) -> list[str]:
        """Those that have it by their kernel's word; a lost host has not."""
        return [name for name in self.hosts if self.holds(name)]

    def holds(self, name: str) -> bool:
        return f'"{self.address}"' in output_of(self.hosts[name], "ip -json address")

    def roles(self) -> tuple[str, str]:
        """The holder and another one, each of which could serve, once they have settled."""
        wait_for(lambda: all(map(self.ready, self.hosts)), SETTLE_S, "every load balancer could serve")
        wait_for(lambda: len(self.holders()) == 1, SETTLE_S, "one load balancer has the address")
        (holder,) = self.holders()
        return holder, next(name for name in self.hosts if name != holder)

    def ready(self, name: str) -> bool:
        """Whether this one could take the address."""
        return output_of(self.hosts[name], "phoenixctl floating show && echo ready").endswith("ready")

    @contextmanager
    def lost(self, name: str, machine: Any) -> Iterator[float]:
        """Take a load balancer's power while the block runs, which begins once another one has the address.

        Yields how long that took, in seconds.
        """
        with without_power(machine):
            others = [other for other in self.hosts if other != name]
            yield wait_for(lambda: any(map(self.holds, others)), 30, f"one of {', '.join(others)} has the address")

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Let neither hear the other's VRRP while the block runs."""
        try:
            for host in self.hosts.values():
                host.check_output(CUT)
            yield
        finally:
            for host in self.hosts.values():
                host.run(HEAL)


def masters(log: str) -> int:
    """How often an address was taken, by keepalived's log."""
    return log.count(MASTER)


def status_of(host: Any) -> dict[str, Any]:
    """What a host reports as its status."""
    return dict(json.loads(host.check_output("phoenixctl host status")))
