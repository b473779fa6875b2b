"""What the page shows, from Netdata on this host, the record of deploys and the desired state."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from phoenix.alerting import netdata
from phoenix.drills import record
from phoenix.page.plot import Line
from phoenix.provider import published
from phoenix.state import deploys, desired

DAY = 86400.0
POINTS = 288
SILENT = "phoenix_silent."
Ask = Callable[[str], Any]
# Of a host: chart -> dimension -> value.
Charts = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Host:
    """A host as it last was; silent: seconds since it was heard."""

    name: str
    silent: float
    charts: Charts = field(default_factory=dict)

    def value(self, chart: str, dimension: str = "value") -> float | None:
        return self.charts.get(chart, {}).get(dimension)

    def gauge(self, name: str) -> float | None:
        """A gauge that a part of Phoenix writes there; of a time, its age."""
        return self.value(f"phoenix_metrics.{name.removeprefix('phoenix_')}")


@dataclass(frozen=True)
class Picture:
    """Everything on the page. problems: why something is not there; now: seconds since 1970."""

    now: float
    problems: list[str] = field(default_factory=list)
    hosts: list[Host] = field(default_factory=list)
    alarms: list[dict[str, str]] = field(default_factory=list)
    rate: list[Line] = field(default_factory=list)
    capacity: list[Line] = field(default_factory=list)
    release: str = ""
    drained: Mapping[str, str] = field(default_factory=dict)
    history: list[deploys.Deploy] = field(default_factory=list)
    demand: Mapping[str, Any] = field(default_factory=dict)
    drills: record.Record = field(default_factory=dict)

    def gauge(self, name: str) -> float | None:
        """A gauge of whichever host writes it."""
        found = (host.gauge(name) for host in self.hosts)
        return next((value for value in found if value is not None), None)


def charts(answer: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The newest values of an answer to allmetrics?format=json."""
    return {
        name: {d: float(values["value"]) for d, values in chart["dimensions"].items() if values["value"] is not None}
        for name, chart in answer.items()
    }


def line(ask: Ask, chart: str, dimension: str, name: str, now: float) -> Line:
    """A day of one dimension of this host; without points where there is no such chart."""
    query = urllib.parse.urlencode(
        {"chart": chart, "dimensions": dimension, "after": int(now - DAY), "before": int(now), "points": POINTS,
         "group": "average", "format": "json"}
    )  # fmt: skip
    try:
        rows = ask(f"/api/v1/data?{query}")["data"]
        return Line(name, sorted((float(row[0]), None if row[1] is None else float(row[1])) for row in rows))
    except (OSError, ValueError, LookupError, TypeError):
        return Line(name, [])


def hosts(ask: Ask, problems: list[str]) -> list[Host]:
    """Every host that the parent expects, with what it last heard of it."""
    own = charts(ask("/api/v1/allmetrics?format=json&filter=phoenix_*"))
    agents = {
        agent["hostname"]: agent["guid"] for agent in ask("/api/v1/info")["mirrored_hosts_status"] if agent["reachable"]
    }
    found = []
    for chart in sorted(own):
        if not chart.startswith(SILENT):
            continue
        name = chart[len(SILENT) :]
        seen: Charts = {}
        if name in agents:
            try:
                seen = charts(ask(f"/host/{agents[name]}/api/v1/allmetrics?format=json&filter=phoenix_*"))
            except (OSError, ValueError, LookupError, TypeError) as error:
                problems.append(f"{name}: its metrics can't be read: {error}")
        found.append(Host(name, own[chart].get("silent", 0.0), seen))
    return found


def alarms(known: Iterable[Mapping[str, dict[str, str]] | None]) -> list[dict[str, str]]:
    """The active ones as Netdata holds them, the most severe and then the oldest first."""
    found = [
        event for events in known for event in (events or {}).values() if event["status"] in ("WARNING", "CRITICAL")
    ]
    return sorted(found, key=lambda event: (event["status"] != "CRITICAL", float(event["when"]), event["host"]))


def collect(ask: Ask = netdata.ask, now: float | None = None) -> Picture:
    """The whole picture. What can't be read is missing from it, and named in `problems`."""
    present = time.time() if now is None else now
    problems: list[str] = []
    found: list[Host] = []
    raised: list[dict[str, str]] = []
    try:
        found = hosts(ask, problems)
        active = netdata.active_alarms([host.name for host in found], ask)
        raised = alarms(active.values())
        problems += [
            f"{name}: Netdata does not say which alarms it has" for name, known in active.items() if known is None
        ]
    except (OSError, ValueError, LookupError, TypeError) as error:
        problems.append(f"Netdata does not answer: {error}")
    release, drained = "", {}
    try:
        release, drained = desired.read_release() or "", desired.read_drained()
    except (OSError, desired.Corrupt) as error:
        problems.append(f"the desired state can't be read: {error}")
    try:
        history = deploys.read()[::-1]
    except (OSError, UnicodeDecodeError) as error:
        history = []
        problems.append(f"the record of deploys can't be read: {error}")
    scaler, fleet = "phoenix_metrics.autoscaler_", "phoenix_fleet.capacity"
    return Picture(
        present,
        problems,
        found,
        raised,
        [line(ask, f"{scaler}requests_per_second", "value", "requests per second", present)],
        [
            line(ask, fleet, "wanted", "wanted", present),
            line(ask, fleet, "running", "running", present),
            line(ask, f"{scaler}desired", "value", "required by the load", present),
        ],
        release,
        drained,
        history,
        published.read_status(),
        record.read(),
    )
