"""Wait until no request is in flight on ports of this host's instances, which load balancers have stopped using.

A request has a connection, and a reloaded nginx closes idle ones at once: no established connection from elsewhere
means no request. Connections over the loopback are this host's own probes.
Exit status: 0 none is left; 1 some were left after the time-out, and are named.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
ESTABLISHED = "01"
INTERVAL = 0.05
# A single check could fall between two requests of a worker that is about to end.
QUIET_SECONDS = 0.3


def loopback(address: str) -> bool:
    """Whether an address is a loopback one, as /proc/net/tcp{,6} writes it (hexadecimal, in the host's byte order)."""
    if len(address) == 8:
        return address.endswith("7F")
    mapped = address.startswith("0000000000000000FFFF0000") and address.endswith("7F")
    return mapped or address == "00000000000000000000000001000000"


def count(lines: Iterable[str], ports: Iterable[int]) -> dict[int, int]:
    """{port: established connections to it from other hosts}, from lines of /proc/net/tcp{,6}."""
    found = dict.fromkeys(ports, 0)
    for line in lines:
        fields = line.split()
        if len(fields) < 4 or fields[3] != ESTABLISHED:
            continue
        port = int(fields[1].rpartition(":")[2], 16)
        if port in found and not loopback(fields[2].rpartition(":")[0]):
            found[port] += 1
    return found


def look(ports: Iterable[int]) -> dict[int, int]:
    """The same, now."""
    return count((line for table in TABLES if table.exists() for line in table.read_text().splitlines()[1:]), ports)


def wait(ports: Sequence[int], timeout: float) -> dict[int, int]:
    """Wait until no request is in flight; {port: connections} that are still open after timeout seconds, reported."""
    start = quiet_since = time.monotonic()
    while True:
        left = {port: number for port, number in look(ports).items() if number}
        now = time.monotonic()
        if left:
            quiet_since = now
        elif now - quiet_since >= QUIET_SECONDS:
            return {}
        if now - start >= timeout:
            seen = ", ".join(f"{number} on port {port}" for port, number in left.items()) or "none just now"
            print(f"Connections still open after {timeout:.0f} s: {seen}", file=sys.stderr)
            return left or dict.fromkeys(ports, 0)
        time.sleep(INTERVAL)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ports", type=int, nargs="+")
    parser.add_argument("--timeout", type=float, default=60, help="seconds")
    options = parser.parse_args(arguments)
    return int(bool(wait(options.ports, options.timeout)))
