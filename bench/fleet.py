"""Input and result of every theme."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.harness.hosts import Hosts, first_of, hosts_of

FILE = Path("bench.json")  # the rows of the last run


@dataclass(frozen=True)
class Row:
    """A measured value. reference: the same thing measured in the same run, or the design's figure (see note)."""

    name: str
    value: float
    unit: str
    reference: float | None = None
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the row as in bench.json: ratio is value / reference, or null without a reference."""
        return asdict(self) | {"ratio": round(self.value / self.reference, 3) if self.reference else None}


@dataclass(frozen=True)
class Fleet:
    """The running fleet: its inventory's path, its address, and its hosts over SSH."""

    inventory: str
    url: str

    def hosts(self, group: str) -> Hosts:
        """Return inventory name -> testinfra host, as root."""
        return hosts_of(group, self.inventory)

    def client(self) -> Any:
        """Return the host that sends the load."""
        return first_of("client", self.inventory)
