"""Time that cannot jump: how long the store's machine has been running in all, in seconds.

Ages of backups are counted with it, so neither a wrong clock nor a time zone can make a dump appear older than it is.
The time during which the machine was off does not count, which keeps a dump longer and never shorter.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from phoenix.backup import files


@dataclass(frozen=True)
class Reading:
    """elapsed: seconds in all at the time of the reading; boot, since_boot: of the machine at that time."""

    elapsed: float
    boot: str
    since_boot: float


def advance(last: Reading | None, boot: str, since_boot: float, floor: float = 0.0) -> Reading:
    """Pure: the next reading. floor: the largest time that anything kept is marked with, for when the last is lost."""
    if last is None:
        return Reading(max(floor, 0.0), boot, since_boot)
    grown = since_boot - last.since_boot if boot == last.boot else since_boot
    return Reading(max(last.elapsed + max(grown, 0.0), floor), boot, since_boot)


def read(path: Path, floor: float = 0.0) -> float:
    """Seconds in all, now; the reading is kept in path. The caller holds the store's lock."""
    last: Reading | None = None
    with contextlib.suppress(OSError, ValueError, TypeError):
        last = Reading(**json.loads(path.read_text(encoding="utf-8")))
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    # CLOCK_BOOTTIME goes on while a virtual machine is suspended.
    reading = advance(last, boot, time.clock_gettime(time.CLOCK_BOOTTIME), floor)
    files.write(path, json.dumps(asdict(reading)))
    return reading.elapsed
