"""What came of each drill: kept in a file for the status page, and as gauges for the alarms."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from phoenix.common import files, prometheus

FILE = Path("/var/lib/phoenix/drills.json")
METRICS = Path("/var/lib/phoenix/metrics/drills.prom")
GAUGES = {
    "phoenix_drills_failed": "Drills on a schedule whose last run failed.",
    "phoenix_drills_oldest_success_timestamp_seconds": "The last success of the drill that is without one for longest.",
}
GOOD, FAILED, REFUSED = "good", "failed", "refused"


@dataclass(frozen=True)
class Entry:
    """A drill's last run. Times in seconds since 1970; since: it is on a schedule; 0.0 and "" before the first run."""

    since: float
    at: float = 0.0
    result: str = ""
    text: str = ""
    seconds: float = 0.0
    succeeded: float = 0.0


Record = Mapping[str, Entry]


def read(path: Path = FILE) -> dict[str, Entry]:
    """The record; {} without one, or where it is damaged, as the next run of each drill writes it again."""
    try:
        return {name: Entry(**entry) for name, entry in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def scheduled(record: Record, names: Collection[str], now: float) -> dict[str, Entry]:
    """The record of exactly these drills."""
    return {name: record.get(name, Entry(now)) for name in names}


def ended(entry: Entry, result: str, text: str, seconds: float, now: float) -> Entry:
    """A run's outcome. One that was refused says so, and leaves what the last one came to."""
    if result == REFUSED:
        last = entry.result if entry.result in (GOOD, FAILED) else ""
        return replace(entry, text=f"refused {_moment(now)}: {text}", result=last)
    succeeded = now if result == GOOD else entry.succeeded
    return replace(entry, at=now, result=result, text=text, seconds=round(seconds, 1), succeeded=succeeded)


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


def gauges(record: Record) -> dict[str, float]:
    values = {"phoenix_drills_failed": float(sum(entry.result == FAILED for entry in record.values()))}
    if record:
        oldest = min(entry.succeeded or entry.since for entry in record.values())
        values["phoenix_drills_oldest_success_timestamp_seconds"] = round(oldest)
    return values


def write(record: Record) -> None:
    text = json.dumps({name: asdict(entry) for name, entry in sorted(record.items())}, indent=1)
    files.replace(FILE, text + "\n", durable=True)
    files.replace(METRICS, prometheus.exposition(gauges(record), GAUGES))
