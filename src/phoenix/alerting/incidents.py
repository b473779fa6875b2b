"""What is wrong, from the first raise of an alarm to the message that it is over. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

# Names of fields before 0.9.0, as a state on disk may have them.
RENAMED = {"told": "reported", "told_status": "reported_status"}
SEVERITY = {"WARNING": 1, "CRITICAL": 2}


@dataclass(frozen=True)
class Settings:
    """What the operator sets; seconds and counts."""

    group_seconds: float = 3.0  # what comes within this time is one message
    burst: int = 6  # messages that a role gets at once; then one every refill_seconds, holding all that came
    refill_seconds: float = 60.0
    remind_seconds: float = 3600.0  # between reminders of a critical alarm
    give_up_seconds: float = 86400.0  # an undelivered message is dropped after this
    runbook: str = "docs/runbook.md"


@dataclass
class Incident:
    """One alarm on one chart of one host, from its first raise to the message that it is over."""

    role: str
    host: str
    alarm: str
    chart: str
    info: str
    status: str
    value: str
    since: float  # raised at
    noticed: float  # something unreported has been known since
    reported: float = 0.0  # last message about it; 0: none yet
    reported_status: str = ""
    cleared: float = 0.0
    absent: float = 0.0  # not among Netdata's active alarms since


@dataclass
class State:
    """Everything that `decide` remembers."""

    incidents: dict[str, Incident] = field(default_factory=dict)
    tokens: dict[str, float] = field(default_factory=dict)  # by role
    refilled: float = 0.0

    @staticmethod
    def load(data: Mapping[str, Any]) -> State:
        """The state as it was written, also by another version: unknown fields are left out, renamed ones are read."""
        known = {f.name for f in fields(Incident)}
        incidents = {}
        for key, values in data.get("incidents", {}).items():
            try:
                named = {RENAMED.get(name, name): value for name, value in values.items()}
                incidents[key] = Incident(**{name: value for name, value in named.items() if name in known})
            except (AttributeError, TypeError):
                continue
        return State(incidents, dict(data.get("tokens", {})), float(data.get("refilled", 0.0)))


def apply(state: State, event: Mapping[str, str], now: float) -> None:
    """Note one event of Netdata's; statuses without a verdict (REMOVED, UNDEFINED) change nothing."""
    key = "/".join((event["host"], event["chart"], event["alarm"]))
    status, incident = event["status"], state.incidents.get(key)
    if status in SEVERITY:
        if incident is None:
            named: dict[str, Any] = {name: event[name] for name in ("role", "host", "alarm", "chart", "info")}
            incident = Incident(**named, status=status, value="", since=float(event["when"]), noticed=now)
            state.incidents[key] = incident
        elif SEVERITY[status] > SEVERITY[incident.status]:
            incident.noticed = now
        # Back before its end was reported: still the same incident.
        incident.cleared = incident.absent = 0.0
        incident.status, incident.value = status, event["value"]
    elif status == "CLEAR" and incident is not None and not incident.cleared:
        incident.cleared, incident.value = max(float(event["when"]), incident.since), event["value"]
        if incident.reported:
            incident.noticed = now


def unreported(incident: Incident, now: float, settings: Settings) -> str:
    """What has to be reported: raised, worse, reminder, cleared, brief (came and went), or "" for nothing."""
    if incident.cleared:
        return "cleared" if incident.reported else "brief"
    if not incident.reported:
        return "raised"
    if SEVERITY[incident.status] > SEVERITY[incident.reported_status]:
        return "worse"
    if incident.status == "CRITICAL" and now - incident.reported >= settings.remind_seconds:
        return "reminder"
    return ""
