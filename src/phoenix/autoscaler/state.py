"""What the daemon reads and keeps on disk: the fleet's lock (not its own), its decisions, its status for people."""

import json
import logging
import time
from collections import deque
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from phoenix.autoscaler.policy import Decision
from phoenix.common import files
from phoenix.state import desired
from phoenix.state import hold as capacity_hold
from phoenix.state import lock as fleet_lock

KEPT = 1000
log = logging.getLogger(__name__)


class NullLock:
    """No lock, for a run without a fleet."""

    def reason(self) -> str:
        return ""

    def maintenance(self) -> bool:
        return False


class FleetLock:
    """Whether the fleet's lock, and an operator's hold, allow scaling."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._readable = True
        self._damage = ""

    def maintenance(self) -> bool:
        """Whether load balancers answer clients themselves: the rate says nothing then."""
        return desired.read_maintenance(self._folder)

    def reason(self) -> str:
        """Why nothing may be changed now; "" if nothing prevents it."""
        try:
            lock = fleet_lock.holder(self._folder)
        except OSError as error:
            if self._readable:
                log.warning("the fleet lock can't be read", extra={"error": str(error)})
            self._readable = False
            return ""  # scale.yml takes it anyway, as root
        self._readable = True
        if lock:
            return f"frozen: {lock.holder} holds the lock for {lock.purpose} since {lock.since}"
        if self.maintenance():
            return "frozen: maintenance, in which clients reach no instance"
        return self._held()

    def _held(self) -> str:
        try:
            hold, damage = capacity_hold.read(time.time(), self._folder), ""
        except (OSError, ValueError) as error:
            hold, damage = None, str(error)
        if damage and damage != self._damage:
            log.warning("the hold can't be read and does not apply", extra={"error": damage})
        self._damage = damage
        return hold.text() if hold else ""


def write(path: Path, text: str) -> bool:
    """Replace a file atomically; False if that fails, for example on a full disk: the daemon continues without it."""
    try:
        files.replace(path, text)
    except OSError as error:
        log.error("cannot write the file", extra={"path": str(path), "error": str(error)})
        return False
    return True


class Decisions:
    """The last 1,000 distinct decisions with their inputs, in memory and on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: deque[dict[str, Any]] = deque(maxlen=KEPT)
        try:
            for line in path.read_text(encoding="utf-8").splitlines():
                self._kept.append(dict(json.loads(line)))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError) as error:
            log.warning(
                "earlier decisions can't be read and are moved aside", extra={"path": str(path), "error": str(error)}
            )
            self._kept.clear()
            try:
                path.replace(path.with_suffix(".corrupt"))
            except OSError:
                log.warning("they can't be moved aside either", extra={"path": str(path)})
        self._lines = len(self._kept)

    def add(self, decision: Decision, capacity: int, **inputs: Any) -> bool:
        """Keep a decision; False if it repeats the last one, whose `repeats` then grows by one."""
        last = self._kept[-1] if self._kept else {}
        same = ("action", "count", "cause")
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        values = asdict(decision)
        if decision.action == "hold" and all(last.get(name) == values[name] for name in same):
            last["repeats"], last["until"] = last.get("repeats", 0) + 1, now
            return False
        self._kept.append({"time": now, "capacity": capacity, **values, **inputs})
        self._append()
        return True

    def last(self, number: int) -> list[dict[str, Any]]:
        return list(self._kept)[-number:]

    def flush(self) -> None:
        """Write all decisions to disk, with the number of their repeats."""
        if write(self._path, "".join(json.dumps(one) + "\n" for one in self._kept)):
            self._lines = len(self._kept)

    def _append(self) -> None:
        if self._lines >= 2 * KEPT:
            self.flush()
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self._kept[-1]) + "\n")
            self._lines += 1
        except OSError as error:
            log.error("cannot write the decision to disk", extra={"error": str(error)})


def write_status(path: Path, status: dict[str, Any]) -> bool:
    """Write what status.yml shows; readable by all."""
    return write(path, json.dumps(status) + "\n")
