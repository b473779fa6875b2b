"""How incidents are worded: for people, and for the webhook. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from phoenix.alerting.incidents import SEVERITY, Incident, Settings


@dataclass(frozen=True)
class Message:
    """One notification of a role; `alarms` are its parts, as the webhook receives them."""

    id: str
    role: str
    created: float
    subject: str
    text: str
    alarms: list[dict[str, Any]]


def lasted(seconds: float) -> str:
    """A duration for people: 75 -> "1 min 15 s"."""
    whole = round(seconds)
    parts = ((whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def part(incident: Incident, kind: str, now: float, settings: Settings) -> dict[str, Any]:
    """One incident as the webhook gets it. The alarm's `info` is "what | threshold"."""
    what, _, threshold = (piece.strip() for piece in incident.info.partition("|"))
    return {
        "event": kind,
        "host": incident.host,
        "alarm": incident.alarm,
        "what": f"{what} ({incident.chart.partition('.')[2]})",
        "status": "CLEAR" if incident.cleared else incident.status,
        "value": incident.value,
        "threshold": threshold,
        "since": when(incident.since),
        "lasted": lasted((incident.cleared or now) - incident.since),
        "runbook": f"{settings.runbook}#alarm-{incident.alarm}",
    }


HEADS = {
    "raised": "{status}",
    "worse": "now {status}",
    "reminder": "still {status}",
    "cleared": "CLEAR after {lasted}",
    "brief": "came and went, lasted {lasted}",
}


def compose(role: str, parts: list[tuple[Incident, str]], now: float, settings: Settings) -> Message:
    """One message about all parts, the most severe first."""
    ordered = sorted(parts, key=lambda p: (bool(p[0].cleared), -SEVERITY[p[0].status], p[0].host, p[0].alarm))
    alarms = [part(incident, kind, now, settings) for incident, kind in ordered]
    heads = [HEADS[a["event"]].format(**a) for a in alarms]
    first = f"{heads[0]}: {alarms[0]['host']}: {alarms[0]['what']} = {alarms[0]['value']}"
    more = f" (and {len(alarms) - 1} more)" if len(alarms) > 1 else ""
    blocks = [
        f"{head}: {a['what']}\n"
        f"  host       {a['host']}\n"
        f"  value      {a['value']}\n"
        f"  threshold  {a['threshold']}\n"
        f"  since      {a['since']} ({a['lasted']})\n"
        f"  runbook    {a['runbook']}\n"
        for head, a in zip(heads, alarms)
    ]
    subject = " ".join(f"[Phoenix] {first}{more}".split())  # a mail's header is one line
    return Message(f"{int(now * 1000)}-{role}", role, now, subject, "\n".join(blocks), alarms)


def undelivered(channel: str, message: Message, reason: str, now: float, settings: Settings) -> Message:
    """For the other channels: what one of them gave up, and why. It has no alarms of its own."""
    subject = f"[Phoenix] {channel} did not deliver: {message.subject.removeprefix('[Phoenix] ')}"
    text = (
        f"The channel {channel} gave up this message:\n"
        f"  reason     {reason}\n"
        f"  runbook    {settings.runbook}#alarm-phoenix_notify_refused\n\n{message.text}"
    )
    return Message(f"{int(now * 1000)}-{channel}-{message.id}", message.role, now, subject, text, [])
