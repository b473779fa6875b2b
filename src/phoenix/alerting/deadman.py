"""Dead man's switch: ping an outside watcher while Netdata and the service are well; silence raises the alarm there."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

from phoenix.alerting.channels import post
from phoenix.alerting.files import METRICS
from phoenix.alerting.messages import lasted, when
from phoenix.alerting.netdata import ask
from phoenix.common import prometheus

HEALTHY_AGE_S = 60.0
WAITING_S = 600.0


def unwell(now: float) -> str:
    """Why the outside watcher should worry, or ""."""
    try:
        ask("/api/v1/info")
    except (OSError, ValueError) as error:
        return f"Netdata does not answer: {error}"
    try:
        age, text = now - METRICS.stat().st_mtime, METRICS.read_text(encoding="utf-8")
    except OSError as error:
        return f"phoenix-notify has not written its metrics: {error}"
    if age > HEALTHY_AGE_S:
        return f"phoenix-notify has been still for {lasted(age)}"
    metrics = prometheus.read(text)
    waiting = metrics.get("phoenix_notify_waiting_age_seconds", 0.0)
    if waiting > WAITING_S:
        return f"a message has been waiting for {lasted(waiting)}"
    if 0 < metrics.get("phoenix_notify_channels", 0) <= metrics.get("phoenix_notify_refusing_channels", 0):
        return "every channel refuses its messages"
    return ""


def ping(config: Mapping[str, Any]) -> int:
    """Ping the outside watcher, unless something is unwell; the exit status."""
    if reason := unwell(time.time()):
        print(f"no ping: {reason}", file=sys.stderr)
        return 1
    try:
        post(config["url"], {"host": socket.gethostname(), "time": when(time.time())})
    except OSError as error:
        print(f"the watcher does not take the ping: {error}", file=sys.stderr)
        return 1
    return 0
