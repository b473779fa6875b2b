"""Raises Netdata's test alarm on this host and prints what the notifier logs of each channel; runs as root.

Status 1 when a channel did not accept the message within the time. The alarm clears by itself, which is reported too.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from phoenix.common import files, prometheus

GAUGE = Path("/var/lib/phoenix/metrics/test.prom")
GAUGES = {"phoenix_test_alarm": "1 while a test of the alarms wants one raised."}
CONFIGURATION = Path("/etc/phoenix/notify.json")
SECONDS = 60


def set_alarm(value: int) -> None:
    files.replace(GAUGE, prometheus.exposition({"phoenix_test_alarm": value}, GAUGES))


def reports(since: float) -> list[dict[str, object]]:
    """What the notifier logged since then."""
    command = ["journalctl", "--unit=phoenix-notify.service", f"--since=@{since:.0f}", "--output=cat", "--no-pager"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def main() -> int:
    if not CONFIGURATION.exists():
        print("this host notifies no one: it is not the parent, or the alarms are off")
        return 0
    channels = set(json.loads(CONFIGURATION.read_text(encoding="utf-8"))["channels"])
    start = time.time()
    accepted: dict[str, dict[str, object]] = {}
    failed: dict[str, dict[str, object]] = {}
    set_alarm(1)
    try:
        while set(accepted) != channels and time.time() < start + SECONDS:
            time.sleep(1)
            for report in reports(start):
                channel = str(report.get("channel"))
                if report["event"] == "failed":
                    failed[channel] = report
                elif report["event"] == "delivered" and "phoenix_test" in str(report["alarms"]):
                    accepted.setdefault(channel, report | {"after": time.time() - start})
    finally:
        set_alarm(0)
    for channel in sorted(channels):
        if channel in accepted:
            report = accepted[channel]
            print(
                f"{channel}: accepted {report['after']:.0f} s after the raise ({report['answer']}): {report['subject']}"
            )
        else:
            reason = failed.get(channel, {}).get("reason", "no attempt seen")
            print(f"{channel}: NOT accepted within {SECONDS} s: {reason}")
    return 0 if set(accepted) == channels else 1
