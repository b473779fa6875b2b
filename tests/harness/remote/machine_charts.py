#!/usr/bin/python3
"""A plugin of Netdata for trials: charts of a machine, which agents in containers do not have. Stdlib only.

usage: machine_charts.py INTERVAL    (as Netdata starts it)

Shows a well machine, while the file STATE holds `bad` one that every alarm is about, and with `gone` takes the charts
down and ends.
"""

from __future__ import annotations

import time
from pathlib import Path

STATE = Path("/run/phoenix-trial-machine")
EVERY_S = 2
# Chart: its context, and for each dimension the value when all is well and when it is not.
CHARTS = {
    "cpu.cpu0": ("cpu.cpu", {"user": (5, 95)}),
    "system.cpu": ("system.cpu", {"user": (5, 95), "steal": (0, 15), "idle": (95, 0)}),
    "system.ram": ("system.ram", {"used": (500, 980), "free": (500, 20), "cached": (0, 0), "buffers": (0, 0)}),
    "mem.available": ("mem.available", {"avail": (500, 20)}),
    "system.memory_full_pressure_stall_time": ("system.memory_full_pressure_stall_time", {"time": (0, 300)}),
    "system.clock_sync_state": ("system.clock_sync_state", {"state": (1, 0)}),
    "phoenix_trial.oplog": ("phoenix.mongodb_oplog", {"window": (100, 5)}),
}


def definitions(options: str = "") -> None:
    for chart, (context, dimensions) in CHARTS.items():
        print(f"CHART {chart} '' 'Of a trial' '' '' '{context}' line 90000 {EVERY_S} '{options}' trial")
        for name in dimensions:
            print(f"DIMENSION {name} '' absolute 1 1")
    print(flush=True)


def main() -> None:
    definitions()
    while True:
        time.sleep(EVERY_S - time.time() % EVERY_S)
        state = STATE.read_text(encoding="ascii").strip() if STATE.exists() else ""
        if state == "gone":
            definitions("obsolete")
            time.sleep(3600)  # a plugin that ends is started again
        for chart, (_, dimensions) in CHARTS.items():
            values = "".join(f"SET {name} = {pair[state == 'bad']}\n" for name, pair in dimensions.items())
            print(f"BEGIN {chart}\n{values}END", flush=True)


if __name__ == "__main__":
    main()
