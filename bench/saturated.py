"""Both load balancers' processors saturated for an hour: how often the floating address moved, which is a flap.

PHOENIX_MINUTES  how long (make bench THEME=saturated MINUTES=60)

The lab's containers get no real-time priority, so that its inventory says `keepalived_pace: calm`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from bench.fleet import Fleet, Row
from tests.harness.hosts import remote
from tests.harness.pair import Pair, masters

MINUTES = float(os.environ.get("PHOENIX_MINUTES", "60"))
PROCESSES = 20  # for each processor
UNIT = "phoenix-saturate"
LOG = "journalctl --unit=keepalived --output=cat --no-pager --since=@{}"


def measure(fleet: Fleet) -> list[Row]:
    pair = Pair(fleet.inventory, fleet.url)
    holder, _ = pair.roles()
    began = {name: host.check_output("date +%s.%N") for name, host in pair.hosts.items()}
    with contextlib.ExitStack() as stack:
        for host in pair.hosts.values():
            stack.enter_context(saturated(host))
        time.sleep(MINUTES * 60)
        load = max(float(host.check_output("cut -d ' ' -f 2 /proc/loadavg")) for host in pair.hosts.values())
    return rows(
        {name: host.check_output(LOG.format(began[name])) for name, host in pair.hosts.items()},
        f"in {MINUTES:g} minutes at a load average of {load:.0f}",
        pair.holders() == [holder],
    )


def rows(logs: Mapping[str, str], note: str, at_home: bool) -> list[Row]:
    """logs: of each one's keepalived, meanwhile. at_home: whether the address is where it was, and nowhere else."""
    moves = sum(map(masters, logs.values()))
    return [
        Row("processors saturated: moves of the address", moves, "", 0, note),
        Row("processors saturated: the address is where it was", int(at_home), "", 1, note),
    ]


@contextlib.contextmanager
def saturated(host: Any) -> Iterator[None]:
    """Have so many processes want a processor while the block runs."""
    runner = f"systemd-run --quiet --collect --unit={UNIT} /usr/bin/python3"
    host.check_output(remote("saturate", PROCESSES * int(host.check_output("nproc")), runner=runner))
    try:
        yield
    finally:
        host.run(f"systemctl stop {UNIT}")
