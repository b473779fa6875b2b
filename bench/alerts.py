"""Time until a busy core is reported, and the cost of monitoring."""

from __future__ import annotations

import time
from typing import Any

from bench.fleet import Fleet, Row
from tests.harness import alarms, instances
from tests.harness.waiting import wait_for

IDLE_S = 30.0
WITHIN_S = 30.0
LONGEST_S = 180.0


def cost(host: Any) -> tuple[float, float]:
    """Return the CPU (percent of one core) and memory (MB) of Netdata with its plugin on an idle host."""
    # cgroup v2 is mounted here beside the hierarchies of v1, and at the top where it is alone.
    unified = "/sys/fs/cgroup/unified"
    top = unified if host.file(unified).is_directory else "/sys/fs/cgroup"
    group = f"{top}/system.slice/netdata.service"
    read = f"sed -n 's/^usage_usec //p' {group}/cpu.stat"
    before = int(host.check_output(read))
    time.sleep(IDLE_S)
    used = int(host.check_output(read)) - before
    resident = host.check_output(
        f"cat $(sed 's|.*|/proc/&/statm|' {group}/cgroup.procs) | awk '{{s += $2}} END {{print s * 4096}}'"
    )
    return used / IDLE_S / 1e4, float(resident) / 1e6


def measure(fleet: Fleet) -> list[Row]:
    (receiver,) = fleet.hosts("receivers").values()
    name, host = next(iter(instances.serving(fleet.inventory).items()))
    idle = next(h for h in fleet.hosts("app_standby").values())
    cpu, memory = cost(idle)
    start = time.time()
    with alarms.busy_instance(host):
        wait_for(lambda: len(alarms.messages(receiver, start, alarms.CPU, name)) > 0, LONGEST_S, "the message")
    message = alarms.messages(receiver, start, alarms.CPU, name)[0]
    return [
        Row(
            "one core pinned → message delivered",
            round(message["time"] - start, 1),
            "s",
            WITHIN_S,
            "required: ≤ 30 s",
        ),
        Row("an agent on an idle host, CPU", round(cpu, 2), "% of one core"),
        Row("an agent on an idle host, memory", round(memory, 1), "MB"),
    ]
