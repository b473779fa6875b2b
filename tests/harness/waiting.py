"""Waiting for a condition, and the median of measurements."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait until the condition holds and return how long that took, in seconds."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"{what}: not within {seconds} s"
        time.sleep(0.1)
    return time.monotonic() - start


def median(values: Sequence[float]) -> float:
    """Return the middle value; of an even number of values, the upper of the two."""
    return sorted(values)[len(values) // 2]
