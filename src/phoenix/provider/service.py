"""Hosts on demand: made when the application hosts are full, given back after the load.

phoenixctl demand serve      runs the daemon, on control
phoenixctl demand validate   only checks the configuration
phoenixctl demand show       what there is, and what is wrong

Exit status: 0 done; 1 the configuration or the record is not valid.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from phoenix.common import files, prometheus, systemd
from phoenix.provider import demand, need, published, settings
from phoenix.provider.contract import Error, Host
from phoenix.provider.demand import Corrupt, NotDone, Store
from phoenix.provider.lifecycle import LIVE, Record
from phoenix.provider.worker import FleetWorker
from phoenix.state import desired, lock

log = logging.getLogger("phoenix.demand")
AUTOSCALER = Path("/var/lib/phoenix/autoscaler/status.json")
STALE_SECONDS = 10.0
TICK_SECONDS = 1.0
# Seconds between two questions to the provider: while something is on its way, and at rest.
BUSY_SECONDS, REST_SECONDS = 2.0, 30.0
AWAY_MOST_SECONDS = 60.0
NOTES = 10
GAUGES = {
    "phoenix_demand_checked_timestamp_seconds": "when the daemon last did something",
    "phoenix_demand_wanted_hosts": "hosts on demand that the load needs",
    "phoenix_demand_live_hosts": "hosts on demand that serve, stand by, or are being made",
    "phoenix_demand_serving_hosts": "hosts on demand that have instances",
    "phoenix_demand_limit_hosts": "hosts on demand that there may be",
    "phoenix_demand_creations_last_hour": "attempts to create one",
    "phoenix_demand_failed_creations": "of these, failed in a row",
    "phoenix_demand_stray_hosts": "hosts with the tag that no record explains",
    "phoenix_demand_provider_away_seconds": "for how long the provider has not answered",
    "phoenix_demand_leaving_seconds": "for how long the oldest host that is not wanted has been leaving",
}


def needed(state: Path, autoscaler: Path, now: float) -> int | None:
    """The instances that there have to be hosts for: what is recorded, or more by the autoscaler; None: not known."""
    try:
        capacity = desired.read_capacity(state)
    except (OSError, desired.Corrupt):
        capacity = None
    try:
        status = json.loads(autoscaler.read_text(encoding="utf-8"))
        fresh = now - float(status["written"]) <= STALE_SECONDS
        wish = int(status["needed"]) if fresh and status.get("needed") is not None else None
    except (OSError, ValueError, KeyError, TypeError):
        wish = None
    return max((count for count in (capacity, wish) if count is not None), default=None)


@dataclass
class Service:
    """One loop over record, need and provider. The clock is the wall's: the record outlives a reboot."""

    settings: settings.Settings
    worker: FleetWorker
    folder: Path = published.FOLDER
    autoscaler: Path = AUTOSCALER
    clock: Callable[[], float] = time.time
    want: need.Want | None = None  # None: not known yet, since the daemon has just started
    asked: float = float("-inf")
    away_since: float = 0.0
    away: int = 0  # questions in a row that had no answer
    listed: Sequence[Host] = ()
    noted: dict[str, float] = field(default_factory=dict)
    checked: dict[str, object] = field(default_factory=dict)  # by host, what it last was found to have
    stopping: bool = False

    @property
    def store(self) -> Store:
        return Store(self.folder / "hosts.json")

    def tick(self) -> None:
        """Decide what is wanted, and take the hosts one step further where that is due. Raises Corrupt and OSError."""
        now, record = self.clock(), self.store.load()
        former = self.want or need.Want(record.count())
        count = needed(self.worker.state, self.autoscaler, now)
        if count is not None:
            ours = self.settings
            self.want = need.decide(former, count, ours.room, ours.instances_per_host, now, ours.idle_seconds)
        else:
            self.want = former
        moving = record.count(LIVE) != min(self.want.hosts, self.settings.limits.hosts) or any(
            entry.state not in ("standby", "serving") or entry.missing for entry in record.hosts.values()
        )
        pause = BUSY_SECONDS if moving else REST_SECONDS
        if self.away:
            pause = min(AWAY_MOST_SECONDS, BUSY_SECONDS * 2 ** min(self.away, 10))
        if self.want.hosts != former.hosts or now - self.asked >= pause:
            self.step(record)

    def step(self, record: Record) -> None:
        self.asked = self.clock()
        want = self.want or need.Want()
        busy = self.busy(record)
        notes = demand.step(
            self.store,
            lambda: self.listing(busy),
            self.worker,
            want.hosts,
            busy,
            self.clock,
            self.settings.limits,
        )
        notes += self.renew()
        self.note(notes)

    def busy(self, record: Record) -> set[str]:
        """The hosts that have instances by the recorded capacity; all of them while it is not known."""
        accepting = [host["name"] for host in published.read(self.store.path) if host["accepts"]]
        try:
            capacity = desired.read_capacity(self.worker.state)
        except (OSError, desired.Corrupt):
            capacity = None
        if capacity is None:
            return {name for name in accepting if record.hosts[name].state == "serving"}
        return set(accepting[: need.required(capacity, self.settings.room, self.settings.instances_per_host)])

    def listing(self, busy: set[str]) -> Sequence[Host]:
        """The provider's list. A host without a record is asked whether it serves: the record may have been lost."""
        try:
            self.listed = self.worker.client.list()
        except Error:
            self.away += 1
            self.away_since = self.away_since or self.clock()
            raise
        self.away, self.away_since = 0, 0.0
        known = self.store.load().hosts
        busy |= {host.name for host in self.listed if host.name not in known and self.worker.serves(host.address)}
        return self.listed

    def renew(self) -> list[str]:
        """Bring hosts that stand by to what was recorded since: a deploy that had begun before them left them out."""
        notes = []
        for host in published.read(self.store.path):
            name = host["name"]
            try:
                target = self.worker.target()
                if host["state"] != "standby" or self.checked.get(name) == target or lock.holder(self.worker.state):
                    continue
                self.worker.prepare(name, host["address"])
                self.checked[name] = target
            except NotDone as error:
                notes.append(f"renew {name}: {error}")
        return notes

    def note(self, notes: Sequence[str]) -> None:
        """Log each once, and keep the newest for people."""
        now = self.clock()
        for text in notes:
            if text not in self.noted:
                log.warning(text)
            self.noted.pop(text, None)
            self.noted[text] = now
        self.noted = dict(list(self.noted.items())[-NOTES:])

    @property
    def strays(self) -> int:
        known = self.store.load().hosts
        return sum(host.name not in known or known[host.name].id not in ("", host.id) for host in self.listed)

    def report(self) -> None:
        """Write metrics and status."""
        now, record, limits = self.clock(), self.store.load(), self.settings.limits
        want = self.want.hosts if self.want else 0
        leaving = [entry.since for entry in record.hosts.values() if entry.state in ("draining", "deleted")]
        hour = [moment for moment in record.created if moment > now - 3600]
        away = now - self.away_since if self.away_since else 0.0
        gauges = {
            "phoenix_demand_checked_timestamp_seconds": now,
            "phoenix_demand_wanted_hosts": want,
            "phoenix_demand_live_hosts": record.count(),
            "phoenix_demand_serving_hosts": record.count(("serving",)),
            "phoenix_demand_limit_hosts": limits.hosts,
            "phoenix_demand_creations_last_hour": len(hour),
            "phoenix_demand_failed_creations": record.failures,
            "phoenix_demand_stray_hosts": self.strays,
            "phoenix_demand_provider_away_seconds": away,
            "phoenix_demand_leaving_seconds": now - min(leaving, default=now),
        }
        files.replace(self.folder / "demand.prom", prometheus.exposition(gauges, GAUGES))
        status = {
            "written": now,
            "wanted": want,
            "limit": limits.hosts,
            "created": len(hour),
            "creations_per_hour": limits.creations_per_hour,
            "failures": record.failures,
            "away_seconds": round(away),
            "hosts": [
                {
                    "name": entry.name,
                    "state": entry.state,
                    "address": entry.address,
                    "since": entry.since,
                    "reason": entry.reason,
                }
                for entry in sorted(record.hosts.values(), key=lambda entry: published.number(entry.name))
            ],
            "notes": [{"text": text, "at": at} for text, at in self.noted.items() if now - at < 3600],
        }
        files.replace(self.folder / "status.json", json.dumps(status) + "\n")

    def run(self, sleep: Callable[[float], None] = time.sleep) -> None:
        while not self.stopping:
            with contextlib.suppress(OSError):
                try:
                    self.tick()
                except (OSError, Corrupt) as error:
                    self.note([str(error)])
                    sleep(BUSY_SECONDS)
                    continue
                self.report()
            sleep(TICK_SECONDS)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("serve", "validate", "show"))
    parser.add_argument("--config", type=Path, default=settings.PATH)
    options = parser.parse_args(arguments)
    if options.verb == "show":
        status = published.read_status()
        known = published.lines(status, time.time()) if status else ["No hosts on demand are configured here."]
        print("\n".join(known))
        return 0
    try:
        config = settings.load(options.config)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if options.verb == "serve":
        serve(config)
    return 0


def serve(config: settings.Settings) -> None:
    # Needed only where there is a fleet, with the libraries of the autoscaler.
    from phoenix.autoscaler.action import Playbooks, private_folder  # noqa: PLC0415
    from phoenix.autoscaler.config import Action  # noqa: PLC0415

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    plays = Playbooks(Action(name="phoenix-demand"), private_folder(published.FOLDER / "runs"))
    service = Service(config, FleetWorker(config, plays))

    def stop(*_: object) -> None:
        service.stopping = True

    signal.signal(signal.SIGTERM, stop)
    systemd.notify("READY=1")
    service.run()
