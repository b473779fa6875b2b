"""What Netdata itself holds to be wrong, for events that its hook has lost."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from phoenix.alerting.incidents import State

NETDATA = "http://127.0.0.1:19999"
TIMEOUT_S = 10.0
RECONCILE_S = 60.0
# Longer than any delay that Netdata gives to a clear: then the clear is lost (Netdata was restarted, a chart is gone).
LOST_S = 900.0

Active = Mapping[str, Mapping[str, dict[str, str]] | None]


def ask(path: str) -> Any:
    with urllib.request.urlopen(NETDATA + path, timeout=TIMEOUT_S) as answer:
        return json.load(answer)


def active_alarms(hosts: Iterable[str], ask: Callable[[str], Any] = ask) -> Active:
    """What Netdata holds active, by host and key, as events; None for a host without an answer, {} for a lost one."""
    active: dict[str, Mapping[str, dict[str, str]] | None] = {}
    for host in hosts:
        try:
            alarms = ask(f"/host/{host}/api/v1/alarms?active")["alarms"].values()
        except urllib.error.HTTPError as error:
            active[host] = {} if error.code == 404 else None
        except (OSError, ValueError, KeyError):
            active[host] = None
        else:
            active[host] = {
                "/".join((host, alarm["chart"], alarm["name"])): {
                    "role": alarm["recipient"],
                    "host": host,
                    "when": str(alarm["last_status_change"]),
                    "alarm": alarm["name"],
                    "chart": alarm["chart"],
                    "status": alarm["status"],
                    "info": alarm["info"],
                    "value": alarm["value_string"],
                }
                for alarm in alarms
            }
    return active


def missed(state: State, active: Active, now: float) -> list[dict[str, str]]:
    """Events that Netdata did not pass on: raises that were never reported, and clears that never came.

    A clear is missed when the alarm has not been active for longer than Netdata delays any; marks the absent.
    """
    events = [
        event
        for known in active.values()
        for key, event in (known or {}).items()
        # A younger one may just be on its way.
        if key not in state.incidents and now - float(event["when"]) >= RECONCILE_S
    ]
    for key, incident in state.incidents.items():
        known = active.get(incident.host)
        if incident.cleared or known is None:
            continue
        if key in known:
            incident.absent = 0.0
        elif not incident.absent:
            incident.absent = now
        elif now - incident.absent >= LOST_S:
            gone = {"host": incident.host, "chart": incident.chart, "alarm": incident.alarm, "status": "CLEAR"}
            events.append({**gone, "when": str(incident.absent), "value": "gone"})
    return events
