"""Floating addresses: which of them each load balancer has, and on the parent by how many each is held."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence

from phoenix.balancer import floating
from phoenix.monitoring.charts import Chart, Collector
from phoenix.monitoring.fleet import Parent

# A host whose newest value is older than that of another by more than this has stopped reporting.
LATE_S = 5.0

Series = Mapping[float, float]  # time -> value


def chart_of(number: int) -> str:
    return f"phoenix_floating.address_{number}"


class FloatingAddresses(Collector):
    """On a load balancer: the addresses that its interfaces have, and whether keepalived runs."""

    interval = 2

    def __init__(self, addresses: Sequence[str]) -> None:
        self.addresses = list(addresses)

    def collect(self, now: float) -> Iterator[Chart]:
        for number, (address, here) in enumerate(floating.held(self.addresses).items(), 1):
            title = f"Whether this host has {address}"
            yield Chart(chart_of(number), title, "yes (1) or no (0)", "phoenix.floating", {"held": here})
        active = subprocess.run(["systemctl", "is-active", "--quiet", "keepalived.service"], timeout=8, check=False)
        yield Chart(
            "phoenix_floating.keepalived",
            "Whether keepalived runs",
            "yes (1) or no (0)",
            "phoenix.keepalived",
            {"runs": active.returncode == 0},
        )


def holders(seen: Mapping[str, Series]) -> int | None:
    """How many hosts have an address; None where none reports.

    Counted at one moment for all, the newest of which all know: an address that has just moved, whose old and new
    holder report at different times, is not on two. A host that reports no more does not count.
    """
    newest = {host: max(series) for host, series in seen.items() if series}
    if not newest:
        return None
    reporting = [host for host, time in newest.items() if time >= max(newest.values()) - LATE_S]
    common = set.intersection(*(set(seen[host]) for host in reporting))
    if not common:
        return None
    return sum(seen[host][max(common)] > 0 for host in reporting)


class FloatingWatch(Parent):
    """On the parent: how many load balancers have each address, as their kernels know it. One is right."""

    interval = 2

    def __init__(self, url: str, hosts: Sequence[str], addresses: Sequence[str]) -> None:
        super().__init__(url)
        self.hosts, self.addresses = list(hosts), list(addresses)

    def collect(self, now: float) -> Iterator[Chart]:
        self.find_agents()
        for number, address in enumerate(self.addresses, 1):
            count = holders({host: dict(self.rows(host, chart_of(number))) for host in self.hosts})
            if count is not None:
                yield Chart(
                    f"phoenix_fleet.floating_{number}",
                    f"Load balancers that have {address}",
                    "load balancers",
                    "phoenix.floating_holders",
                    {"holders": count},
                )
