"""What the daemon reads and keeps on disk: the fleet's lock (not its own), its decisions, its status for people."""

import json
import logging
from collections import deque
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from phoenix.autoscaler.policy import Decision
from phoenix.common import files
from phoenix.state import lock as fleet_lock

KEPT = 1000
log = logging.getLogger(__name__)


class NullLock:
    """No lock at all, for where there is no fleet."""

    def reason(self) -> str:
        return ""


class FleetLock:
    """The fleet's lock, as far as it concerns who may scale."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._readable = True

    def reason(self) -> str:
        """Why nothing may be changed now; "" when something may."""
        try:
            lock = fleet_lock.holder(self._folder)
        except OSError as error:
            if self._readable:
                log.warning("the lock can't be read", extra={"error": str(error)})
            self._readable = False
            return ""  # scale.yml asks for it again, as root
        self._readable = True
        return f"frozen: {lock.holder} holds the lock for {lock.purpose} since {lock.since}" if lock else ""


def write(path: Path, text: str) -> bool:
    """Replace a file in one step. A full disk costs the file, never the daemon; False then."""
    try:
        files.replace(path, text)
    except OSError as error:
        log.error("a file could not be written", extra={"path": str(path), "error": str(error)})
        return False
    return True


class Decisions:
    """The last 1,000 decisions that differ, with their inputs; also on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: deque[dict[str, Any]] = deque(maxlen=KEPT)
        try:
            for line in path.read_text(encoding="utf-8").splitlines():
                self._kept.append(dict(json.loads(line)))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError) as error:
            log.warning("earlier decisions can't be read; put aside", extra={"path": str(path), "error": str(error)})
            self._kept.clear()
            try:
                path.replace(path.with_suffix(".corrupt"))
            except OSError:
                log.warning("they could not be put aside either", extra={"path": str(path)})
        self._lines = len(self._kept)

    def add(self, decision: Decision, capacity: int, **inputs: Any) -> bool:
        """Keep a decision; False when it only repeats the last one, which then counts one more."""
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
        """Write all of them, repeats included."""
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
            log.error("a decision could not be kept on disk", extra={"error": str(error)})


def write_status(path: Path, status: dict[str, Any]) -> bool:
    """For people, through status.yml; readable by all."""
    return write(path, json.dumps(status) + "\n")
