"""The host itself: that it is alive, and its disks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from phoenix.monitoring.charts import Chart, Collector


class Beat(Collector):
    """A sign that this host's agent and this plugin run; the parent watches for it."""

    def collect(self, now: float) -> Iterator[Chart]:
        yield Chart("phoenix_agent.beat", "Agent alive", "beats", "phoenix.beat", {"alive": 1})


class Disks(Collector):
    """Space of each file system, once: the mounts of Netdata's own sandbox show the same one again and again."""

    interval = 10
    skipped = ("/dev", "/proc", "/run", "/sys")

    def mounts(self) -> dict[str, str]:
        """Device -> its shortest mount point."""
        found: dict[str, str] = {}
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
            device, point = line.split()[2], line.split()[4]
            if point.startswith(self.skipped) or not os.path.isdir(point):  # noqa: PTH112 - False where it may not look
                continue
            if device not in found or len(point) < len(found[device]):
                found[device] = point
        return found

    def collect(self, now: float) -> Iterator[Chart]:
        for point in self.mounts().values():
            space = os.statvfs(point)
            if not space.f_blocks:
                continue
            unit = space.f_frsize / 1e9
            yield Chart(
                f"phoenix_disk.{point.strip('/').replace('/', '_') or 'root'}",
                f"Space of {point}",
                "GB",
                "phoenix.disk",
                {"available": space.f_bavail * unit, "used": (space.f_blocks - space.f_bfree) * unit},
            )
