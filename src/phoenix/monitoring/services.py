"""What systemd and the kernel know of a host's services."""

from __future__ import annotations

import fnmatch
import os
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

from phoenix.common import systemd
from phoenix.monitoring.charts import Chart, Collector


def unit_states(shown: str) -> dict[str, tuple[str, int]]:
    """Of `systemctl show -p Id,LoadState,Type,ActiveState,NRestarts`: unit -> (state, restarts).

    Without those of the type oneshot: their restarts are attempts, and the last failed one leaves them failed.
    """
    states = {}
    # A unit that is named and not installed has no state either.
    for values in systemd.parse(shown):
        if values.get("LoadState") == "loaded" and values.get("Type") not in (None, "oneshot"):
            states[values["Id"]] = (values.get("ActiveState", ""), int(values.get("NRestarts") or 0))
    return states


class ServiceCpu(Collector):
    """CPU of services, in percent of what each can use: one core if it has one thread, else all of the host's.

    `parallel` are the patterns of those with many threads. The kernel counts for each control group of the unified
    hierarchy, also where no controller is enabled.
    """

    interval = 2
    rescan_s = 10.0

    def __init__(self, patterns: list[str], parallel: list[str]) -> None:
        self.patterns, self.parallel = patterns, parallel
        self.cores = os.cpu_count() or 1
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
                if any(fnmatch.fnmatch(unit, pattern) for pattern in self.parallel):
                    share /= self.cores
                yield Chart(
                    f"phoenix_cpu.{unit.removesuffix('.service')}",
                    f"CPU of {unit}",
                    "% of what it can use",
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
        command = ["systemctl", "show", "--property=Id,LoadState,Type,ActiveState,NRestarts", "--", *self.patterns]
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


class StoppedUnits(Collector):
    """For how long units that are enabled have not been running: stopped by hand, or never started at boot.

    Of services, timers, sockets and paths alike. One that was stopped is shown as long as the plugin runs.
    """

    interval = 30

    def __init__(self, patterns: list[str]) -> None:
        self.patterns = patterns
        self.since: dict[str, float | None] = {}  # of each unit that was ever stopped, None while it runs

    def collect(self, now: float) -> Iterator[Chart]:
        command = ["systemctl", "list-unit-files", "--state=enabled", "--plain", "--no-legend", "--", *self.patterns]
        done = subprocess.run(command, capture_output=True, text=True, timeout=8, check=False)
        # Without a match it fails too, and prints nothing.
        if done.returncode != 0 and done.stderr.strip():
            raise OSError(done.stderr.strip())
        # A template's instances are wanted only where they are enabled, and have alarms of their own.
        units = [line.split()[0] for line in done.stdout.splitlines() if line.strip() and "@." not in line.split()[0]]
        stopped = set()
        if units:
            shown = ["systemctl", "show", f"--property={','.join(STATE)}", "--", *units]
            output = subprocess.run(shown, capture_output=True, text=True, timeout=8, check=True).stdout
            stopped = {values["Id"] for values in systemd.parse(output) if is_stopped(values)}
        for unit in stopped | set(self.since):
            if unit not in stopped:
                self.since[unit] = None
            elif self.since.get(unit) is None:
                self.since[unit] = now
        for unit, since in sorted(self.since.items()):
            yield Chart(
                f"phoenix_stopped.{unit.removesuffix('.service')}",
                f"For how long {unit} has not been running",
                "seconds",
                "phoenix.stopped_unit",
                {"stopped": 0.0 if since is None else now - since},
            )


STATE = ("Id", "Type", "RemainAfterExit", "ActiveState", "SubState", "ConditionResult", "ConditionTimestampMonotonic")


def is_stopped(values: Mapping[str, str]) -> bool:
    """Whether an enabled unit does not do what it is enabled for, of what `systemctl show` prints of it.

    A failed one is reported as such. A timer without a next time has "elapsed". A unit whose condition is not met (a
    container, say) is not to run; before its first start no condition was checked.
    """
    if values.get("ActiveState") == "active":
        return values.get("SubState") == "elapsed"
    if values.get("ActiveState") != "inactive":
        return False
    if values.get("ConditionResult") == "no" and values.get("ConditionTimestampMonotonic", "0") != "0":
        return False
    # It runs and ends.
    return (values.get("Type"), values.get("RemainAfterExit")) != ("oneshot", "no")
