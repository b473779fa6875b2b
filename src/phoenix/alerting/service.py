"""The service: reads events from the spool, keeps the state, passes messages to the channels."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from phoenix.alerting.channels import Channel, listed
from phoenix.alerting.decide import decide
from phoenix.alerting.files import FOLDER, METRICS, SPOOL, log
from phoenix.alerting.incidents import Settings, State
from phoenix.alerting.messages import Message, undelivered
from phoenix.alerting.netdata import RECONCILE_S, active_alarms, ask, missed
from phoenix.common import prometheus, systemd
from phoenix.common.files import replace

POLL_S = 0.5
GAUGES = {
    "phoenix_notify_waiting_messages": "Messages that no receiver has accepted yet.",
    "phoenix_notify_waiting_age_seconds": "Age of the oldest of them.",
    "phoenix_notify_failing_channels": "Channels whose last round left messages to retry.",
    "phoenix_notify_delivered_total": "Messages accepted since the notifier's start.",
    "phoenix_notify_failed_attempts_total": "Attempts that failed since then.",
    "phoenix_notify_dropped_total": "Messages given up since then.",
    "phoenix_notify_lost_messages": "Messages given up within the last hour.",
    "phoenix_notify_refusing_channels": "Channels whose last message was given up.",
    "phoenix_notify_channels": "Channels.",
    "phoenix_notify_open_incidents": "Alarms that are raised, as reported.",
}
EVENT = {"role", "host", "when", "alarm", "chart", "status", "info", "value"}


class Service:
    """Reads events from the spool, keeps the state, passes messages to the channels."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.settings = Settings(**config["settings"])
        self.recipients = {role: listed(names) for role, names in config["recipients"].items()}
        self.channels = {name: Channel(name, c, self.settings, self.given_up) for name, c in config["channels"].items()}
        self.file = FOLDER / "state.json"
        self.state = State.load(self.recorded())
        # First when Netdata, which may be starting too, has had the time to.
        self.reconciled, self.reported = time.time(), 0.0
        METRICS.parent.mkdir(exist_ok=True)

    @staticmethod
    def put_aside(path: Path, error: Exception) -> None:
        """Keep a damaged file for people, where nothing takes it for more than that."""
        aside = path.with_suffix(".unreadable")
        log(event="unreadable", file=str(aside), reason=str(error))
        try:
            path.replace(aside)
        except OSError as failure:
            log(event="error", file=str(path), reason=str(failure))

    def recorded(self) -> Mapping[str, Any]:
        try:
            return dict(json.loads(self.file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except (TypeError, ValueError) as error:
            self.put_aside(self.file, error)
            return {}

    def given_up(self, channel: str, message: Message, reason: str) -> None:
        """Send through the other channels what one of them gave up; called by the channels' threads."""
        if not message.alarms:  # such a report itself: it would go round
            return
        report = undelivered(channel, message, reason, time.time(), self.settings)
        for name, other in self.channels.items():
            if name != channel:
                other.put(report)

    def hosts(self) -> set[str]:
        """Those that Netdata knows, and those of open incidents."""
        hosts = {incident.host for incident in self.state.incidents.values()}
        try:
            return hosts | set(ask("/api/v1/info")["mirrored_hosts"])
        except (OSError, ValueError, KeyError):
            return hosts

    def spooled(self) -> list[tuple[Path, dict[str, str]]]:
        events = []
        for path in sorted(SPOOL.glob("*.json")):
            try:
                event = {str(name): str(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}
                if not event.keys() >= EVENT:
                    raise ValueError(f"it lacks {EVENT - event.keys()}")
                float(event["when"])
                events.append((path, event))
            except (AttributeError, OSError, ValueError) as error:
                self.put_aside(path, error)
        return events

    def step(self, now: float) -> None:
        spooled = self.spooled()
        events = [event for _, event in spooled]
        if now - self.reconciled >= RECONCILE_S:
            self.reconciled = now
            events += missed(self.state, active_alarms(self.hosts()), now)
        before = self.state.incidents
        self.state, messages = decide(self.state, events, now, self.settings)
        # In the outbox first, then out of the state, then out of the spool: at worst a message comes twice.
        for message in messages:
            for name in self.recipients.get(message.role, self.recipients["default"]):
                self.channels[name].put(message)
        if messages or self.state.incidents != before:
            replace(self.file, json.dumps(asdict(self.state)), 0o600, durable=True)
        for path, _ in spooled:
            path.unlink()
        if now - self.reported >= 5:
            self.reported = now
            self.report(now)

    def report(self, now: float) -> None:
        channels = self.channels.values()
        values = {
            "waiting_messages": sum(len(c.waiting()) for c in channels),
            "waiting_age_seconds": max((c.oldest(now) for c in channels), default=0.0),
            "failing_channels": sum(c.attempts > 0 for c in channels),
            "delivered_total": sum(c.delivered for c in channels),
            "failed_attempts_total": sum(c.failed for c in channels),
            "dropped_total": sum(c.dropped for c in channels),
            "lost_messages": sum(c.lost(now) for c in channels),
            "refusing_channels": sum(c.refusing for c in channels),
            "channels": len(channels),
            "open_incidents": len(self.state.incidents),
        }
        named = {f"phoenix_notify_{name}": value for name, value in values.items()}
        replace(METRICS, prometheus.exposition(named, GAUGES))

    def run(self) -> None:
        for channel in self.channels.values():
            threading.Thread(target=channel.run, daemon=True).start()
        systemd.notify("READY=1")
        while True:
            self.step(time.time())
            systemd.notify("WATCHDOG=1")
            time.sleep(POLL_S)
