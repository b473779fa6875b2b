"""What every theme is given, and what it returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tests.harness.hosts import Hosts, first_of, hosts_of


@dataclass(frozen=True)
class Row:
    """One number. reference: the same thing measured in the same run, or what the design asks for (see note)."""

    name: str
    value: float
    unit: str
    reference: float | None = None
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """The row as bench.json holds it: ratio is value / reference, or null without one."""
        return asdict(self) | {"ratio": round(self.value / self.reference, 3) if self.reference else None}


@dataclass(frozen=True)
class Fleet:
    """The running fleet: its inventory's path, its address, and its hosts over SSH."""

    inventory: str
    url: str

    def hosts(self, group: str) -> Hosts:
        """Inventory name -> testinfra host, as root."""
        return hosts_of(group, self.inventory)

    def client(self) -> Any:
        """The host that sends the load."""
        return first_of("client", self.inventory)
