"""The pair of load balancers: who has the floating address, and what happens to them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.harness.hosts import Hosts, hosts_of, output_of
from tests.harness.waiting import wait_for

# Before the fleet's own rules, in a table of its own. VRRP is protocol 112.
CUT = (
    "nft add table inet cut; nft 'add chain inet cut input { type filter hook input priority -10; }'; "
    "nft add rule inet cut input ip protocol 112 drop"
)
# A host without power sends nothing. A killed container still refuses connections while its network is being removed.
SILENCE = (
    "nft 'table inet dead { chain i { type filter hook input priority -300; policy drop; }; "
    "chain o { type filter hook output priority -300; policy drop; }; }'"
)
HEAL = "nft delete table inet cut"
SETTLE_S = 60
# A request in flight on a host that is lost gets no answer, nor any sign that none will come: a client needs a limit of
# its own, and then asks again.
PATIENT = ("--retry", "--timeout", "3")


class Pair:
    """The load balancers and the address that one of them has."""

    def __init__(self, inventory: str, url: str) -> None:
        self.hosts: Hosts = hosts_of("lb", inventory)
        self.address = str(urlsplit(url).hostname)

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

    @staticmethod
    def power_off(machine: Any) -> float:
        """Take a host's power, and return when, by the monotonic clock."""
        code, output = machine.exec_run(["sh", "-c", SILENCE])
        assert code == 0, output
        began = time.monotonic()
        machine.kill()
        return began

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


def status_of(host: Any) -> dict[str, Any]:
    """What a host reports as its status."""
    return dict(json.loads(host.check_output("phoenixctl host status")))
