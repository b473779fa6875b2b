"""The host itself: that it is alive, and its disks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from phoenix.monitoring.charts import Chart, Collector


class Beat(Collector):
    """A sign that this host's agent and this plugin run; the parent watches for it."""

    def collect(self, now: float) -> Iterator[Chart]:
        yield Chart("phoenix_agent.beat", "Agent alive", "beats", "phoenix.beat", {"alive": 1})


@dataclass(frozen=True)
class Mount:
    """A file system at its shortest mount point, with its own options, not those of this mount of it."""

    point: str
    options: Sequence[str]


def mounts(mountinfo: str) -> list[Mount]:
    """Each file system once: the mounts of Netdata's own sandbox show the same one again and again.

    mountinfo: as in proc(5), /proc/pid/mountinfo. Without what the kernel or a unit makes for itself, but with /run.
    """
    found: dict[str, Mount] = {}
    for line in mountinfo.splitlines():
        mount, _, system = line.partition(" - ")
        device, point = mount.split()[2], mount.split()[4]
        kind, options = system.split()[0], system.split()[-1]
        if point.startswith(("/dev", "/proc", "/run/", "/sys")) or kind in IMAGES:
            continue
        if device not in found or len(point) < len(found[device].point):
            found[device] = Mount(point, options.split(","))
    return list(found.values())


# File systems that are full by nature.
IMAGES = ("iso9660", "squashfs", "erofs", "udf")


class Disks(Collector):
    """Space and inodes of each file system, and whether the kernel made it read-only, as after an error of its disk."""

    interval = 10

    def __init__(self) -> None:
        self.writable: set[str] = set()  # mount points that were

    def became_read_only(self, mount: Mount) -> bool:
        """Whether it is so against its purpose: it was writable, or is one that errors make read-only."""
        if "ro" not in mount.options:
            self.writable.add(mount.point)
            return False
        return mount.point in self.writable or "errors=remount-ro" in mount.options

    def collect(self, now: float) -> Iterator[Chart]:
        for mount in mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8")):
            if not os.path.isdir(mount.point):  # noqa: PTH112 - False where it may not look
                continue
            space = os.statvfs(mount.point)
            if not space.f_blocks:
                continue
            name, unit = mount.point.strip("/").replace("/", "_") or "root", space.f_frsize / 1e9
            yield Chart(
                f"phoenix_disk.{name}",
                f"Space of {mount.point}",
                "GB",
                "phoenix.disk",
                {"available": space.f_bavail * unit, "used": (space.f_blocks - space.f_bfree) * unit},
            )
            # Some file systems (btrfs) have no fixed number of them.
            if space.f_files:
                yield Chart(
                    f"phoenix_inodes.{name}",
                    f"Inodes of {mount.point}",
                    "inodes",
                    "phoenix.inodes",
                    {"available": space.f_favail, "used": space.f_files - space.f_ffree},
                )
            yield Chart(
                f"phoenix_read_only.{name}",
                f"Whether {mount.point} is read-only",
                "yes (1) or no (0)",
                "phoenix.read_only",
                {"read_only": self.became_read_only(mount)},
            )
