"""What systemd and the kernel know of a host's services."""

from __future__ import annotations

import fnmatch
import os
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from phoenix.common import systemd
from phoenix.monitoring.charts import Chart, Collector


def unit_states(shown: str) -> dict[str, tuple[str, int]]:
    """Of `systemctl show -p Id,LoadState,ActiveState,NRestarts`: unit -> (state, restarts)."""
    states = {}
    # A unit that is named and not installed has no state either.
    for values in systemd.parse(shown):
        if values.get("LoadState") == "loaded":
            states[values["Id"]] = (values.get("ActiveState", ""), int(values.get("NRestarts") or 0))
    return states


class ServiceCpu(Collector):
    """CPU of services, in percent of one core, however many the host has: a single-threaded process ends at 100.

    The kernel counts it for each control group of the unified hierarchy, also where no controller is enabled.
    """

    interval = 2
    rescan_s = 10.0

    def __init__(self, patterns: list[str]) -> None:
        self.patterns = patterns
        unified = Path("/sys/fs/cgroup/unified")
        self.root = (unified if unified.is_dir() else Path("/sys/fs/cgroup")) / "system.slice"
        self.scanned = float("-inf")
        self.files: dict[str, Path] = {}
        self.last: dict[str, tuple[float, int]] = {}

    def scan(self) -> dict[str, Path]:
        found = {}
        for folder in (self.root, *(entry for entry in self.root.iterdir() if entry.name.endswith(".slice"))):
            for entry in os.scandir(folder):
                if entry.name.endswith(".service") and any(fnmatch.fnmatch(entry.name, p) for p in self.patterns):
                    found[entry.name] = Path(entry.path, "cpu.stat")
        return found

    def collect(self, now: float) -> Iterator[Chart]:
        if now - self.scanned >= self.rescan_s:
            self.files, self.scanned = self.scan(), now
        for unit, file in list(self.files.items()):
            try:
                used = int(file.read_text(encoding="ascii").split(None, 2)[1])
            except FileNotFoundError:
                # Ended, or just being restarted: looked for again at the next collection.
                del self.files[unit]
                self.scanned = float("-inf")
                continue
            at = time.monotonic()
            then, before = self.last.get(unit, (at, used))
            self.last[unit] = (at, used)
            if at > then:
                # A restarted unit counts from zero again.
                share = (used - before if used >= before else used) / (at - then) / 1e4
                yield Chart(
                    f"phoenix_cpu.{unit.removesuffix('.service')}",
                    f"CPU of {unit}",
                    "% of one core",
                    "phoenix.service_cpu",
                    {"cpu": share},
                )


class ServiceRestarts(Collector):
    """Restarts of services by systemd in the last five minutes, and how many ordinary instances run."""

    interval = 10
    window_s = 300.0

    def __init__(self, patterns: list[str], ordinary: list[str]) -> None:
        self.patterns, self.ordinary = patterns, ordinary
        self.last: dict[str, int] = {}
        self.seen: dict[str, deque[tuple[float, int]]] = {}

    def collect(self, now: float) -> Iterator[Chart]:
        command = ["systemctl", "show", "--property=Id,LoadState,ActiveState,NRestarts", "--", *self.patterns]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=8, check=True).stdout
        states = unit_states(shown)
        for unit, (_, restarts) in states.items():
            # A start by hand or by a roll-out starts the count at zero, and is no crash.
            new = max(0, restarts - self.last.get(unit, restarts))
            self.last[unit] = restarts
            recent = self.seen.setdefault(unit, deque())
            recent.append((now, new))
            while recent and recent[0][0] < now - self.window_s:
                recent.popleft()
            yield Chart(
                f"phoenix_restarts.{unit.removesuffix('.service')}",
                f"Restarts of {unit} in five minutes",
                "restarts",
                "phoenix.service_restarts",
                {"restarts": sum(count for _, count in recent)},
            )
        if self.ordinary:
            running = sum(states.get(unit, ("", 0))[0] == "active" for unit in self.ordinary)
            yield Chart(
                "phoenix_fleet.instances",
                "Ordinary instances that run here",
                "instances",
                "phoenix.instances",
                {"running": running},
            )


class FailedUnits(Collector):
    """Units in the state `failed`, of whatever kind; one that was is shown as long as the plugin runs."""

    interval = 10

    def __init__(self, may_fail: list[str]) -> None:
        self.may_fail = may_fail
        self.seen: set[str] = set()

    def collect(self, now: float) -> Iterator[Chart]:
        command = ["systemctl", "list-units", "--state=failed", "--all", "--full", "--plain", "--no-legend"]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=8, check=True).stdout
        failed = {line.split()[0] for line in shown.splitlines() if line.strip()}
        failed = {unit for unit in failed if not any(fnmatch.fnmatch(unit, pattern) for pattern in self.may_fail)}
        self.seen |= failed
        for unit in sorted(self.seen):
            yield Chart(
                f"phoenix_failed.{unit.removesuffix('.service')}",
                f"Whether {unit} has failed",
                "yes (1) or no (0)",
                "phoenix.failed_unit",
                {"failed": unit in failed},
            )
