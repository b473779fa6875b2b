"""Dead man's switch: ping an outside watcher while alarms would be noticed and delivered; silence raises one there.

Netdata goes on to evaluate the last value of a chart that nobody fills: its alarms stay clear. So the age of the charts
counts that Phoenix's plugin fills here, one of each collector that other hosts' alarms depend on.
"""

from __future__ import annotations

import http.client
import socket
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from phoenix.alerting.channels import post
from phoenix.alerting.files import METRICS
from phoenix.alerting.messages import lasted, when
from phoenix.alerting.netdata import ask
from phoenix.common import prometheus

HEALTHY_AGE_S = 60.0
WAITING_S = 600.0
# Netdata and the notifier that were started just now have measured nothing yet. Less than the unit's time limit.
PATIENCE_S, POLL_S = 40.0, 1.0
# Filled by the plugin on the parent: that it runs, who is silent, and what other parts of Phoenix write into files.
CONTEXTS = ("phoenix.beat", "phoenix.silent", "phoenix.notify_waiting_age_seconds")


def frozen(charts: Iterable[Mapping[str, Any]], now: float) -> str:
    """What Phoenix's plugin does not measure any more, or ""; charts as of /api/v1/charts."""
    for context in CONTEXTS:
        newest = {chart["id"]: float(chart["last_entry"]) for chart in charts if chart["context"] == context}
        if not newest:
            return f"Phoenix's plugin has no chart of {context}"
        oldest = min(newest, key=lambda chart: newest[chart])
        if now - newest[oldest] > HEALTHY_AGE_S:
            return f"Phoenix's plugin last filled {oldest} {lasted(now - newest[oldest])} ago"
    return ""


def unevaluated(alarms: Iterable[Mapping[str, Any]], now: float) -> str:
    """Why Netdata does not evaluate alarms, or ""; alarms as of /api/v1/alarms?all."""
    newest = max((float(alarm["last_updated"]) for alarm in alarms), default=0.0)
    if not newest:
        return "Netdata evaluates no alarm"
    if now - newest > HEALTHY_AGE_S:
        return f"Netdata last evaluated an alarm {lasted(now - newest)} ago"
    return ""


def stuck(now: float) -> str:
    """Why the notifier does not deliver, or ""."""
    try:
        age, text = now - METRICS.stat().st_mtime, METRICS.read_text(encoding="utf-8")
    except OSError as error:
        return f"phoenix-notify has not written its metrics: {error}"
    metrics = prometheus.read(text)
    waiting = metrics.get("phoenix_notify_waiting_age_seconds", 0.0)
    if age > HEALTHY_AGE_S:
        return f"phoenix-notify has been still for {lasted(age)}"
    if waiting > WAITING_S:
        return f"a message has been waiting for {lasted(waiting)}"
    if 0 < metrics.get("phoenix_notify_channels", 0) <= metrics.get("phoenix_notify_refusing_channels", 0):
        return "every channel refuses its messages"
    return ""


def unwell(now: float) -> str:
    """Why alarms can't be relied on, or ""."""
    try:
        charts = ask("/api/v1/charts")["charts"].values()
        alarms = ask("/api/v1/alarms?all")["alarms"].values()
    except (OSError, ValueError, LookupError) as error:
        return f"Netdata does not answer: {error}"
    return frozen(charts, now) or unevaluated(alarms, now) or stuck(now)


def ping(config: Mapping[str, Any], patience: float = PATIENCE_S) -> int:
    """Ping the outside watcher, unless something stays unwell for `patience` seconds; the exit status."""
    deadline = time.monotonic() + patience
    while reason := unwell(time.time()):
        if time.monotonic() >= deadline:
            print(f"no ping: {reason}", file=sys.stderr)
            return 1
        time.sleep(POLL_S)
    try:
        post(config["url"], {"host": socket.gethostname(), "time": when(time.time())})
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"the watcher does not accept the ping: {error}", file=sys.stderr)
        return 1
    return 0
