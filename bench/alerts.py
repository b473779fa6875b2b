"""How fast people are told of a busy core, and what being watched costs."""

from __future__ import annotations

import json
import time
from typing import Any

from bench.fleet import Fleet, Row
from tests.e2e.support import wait_for
from tests.e2e.test_alerts import ALARM, PIN

IDLE_S = 30.0
WITHIN_S = 30.0


def told(receiver: Any, since: float, host: str) -> float | None:
    """Seconds from `since` to the webhook's message that the host's CPU is high."""
    for line in receiver.run("cat /var/lib/private/lab-receiver/messages").stdout.splitlines():
        message = json.loads(line)
        if message["kind"] == "webhook" and message["time"] >= since:
            for alarm in message["body"]["alarms"]:
                if (alarm["alarm"], alarm["host"], alarm["event"]) == (ALARM, host, "raised"):
                    return float(message["time"]) - since
    return None


def cost(host: Any) -> tuple[float, float]:
    """CPU in percent of one core and memory in MB of Netdata with its plugin, while the host is idle."""
    # Beside the first version's hierarchies the second is mounted here; alone it is at the top.
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
    name, host = next((n, h) for n, h in fleet.hosts("app").items() if h.service("phoenix@3000").is_running)
    idle = next(h for h in fleet.hosts("app_standby").values())
    cpu, memory = cost(idle)
    start = time.time()
    assert host.run("python3 -c %s 25", PIN).rc == 0
    wait_for(lambda: told(receiver, start, name) is not None, WITHIN_S, "the message")
    return [
        Row(
            "one core pinned → message delivered",
            round(told(receiver, start, name) or 0.0, 1),
            "s",
            WITHIN_S,
            "asked: ≤ 30 s",
        ),
        Row("an agent on an idle host, CPU", round(cpu, 2), "% of one core"),
        Row("an agent on an idle host, memory", round(memory, 1), "MB"),
    ]
