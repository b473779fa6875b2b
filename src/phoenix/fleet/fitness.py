"""Whether a host has what the fleet needs of any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def errors(
    facts: Mapping[str, Any], distributions: Sequence[Any], disk_mb: int, least_disk_mb: int, least_memory_mb: int
) -> list[str]:
    """What is wrong with a host: its distribution, the free space on /, and its memory."""
    wrong = [*_distribution(facts, [str(one) for one in distributions])]
    return [*wrong, *_room(facts, disk_mb, least_disk_mb, least_memory_mb)]


def _distribution(facts: Mapping[str, Any], supported: Sequence[str]) -> Iterator[str]:
    name, version = facts["distribution"], str(facts["distribution_major_version"])
    if name != "Debian" or version not in supported:
        yield (
            f"distribution: {name} {version} isn't supported; install Debian {', '.join(supported)} "
            "(preflight_distribution_versions)"
        )


def _room(facts: Mapping[str, Any], disk_mb: int, least_disk_mb: int, least_memory_mb: int) -> Iterator[str]:
    if int(disk_mb) < int(least_disk_mb):
        yield (
            f"free disk space on /: {disk_mb} MiB is below preflight_min_disk_mb={least_disk_mb}; "
            "free some space, or enlarge the disk"
        )
    if int(facts["memtotal_mb"]) < int(least_memory_mb):
        yield (
            f"memory: {facts['memtotal_mb']} MiB is below preflight_min_memory_mb={least_memory_mb}; "
            "give the host more memory"
        )
