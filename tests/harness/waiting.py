"""Waiting for a condition, and the median of measurements."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path


def wait_for(condition: Callable[[], bool], seconds: float, what: str, log: Path | None = None) -> float:
    """Wait until the condition holds and return how long that took, in seconds.

    log: whose end belongs to the message of a failure, such as that of the server that is waited for.
    """
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start >= seconds:
            told = f", and its log ends with:\n{log.read_text(errors='replace')[-2000:]}" if log else ""
            raise AssertionError(f"{what}: not within {seconds} s{told}")
        time.sleep(0.1)
    return time.monotonic() - start


def median(values: Sequence[float]) -> float:
    """Return the middle value; of an even number of values, the upper of the two."""
    return sorted(values)[len(values) // 2]
