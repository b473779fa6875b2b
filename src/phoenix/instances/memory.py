"""The memory of instances, sampled while a canary is watched."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from phoenix.common import systemd
from phoenix.instances import units

MB = 2**20


def sample(ports: Sequence[int], seconds: float) -> dict[int, dict[str, Any]]:
    """For each port: samples as [seconds, MB], how often its process ended meanwhile, and its limit (MB; 0: none)."""
    found: dict[int, list[list[float]]] = {port: [] for port in ports}
    before = {port: units.restarts(port) for port in ports}
    start = time.monotonic()
    while True:
        for port, samples in found.items():
            if used := _bytes(port, "MemoryCurrent"):
                samples.append([round(time.monotonic() - start, 1), round(used / MB, 1)])
        if time.monotonic() - start >= seconds:
            break
        time.sleep(1)
    return {
        port: {
            "samples": samples,
            "ended": units.restarts(port) - before[port],
            "max_mb": _bytes(port, "MemoryMax") / MB,
        }
        for port, samples in found.items()
    }


def _bytes(port: int, name: str) -> int:
    """A property in bytes; 0 where systemd reports no value, or no limit."""
    shown = systemd.show(name, units.UNIT.format(port))[0].get(name, "")
    return int(shown) if shown.isdigit() else 0
