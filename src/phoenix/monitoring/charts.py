"""Charts, in Netdata's protocol, and what a collector of them is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

# Netdata keeps whole numbers; three decimals are enough for everything here.
SCALE = 1000
TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Chart:
    """One collection of one chart; `values` maps dimension to value."""

    id: str
    title: str
    units: str
    context: str
    values: Mapping[str, float]


@dataclass
class Output:
    """Writes charts in Netdata's protocol; collectors share it."""

    write: Callable[[str], object]
    lock: threading.Lock = field(default_factory=threading.Lock)
    defined: dict[str, tuple[tuple[str, ...], float]] = field(default_factory=dict)

    def emit(self, chart: Chart, interval: int, now: float) -> None:
        with self.lock:
            dimensions = tuple(chart.values)
            if self.defined.get(chart.id, ((), 0.0))[0] != dimensions:
                self.write(self.definition(chart, interval))
            self.defined[chart.id] = (dimensions, now)
            values = "".join(f"SET {name} = {round(value * SCALE)}\n" for name, value in chart.values.items())
            self.write(f"BEGIN {chart.id}\n{values}END\n")

    def forget(self, chart: Chart, interval: int) -> None:
        """Take a chart down that is not filled any more, and with it its alarms."""
        with self.lock:
            if self.defined.pop(chart.id, None):
                self.write(self.definition(chart, interval, "obsolete"))

    @staticmethod
    def definition(chart: Chart, interval: int, options: str = "") -> str:
        family = chart.id.partition(".")[2]
        head = f"CHART {chart.id} '' '{chart.title}' '{chart.units}' '{family}' '{chart.context}' line 90000 {interval}"
        dimensions = "".join(f"DIMENSION {name} '' absolute 1 {SCALE}\n" for name in chart.values)
        return f"{head} '{options}' phoenix\n{dimensions}"


class Collector:
    """Collects some charts every `interval` seconds."""

    interval = 5

    def collect(self, now: float) -> Iterator[Chart]:
        """Charts as of `now`, in seconds of the monotonic clock."""
        raise NotImplementedError
