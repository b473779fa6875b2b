"""A quiet week of a fleet, as its charts would show it: traffic by day; each night a dump, its proof, logs.

The figures of the night are on the slow side of what was measured: one niced thread reads and hashes a dump's
collections at 100 MB/s while mongod serves them with two thirds of a core, mongodump packs 25 MB/s into a quarter, and
mongorestore and the comparison take more than an hour. No chart is smooth: each has the disturbances of a healthy
fleet, just below what an alarm is for.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.simulation.health import Chart

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
STEP = 60
KEPT = 7  # dumps
# Start of a night's steps, in seconds of the day; each night comes up to half an hour later.
DUMP, LATER = 1.5 * HOUR, 0.5 * HOUR
UPGRADES, ROTATION, DEPLOY = 6.2 * HOUR, 0.0, 15 * HOUR

Values = Mapping[str, float]


@dataclass(frozen=True)
class Machine:
    """What alarms have to scale with."""

    cores: int = 2
    store_gb: float = 100.0  # of the store's disk
    memory_mb: float = 4000.0
    data_gb: float = 20.0  # of documents
    window: float = 300.0  # seconds for which a member keeps a dump's moment, as its operator set it
    proof: float = 1.3 * HOUR

    @property
    def packed_gb(self) -> float:
        return self.data_gb / 4

    @property
    def reading_s(self) -> float:
        return self.data_gb * 1000 / 100

    @property
    def packing_s(self) -> float:
        return self.data_gb * 1000 / 25

    @property
    def proof_begins(self) -> float:
        """Seconds after a dump's begin."""
        return self.reading_s + self.packing_s

    @property
    def proof_ends(self) -> float:
        """Seconds after a dump's begin."""
        return self.proof_begins + self.proof


class Week:
    """The values of each chart at a time, in seconds since the first midnight."""

    def __init__(self, machine: Machine, seed: int = 1) -> None:
        self.machine = machine
        self.random = random.Random(seed)
        self.delays = [self.random.uniform(0, LATER) for _ in range(400)]

    # --- what happens

    def day(self, now: float) -> tuple[int, float]:
        return int(now // DAY), now % DAY

    def night(self, now: float) -> float:
        """Seconds since this night's dump began, negative before."""
        day, second = self.day(now)
        return second - DUMP - self.delays[day]

    def traffic(self, now: float) -> float:
        """From 0 at night to 1 in the afternoon, with noise."""
        hour = now % DAY / HOUR
        base = max(0.05, 1 - abs(hour - 15) / 9)
        return min(1.0, base * self.random.uniform(0.85, 1.15))

    def share(self, threads: float) -> float:
        """Percent of all cores that this many busy threads are."""
        return 100 * min(threads, self.machine.cores) / self.machine.cores

    # --- charts of a host

    def cpu(self, own: Callable[[float], float], niced: Callable[[float], float]) -> Callable[[float], Values]:
        """Of the whole host. own, niced: threads that are busy with clients, and with what gives way to them."""

        def values(now: float) -> Values:
            user = self.share(own(now)) * 0.8
            system = self.share(own(now)) * 0.2
            nice = min(self.share(niced(now)), 100 - user - system)
            steal = self.random.uniform(0, 3)
            rest = {"irq": 0.1, "softirq": 0.5, "guest": 0.0, "guest_nice": 0.0, "iowait": 10.0 * (nice > 0)}
            return {"user": user, "system": system, "nice": nice, "steal": steal, **rest}

        return values

    def core(self, own: Callable[[float], float], niced: Callable[[float], float]) -> Callable[[float], Values]:
        """Of one core, the busiest: a thread stays on it."""
        whole = self.cpu(
            lambda now: min(own(now), 1.0) * self.machine.cores, lambda now: niced(now) * self.machine.cores
        )
        return whole

    def serving(self, threads: float) -> Callable[[float], float]:
        return lambda now: threads * self.traffic(now)

    def reading(self, now: float) -> bool:
        return 0 <= self.night(now) < self.machine.proof_begins

    def database(self, now: float) -> float:
        """Threads of mongod: the application's, and most of one for the dump that reads it."""
        return 0.3 * self.traffic(now) + 0.65 * self.reading(now)

    def dumping(self, now: float) -> float:
        return float(self.reading(now))

    def proving(self, now: float) -> float:
        """The scratch server, mongorestore and the comparison, on all cores that there are."""
        proving = self.machine.proof_begins <= self.night(now) < self.machine.proof_ends
        return float(self.machine.cores) if proving else 0.0

    def upgrading(self, now: float) -> float:
        return float(UPGRADES <= now % DAY < UPGRADES + 4 * MINUTE)

    def background(self, now: float) -> float:
        return max(self.dumping(now), self.upgrading(now))

    def control_background(self, now: float) -> float:
        return max(self.proving(now), self.upgrading(now))

    def store(self, now: float) -> Values:
        """A week of dumps lies there, and each night a dump more, and the room of a whole database for its proof."""
        machine, after = self.machine, self.night(now)
        arrived = machine.packed_gb * min(1.0, max(0.0, (after - machine.reading_s) / machine.packing_s))
        scratch = machine.data_gb * min(1.0, (after - machine.proof_begins) / (machine.proof / 2))
        if not machine.proof_begins <= after < machine.proof_ends:
            scratch = 0.0
        # The oldest goes once the new one is proven.
        pruned = machine.packed_gb if after >= machine.proof_ends else 0.0
        used = 10.0 + KEPT * machine.packed_gb + arrived - pruned + scratch
        return {"used": used, "available": machine.store_gb * 0.95 - used}

    def logging(self, now: float) -> Values:
        """A disk of 20 GB whose logs grow by 1 GB a day and are rotated at midnight."""
        used = 8.0 + now % DAY / DAY + 0.02 * now / DAY
        return {"used": used, "available": 19.0 - used}

    def memory(self, now: float) -> Values:
        return {
            "avail": self.machine.memory_mb
            * (0.5 - 0.2 * bool(self.background(now)) + self.random.uniform(-0.05, 0.05))
        }

    def ram(self, now: float) -> Values:
        total = self.machine.memory_mb
        return {"free": 0.1 * total, "used": 0.45 * total, "cached": 0.4 * total, "buffers": 0.05 * total}

    def host(self, name: str, own: Callable[[float], float], niced: Callable[[float], float]) -> list[Chart]:
        """What every host has."""
        restarted = self.upgrading
        return [
            self.chart(name, "system.cpu", "system.cpu", self.cpu(own, niced)),
            self.chart(name, "cpu.cpu0", "cpu.cpu", self.core(own, niced)),
            self.chart(name, "mem.available", "mem.available", self.memory),
            self.chart(name, "system.ram", "system.ram", self.ram),
            self.chart(
                name,
                "system.memory_full_pressure_stall_time",
                "system.memory_full_pressure_stall_time",
                lambda now: {"time": 20.0 * bool(niced(now))},
            ),
            self.chart(name, "system.clock_sync_state", "system.clock_sync_state", lambda now: {"state": 1.0}),
            self.chart(name, "phoenix_inodes.root", "phoenix.inodes", lambda now: {"used": 2e5, "available": 1e6}),
            self.chart(name, "phoenix_read_only.root", "phoenix.read_only", lambda now: {"read_only": 0.0}),
            self.chart(name, "phoenix_failed.x", "phoenix.failed_unit", lambda now: {"failed": 0.0}),
            # A unit is restarted by a roll-out of Phoenix itself.
            self.chart(
                name, "phoenix_stopped.x", "phoenix.stopped_unit", lambda now: {"stopped": 30.0 * restarted(now)}
            ),
            self.chart(name, "phoenix_collector.x", "phoenix.collector", lambda now: {"age": 10 + 50 * restarted(now)}),
            self.chart(
                name, "phoenix_restarts.x", "phoenix.service_restarts", lambda now: {"restarts": restarted(now)}
            ),
            # Netdata's own upgrade.
            self.chart(
                "control1", f"phoenix_silent.{name}", "phoenix.silent", lambda now: {"silent": 2 + 20 * restarted(now)}
            ),
        ]

    def chart(self, host: str, identity: str, context: str, series: Callable[[float], Values]) -> Chart:
        return Chart(identity, context, series, host, STEP)

    def gauge(self, name: str, value: Callable[[float], float]) -> Chart:
        """A gauge of control, as the plugin shows it."""
        return self.chart("control1", f"phoenix_metrics.{name}", f"phoenix.{name}", lambda now: {"value": value(now)})

    # --- the parts

    def backup_age(self, now: float) -> float:
        """Of the newest proven dump: its own proof's time does not count."""
        day, _ = self.day(now)
        proven = self.night(now) >= self.machine.proof_ends
        newest = day if proven else day - 1
        return now - (newest * DAY + DUMP + self.delays[newest] + self.machine.proof_ends)

    def deploying(self, now: float) -> float:
        return float(DEPLOY <= now % DAY < DEPLOY + 10 * MINUTE)

    def charts(self) -> list[Chart]:
        site = lambda now: {"up": 1.0}  # noqa: E731 - as its neighbours
        found = [
            *self.host("lb1", self.serving(0.4), self.upgrading),
            *self.host("app1", self.serving(0.7), self.upgrading),
            *self.host("db2", self.database, self.background),
            *self.host("control1", self.serving(0.1), self.control_background),
            self.chart("lb1", "phoenix_disk.root", "phoenix.disk", self.logging),
            self.chart("app1", "phoenix_disk.root", "phoenix.disk", self.logging),
            self.chart("control1", "phoenix_disk.root", "phoenix.disk", self.store),
            self.chart(
                "app1", "phoenix_cpu.phoenix@3000", "phoenix.service_cpu", lambda now: {"cpu": 70 * self.traffic(now)}
            ),
            # Percent of all cores.
            self.chart(
                "lb1",
                "phoenix_cpu.nginx",
                "phoenix.service_cpu",
                lambda now: {"cpu": self.share(0.4) * self.traffic(now)},
            ),
            self.chart(
                "db2", "phoenix_cpu.mongod", "phoenix.service_cpu", lambda now: {"cpu": self.share(self.database(now))}
            ),
            # A failed answer here and there, and few enough answers at night for none to count.
            self.chart(
                "lb1",
                "phoenix_nginx.errors",
                "phoenix.answer_errors",
                lambda now: {"share": self.random.choice([0, 0, 0, 0.4])},
            ),
            self.chart("control1", "phoenix_site.lb1_https", "phoenix.site", site),
            self.chart("db2", "phoenix_site.lb1_https", "phoenix.site", site),
            self.chart(
                "control1", "phoenix_certificate.lb1_443", "phoenix.certificate", lambda now: {"left": 60 - now / DAY}
            ),
            self.chart(
                "control1", "phoenix_certificate_name.lb1_443", "phoenix.certificate_name", lambda now: {"matches": 1.0}
            ),
            self.chart("control1", "phoenix_fleet.capacity", "phoenix.capacity", lambda now: {"missing": 0.0}),
            # Of a step of a roll-out whose requests take their time.
            self.chart(
                "control1",
                "phoenix_fleet.drained_longest",
                "phoenix.drained_longest",
                lambda now: {"longest": 150.0 * self.deploying(now)},
            ),
            self.chart(
                "db2",
                "phoenix_mongodb.member",
                "phoenix.mongodb_member",
                lambda now: {"up": 1.0, "sees_primary": 1.0},
            ),
            self.chart(
                "db2", "phoenix_mongodb.lag", "phoenix.mongodb_lag", lambda now: {"lag": 4.0 * self.reading(now)}
            ),
            self.chart(
                "db2",
                "phoenix_mongodb.oplog",
                "phoenix.mongodb_oplog",
                lambda now: {"window": 60 - 20 * self.traffic(now)},
            ),
            # The watch runs hourly.
            self.chart(
                "control1",
                "phoenix_missing.backup",
                "phoenix.metrics_missing",
                lambda now: {"missing": now % HOUR + 90},
            ),
            self.gauge("autoscaler_data_age_seconds", lambda now: self.random.uniform(0, 3)),
            self.gauge("autoscaler_at_maximum", lambda now: float(15 * HOUR <= now % DAY < 15 * HOUR + 2 * MINUTE)),
            self.gauge("autoscaler_frozen", self.deploying),
            self.gauge("autoscaler_withheld", lambda now: 0.0),
            # One that failed, and was made up for by the next.
            self.gauge("autoscaler_failed_actions_total", lambda now: float(now > 3 * DAY)),
            # A creation or two that fail, a provider that restarts, a host that leaves for a while.
            self.gauge("demand_failed_creations", lambda now: float(now % DAY < 2 * MINUTE) * 2),
            self.gauge("demand_provider_away_seconds", lambda now: max(0.0, 200 - now % DAY)),
            self.gauge("demand_stray_hosts", lambda now: float(3 * HOUR <= now % DAY < 3 * HOUR + MINUTE)),
            self.gauge("demand_leaving_seconds", lambda now: max(0.0, 900 - now % DAY)),
            self.gauge("demand_checked_age_seconds", lambda now: self.random.uniform(0, 300)),
            self.gauge("deploy_last_result", lambda now: 0.0),
            self.gauge("deploy_running", self.deploying),
            self.gauge("drills_failed", lambda now: 0.0),
            # The one by the month, which an open alarm or a play has put off once.
            self.gauge("drills_oldest_success_age_seconds", lambda now: 35 * DAY + now % (7 * DAY)),
            self.gauge("pipeline_last_result", lambda now: 0.0),
            self.gauge("pipeline_running", self.deploying),
            # Each deploy, a host that is lost once a day, and a process that is new.
            self.gauge("processes_unplaced_age_seconds", lambda now: now % DAY if now % DAY < 75 else 1.0),
            self.gauge("backup_newest_good_age_seconds", self.backup_age),
            self.gauge("backup_last_result", lambda now: 0.0),
            self.gauge("backup_window_ratio", lambda now: self.machine.reading_s / self.machine.window),
            self.gauge("backup_logs_oldest_age_seconds", lambda now: (now - HOUR) % DAY + 600),
            self.gauge("backup_offsite_newest_age_seconds", lambda now: self.backup_age(now) + HOUR),
            # An idle set writes a note every 10 s.
            self.gauge("backup_oplog_age_seconds", lambda now: self.random.uniform(2, 15)),
            self.gauge("backup_oplog_gap_result", lambda now: 0.0),
            self.gauge("backup_chain_result", lambda now: 0.0),
            self.chart(
                "control1", "phoenix_fleet.floating_1", "phoenix.floating_holders", lambda now: {"holders": 1.0}
            ),
            self.chart("lb1", "phoenix_floating.keepalived", "phoenix.keepalived", lambda now: {"runs": 1.0}),
            self.gauge("notify_waiting_age_seconds", lambda now: 60.0 * (self.random.random() < 0.01)),
            self.gauge("notify_lost_messages", lambda now: 0.0),
            self.gauge("test_alarm", lambda now: 0.0),
        ]
        return found
