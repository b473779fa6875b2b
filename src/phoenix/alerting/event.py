"""Netdata's hook for alarms: notes the event in the spool of phoenix-notify, and is done.

Netdata runs it for each change of an alarm's status (`script to execute on alarm`), with the arguments that its own
alarm-notify.sh documents. It neither waits nor delivers, so that no mail server can hold up Netdata.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

SPOOL = Path("/var/spool/phoenix-notify")
# Positions of the arguments that somebody needs, in Netdata's order.
POSITIONS = {"role": 0, "host": 1, "when": 5, "alarm": 6, "chart": 7, "status": 9, "info": 17, "value": 18}


def event(arguments: list[str]) -> dict[str, str]:
    """The event by name of argument; all values are texts, `when` is in seconds since 1970."""
    return {name: arguments[position] for name, position in POSITIONS.items()}


def main(arguments: list[str]) -> int:
    name = f"{time.time_ns()}-{os.getpid()}"
    trial = SPOOL / f"{name}.new"
    trial.write_text(json.dumps(event(arguments)), encoding="utf-8")
    # The notifier, which is of the spool's group, reads only whole files.
    trial.chmod(0o640)
    trial.rename(SPOOL / f"{name}.json")
    return 0
