"""The loop: datagrams into the meter, a decision every step, and at most one action in the background.

                excess        +-----------+  CONFIRM_SECONDS later
         +------------------> | suspected | --------------------+
         |  +---------------- +-----------+                     |
         |  v     over                                          v   failed      +-------------+
      +------+   slow rise, lower need, bounds, repair     +--------+ --------> | backing off |
      | idle | ------------------------------------------> | acting | <-------- +-------------+
      +------+                                             +--------+    later
         ^                       done                           |
         +------------------------------------------------------+

suspected    policy.Memory.suspected_since: a short window shows an excess; it has to last.
acting       Actions.task: the target is being scaled. Measuring continues; the policy holds.
backing off  Actions.not_before: 5 s, doubled with each failure in a row. Then the current decision is carried out.
repair       Repair: an action left hosts out. The same capacity is applied again after 60 s, doubled each time.
frozen       FleetLock.reason(): the lock is held elsewhere, an operator holds the capacity, or there is maintenance. No
             action starts from any state; measuring continues.
lost         A capacity that is missing or damaged: the target recounts its instances; nothing is decided meanwhile.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from phoenix.autoscaler import policy, state
from phoenix.autoscaler.action import Actions
from phoenix.autoscaler.config import Config
from phoenix.autoscaler.meter import LONGEST_NAP, STEP, Meter
from phoenix.autoscaler.metrics import Metrics
from phoenix.provider import demand, published
from phoenix.state import desired

log = logging.getLogger(__name__)

DRAIN_SECONDS = 0.01  # between two reads of the socket: many datagrams per wake-up
AT_ONCE = 2000  # datagrams in one read, so that a flood can't starve the rest
LARGEST = 512  # bytes of a datagram that could be ours
REPORT_SECONDS = 1.0
REPAIR_SECONDS, REPAIR_MOST_SECONDS = 60.0, 600.0
UDP_TABLES = (Path("/proc/self/net/udp"), Path("/proc/self/net/udp6"))
SHOWN = 10  # decisions in the status


class Repair:
    """Hosts that the last action left out, and when to try them again: after a pause that doubles each time."""

    def __init__(self) -> None:
        self.left_out: dict[str, str] = {}
        self._at = float("inf")
        self._pause = REPAIR_SECONDS

    def note(self, left_out: dict[str, str], now: float) -> None:
        """Take the hosts that a successful action left out, with the reasons."""
        self.left_out = left_out
        self._at = now + self._pause if left_out else float("inf")
        self._pause = min(self._pause * 2, REPAIR_MOST_SECONDS) if left_out else REPAIR_SECONDS

    def due(self, now: float) -> bool:
        return now >= self._at


class Daemon:
    """The running autoscaler: socket, measuring, decisions, actions and reports. The clock is monotonic, in seconds."""

    def __init__(
        self,
        config: Config,
        actions: Actions,
        lock: state.FleetLock | state.NullLock,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        dry_run: bool = False,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.actions, self.lock, self.metrics = actions, lock, metrics
        self.clock, self.dry_run, self.wall_clock = clock, dry_run, wall_clock
        self._configure(config)
        self.meter = Meter(map(str, config.listen.balancers), config.policy.long_seconds, clock())
        self.memory = policy.Memory()
        self.decisions = state.Decisions(config.paths.own / "decisions.jsonl")
        self.capacity: int | None = None
        self.decision: policy.Decision | None = None
        self.inputs: policy.Inputs | None = None
        self.repair = Repair()
        self.frozen = ""
        self.stopping = False
        self.drained_at = float("-inf")
        self.made = 0  # hosts on demand that may have instances
        self.unreadable = False

    # --- datagrams

    def drain(self, sock: socket.socket) -> None:
        """Read what has arrived. What waited for long has no known arrival time and would look like a step: drop it."""
        now, receive = self.clock(), self.meter.receive
        late = now - self.drained_at > LONGEST_NAP
        for _ in range(AT_ONCE):
            try:
                data, source = sock.recvfrom(LARGEST)
            except (BlockingIOError, InterruptedError):
                break
            if not late:
                receive(data, source[0], now)
        else:
            if late:
                return  # there is more to drop
        self.drained_at = now

    # --- one step

    def step(self) -> None:
        """Make one decision, and act on it."""
        now = self.clock()
        self.meter.tick(now, self.config.listen.silent_seconds)
        if self.lock.maintenance():
            self.meter.forget(now)
        pending, result = self.actions.pending, self.actions.reap()
        if result is not None:
            if self.dry_run and pending is not None:
                self.capacity = pending  # as if it had been done
            if result.good:
                self.repair.note(result.left_out, now)
        if not self._know_capacity() or self.capacity is None:
            return
        self.frozen = "" if self.actions.pending is not None else self.lock.reason()
        inputs = policy.Inputs(
            now=now,
            count=self.meter.count,
            known_seconds=self.meter.known_seconds(now),
            silent=tuple(self.meter.silent(now, self.config.listen.silent_seconds)),
            capacity=self.capacity,
            pending=self.actions.pending,
            frozen=self.frozen,
            floor=self.config.calendar.floor(self.wall_clock()),
            room=self._room(),
            open=self.meter.open(now, self.config.listen.silent_seconds),
        )
        self.inputs = inputs
        decision, self.memory = policy.decide(self.settings, inputs, self.memory)
        self.decision = decision
        if decision.action != "hold" and not self.actions.ready():
            return  # logged when it was first decided; done after the pause, if it still applies
        if self.decisions.add(
            decision,
            self.capacity,
            data_age=round(min(self.meter.age(now), 1e6), 1),
            known_seconds=round(inputs.known_seconds, 1),
            silent=list(inputs.silent),
        ):
            log.info("decision", extra={"capacity": self.capacity, **vars(decision)})
        if decision.action != "hold":
            self.actions.scale_to(decision.count)
        elif self.repair.due(now) and self.actions.ready() and not self.frozen:
            log.info("trying the hosts that were left out again", extra={"hosts": list(self.repair.left_out)})
            self.actions.scale_to(self.capacity)

    def _room(self) -> int | None:
        """What the hosts hold now, with those on demand that are ready; while their record can't be read, as before."""
        made, room = self.config.demand, self.config.room
        if made is None or room is None:
            return None
        try:
            self.made = sum(host["accepts"] for host in published.read(made.record))
        except (OSError, demand.Corrupt) as error:
            if not self.unreadable:
                log.error("the record of hosts on demand can't be read", extra={"error": str(error)})
            self.unreadable = True
        else:
            self.unreadable = False
        return room + self.made * made.instances_per_host

    def _know_capacity(self) -> bool:
        """Read the recorded capacity. One that is missing or damaged is counted again on the fleet."""
        if self.dry_run and self.capacity is not None:
            return True
        try:
            self.capacity = desired.read_capacity(self.config.paths.state)
            lost = "" if self.capacity else "it is not recorded"
        except desired.Corrupt as error:
            self.capacity, lost = None, str(error)
        except OSError as error:
            log.error("the capacity can't be read", extra={"error": str(error)})
            return self.capacity is not None
        if lost and self.dry_run:
            self.capacity = self.settings.minimum
        elif lost and self.actions.ready():
            log.error("the capacity is lost and is counted on the fleet", extra={"error": lost})
            self.actions.recount()
        return self.capacity is not None

    # --- reports

    def report(self) -> None:
        """Publish the metrics and the status."""
        now, decision, counters = self.clock(), self.decision, self.meter.counters
        self.metrics.set(
            data_age_seconds=self.meter.age(now),
            frozen=float(bool(self.frozen)),
            left_out_hosts=len(self.repair.left_out),
            actions_total=self.actions.started,
            failed_actions_total=self.actions.failed,
            requests_total=counters.requests,
            open_requests=self.meter.open(now, self.config.listen.silent_seconds),
            heartbeats_total=counters.heartbeats,
            duplicates_total=counters.duplicates,
            foreign_total=counters.foreign,
            malformed_total=counters.malformed,
            received_dropped_total=drops(UDP_TABLES, self.config.listen.port),
            minimum=policy.lowest(self.settings, self.inputs.floor if self.inputs else None),
            maximum=self.settings.maximum,
        )
        if decision is not None and self.capacity is not None:
            self.metrics.set(
                requests_per_second=decision.stable_rate,
                panic_requests_per_second=decision.panic_rate,
                capacity=self.capacity,
                desired=decision.desired,
                at_maximum=float(decision.at_maximum),
                withheld=max(0, decision.needed - self.capacity) if self.frozen else 0,
            )
        own = self.config.paths.own
        self.metrics.write(own / "autoscaler.prom")
        state.write_status(own / "status.json", self.status(now))

    def status(self, now: float) -> dict[str, Any]:
        decision, last = self.decision, self.actions.last
        return {
            "written": time.time(),
            "capacity": self.capacity,
            "desired": decision.desired if decision else None,
            "needed": decision.needed if decision else None,
            "requests_per_second": decision.stable_rate if decision else None,
            "panic_requests_per_second": decision.panic_rate if decision else None,
            "open_requests": self.meter.open(now, self.config.listen.silent_seconds),
            "at_maximum": decision.at_maximum if decision else False,
            "maximum": self.settings.maximum,
            "warning": self.warning,
            "explanation": policy.explain(self.settings, self.inputs, self.memory) if self.inputs else "",
            "stable_seconds": self.settings.stable_seconds,
            "panic_seconds": self.settings.panic_seconds,
            "minimum_by": self.inputs.floor.source if self.inputs and self.inputs.floor else "",
            "minimum": policy.lowest(self.settings, self.inputs.floor if self.inputs else None),
            "silent": self.meter.silent(now, self.config.listen.silent_seconds),
            "frozen": self.frozen,
            "acting": self.actions.pending,
            "last_action": {"good": last.good, "text": last.text, "seconds": last.seconds} if last else None,
            "left_out": self.repair.left_out,
            "decisions": self.decisions.last(SHOWN),
        }

    # --- the loop

    def reload(self, load: Callable[[], Config], notify: Callable[[str], None]) -> None:
        """Activate the configuration as it is now, or keep the old one if it is invalid."""
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            self.reconfigure(load())
            log.info("configuration reloaded")
        except ValueError as error:
            log.error("configuration rejected, the old one stays", extra={"error": str(error)})
        notify("READY=1")

    def reconfigure(self, config: Config) -> None:
        """Activate another configuration. Where datagrams arrive and where files are stays as it is until a restart."""
        fixed = {"address": self.config.listen.address, "port": self.config.listen.port}
        usable = config.model_copy(
            update={"listen": config.listen.model_copy(update=fixed), "paths": self.config.paths}
        )
        if usable != config:
            log.warning(
                "listen.address, listen.port and paths stay as they were until systemctl restart phoenix-autoscaler",
                extra={**fixed, "paths": self.config.paths},
            )
        config = usable
        self.meter.rebalance(map(str, config.listen.balancers))
        self.meter.resize(config.policy.long_seconds)
        if config.metrics != self.config.metrics:
            self.metrics.serve(str(config.metrics.address), config.metrics.port)
        self._configure(config)
        self.actions.settings = config.action

    def _configure(self, config: Config) -> None:
        self.config = config
        self.settings, self.warning = config.placeable()
        if self.warning:
            log.warning(self.warning)

    async def run(self, sock: socket.socket, notify: Callable[[str], None]) -> None:
        """Run until `stopping` is set, then wait for a running action, so that it is not cut off in the middle."""
        sock.setblocking(False)
        notify("READY=1")
        loop = asyncio.get_running_loop()
        next_step, next_report = loop.time(), loop.time()
        while not self.stopping:
            self.drain(sock)
            if loop.time() >= next_step:
                next_step = max(next_step + STEP, loop.time())
                self.step()
                notify("WATCHDOG=1")
            if loop.time() >= next_report:
                next_report = loop.time() + REPORT_SECONDS
                self.report()
            await asyncio.sleep(DRAIN_SECONDS)
        notify("STOPPING=1")
        if self.actions.task is not None:
            log.info("waiting for the running action")
            with contextlib.suppress(Exception):
                await self.actions.task
        self.decisions.flush()


def listening(config: Config) -> socket.socket:
    """The socket that systemd passes (it keeps receiving while the daemon restarts), or a new one."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        return socket.socket(fileno=3)
    address = str(config.listen.address)
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind((address, config.listen.port))
    return sock


def drops(tables: Iterable[Path], port: int) -> int:
    """Datagrams to this port that the kernel dropped, from /proc/net/udp{,6}."""
    lines = (line for table in tables if table.exists() for line in table.read_text().splitlines()[1:])
    fields = (line.split() for line in lines)
    return sum(int(one[12]) for one in fields if int(one[1].rpartition(":")[2], 16) == port)
