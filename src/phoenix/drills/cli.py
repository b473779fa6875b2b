"""phoenixctl drill run NAME    carry out a drill, unless a play holds the fleet's lock or an alarm is open
phoenixctl drill schedule NAME...    which drills have a schedule, for the alarm on one that has not succeeded for long
phoenixctl drill show    what came of each

Exit status of run: 0 good, 1 failed, 75 refused for now.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from phoenix.alerting import netdata
from phoenix.drills import acts, record
from phoenix.state import lock

CONFIGURATION = Path("/etc/phoenix/drills.json")
USAGE = 64
# Those that change what clients are served by: no play may begin meanwhile.
EXCLUSIVE = ("balancer",)
LEASE_S = 600.0
# Of the drills themselves: with one that failed, none could ever succeed again.
OWN = ("phoenix_drill_failed", "phoenix_drill_late")


class Refused(Exception):
    """It is no time for a drill; the message says why."""


def open_alarms(known: Mapping[str, Mapping[str, dict[str, str]] | None]) -> list[str]:
    """What speaks against a drill, of what Netdata says of each host; a host without an answer may have any alarm."""
    silent = [f"Netdata does not say which alarms {host} has" for host, events in known.items() if events is None]
    raised = [
        f"{event['host']}: {event['alarm']}"
        for events in known.values()
        for event in (events or {}).values()
        if event["status"] in ("WARNING", "CRITICAL") and event["alarm"] not in OWN
    ]
    return silent + sorted(set(raised))


def _check_alarms(hosts: Iterable[str]) -> None:
    """Raises Refused."""
    if found := open_alarms(netdata.active_alarms(hosts)):
        raise Refused(f"alarms are open: {', '.join(found)}")


@contextmanager
def _turn(name: str) -> Iterator[None]:
    """The fleet's lock for a drill that needs it, and for others that nobody holds it. Raises Refused."""
    if name not in EXCLUSIVE:
        if (held := lock.holder()) is not None:
            raise Refused(f"the fleet's lock is {lock.describe(held)}")
        yield
        return
    token, other = lock.acquire(lock.FOLDER, f"the drill {name}", "deploy", LEASE_S)
    if not token:
        raise Refused(f"the fleet's lock is {lock.describe(other)}")
    try:
        yield
    finally:
        lock.release(lock.FOLDER, token)


def run(name: str, settings: Mapping[str, Any]) -> int:
    begun, started = time.monotonic(), time.time()
    try:
        _check_alarms(settings["hosts"])
        with _turn(name):
            result, text = record.GOOD, acts.ACTS[name](acts.Scene(settings["url"], time.time()))
    except Refused as error:
        result, text = record.REFUSED, str(error)
    except (acts.Failed, OSError, ValueError, KeyError) as error:
        kind = "" if isinstance(error, acts.Failed) else f"{type(error).__name__}: "
        result, text = record.FAILED, f"{kind}{error}"
    now = time.time()
    # Read only now: a restore takes hours, and other drills end meanwhile.
    known = record.scheduled(record.read(), settings["drills"], started)
    before = known.get(name, record.Entry(now))
    record.write({**known, name: record.ended(before, result, text, time.monotonic() - begun, now)})
    print(f"{name}: {result}: {text}", flush=True)
    return {record.GOOD: 0, record.FAILED: 1, record.REFUSED: 75}[result]


def show() -> int:
    for name, entry in sorted(record.read().items()):
        print(f"{name}: {entry.result or 'not yet'} {entry.text}")
    return 0


def main(arguments: list[str]) -> int:
    if len(arguments) == 2 and arguments[0] == "run" and arguments[1] in acts.ACTS:
        return run(arguments[1], json.loads(CONFIGURATION.read_text(encoding="utf-8")))
    if arguments[:1] == ["schedule"] and set(arguments[1:]) <= set(acts.ACTS):
        record.write(record.scheduled(record.read(), arguments[1:], time.time()))
        return 0
    if arguments == ["show"]:
        return show()
    print(f"{__doc__}\nDrills: {', '.join(acts.ACTS)}", file=sys.stderr)
    return USAGE
