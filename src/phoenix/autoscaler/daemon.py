"""The loop: datagrams into the meter, a decision every step, actions beside it."""

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
from phoenix.state import desired

log = logging.getLogger(__name__)

DRAIN_SECONDS = 0.01  # between two readings of the socket: many datagrams for each waking
AT_ONCE = 2000  # datagrams in one reading, so that a flood can't starve the rest
LARGEST = 512  # bytes of a datagram that could be ours
TELL_SECONDS = 1.0
REPAIR_SECONDS = 60.0  # until hosts that were left out are tried again; doubled with each time
UDP_TABLES = (Path("/proc/self/net/udp"), Path("/proc/self/net/udp6"))
SHOWN = 10  # decisions in the status


class Daemon:
    """Everything that has a life. The clock is monotonic, in seconds."""

    def __init__(
        self,
        config: Config,
        actions: Actions,
        lock: state.FleetLock | state.NullLock,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        dry_run: bool = False,
    ) -> None:
        self.config, self.actions, self.lock, self.metrics = config, actions, lock, metrics
        self.clock, self.dry_run = clock, dry_run
        self.meter = Meter(map(str, config.listen.balancers), config.policy.long_seconds, clock())
        self.memory = policy.Memory()
        self.decisions = state.Decisions(config.paths.own / "decisions.jsonl")
        self.capacity: int | None = None
        self.decision: policy.Decision | None = None
        self.left_out: dict[str, str] = {}
        self.repair_at = float("inf")
        self.repair_pause = REPAIR_SECONDS
        self.frozen = ""
        self.stopping = False
        self.drained_at = float("-inf")

    # --- datagrams

    def drain(self, sock: socket.socket) -> None:
        """Take in what has arrived. What waited for long is of no known time, and no jump of the load: it is left."""
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
                return  # there is more of it
        self.drained_at = now

    # --- one step

    def step(self) -> None:
        """One decision, and what follows from it."""
        now = self.clock()
        self.meter.tick(now, self.config.listen.silent_seconds)
        pending, result = self.actions.pending, self.actions.reap()
        if result is not None:
            if self.dry_run and pending is not None:
                self.capacity = pending  # as if it had been done
            self._ended(result.good, result.left_out, now)
        if not self._know_capacity() or self.capacity is None:
            return
        self.frozen = "" if self.actions.pending is not None else self.lock.reason()
        settings = policy.Settings(**self.config.policy.model_dump())
        inputs = policy.Inputs(
            now=now,
            count=self.meter.count,
            known_seconds=self.meter.known_seconds(now),
            silent=tuple(self.meter.silent(now, self.config.listen.silent_seconds)),
            capacity=self.capacity,
            pending=self.actions.pending,
            frozen=self.frozen,
        )
        decision, self.memory = policy.decide(settings, inputs, self.memory)
        self.decision = decision
        if decision.action != "hold" and not self.actions.ready():
            return  # said when it was decided first; it is done after the pause, if it still holds
        if self.decisions.add(
            decision,
            self.capacity,
            data_age=round(min(self.meter.age(now), 1e6), 1),
            known_seconds=round(inputs.known_seconds, 1),
            silent=list(inputs.silent),
        ):
            log.info("decision", extra={"capacity": self.capacity, **vars(decision)})
        if decision.action != "hold":
            self._scale(decision.count)
        elif self.left_out and now >= self.repair_at and self.actions.ready() and not self.frozen:
            log.info("trying hosts again that were left out", extra={"hosts": list(self.left_out)})
            self._scale(self.capacity)

    def _scale(self, count: int) -> None:
        lease = int(self.config.action.timeout_seconds) + 15
        self.actions.start("scale", {"phoenix_capacity": str(count), "scale_lock_lease": str(lease)}, pending=count)

    def _ended(self, good: bool, left_out: dict[str, str], now: float) -> None:
        if not good:
            return
        self.left_out = left_out
        if left_out:
            self.repair_at = now + self.repair_pause
            self.repair_pause = min(self.repair_pause * 2, 600.0)
        else:
            self.repair_at, self.repair_pause = float("inf"), REPAIR_SECONDS

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
            self.capacity = self.config.policy.minimum
        elif lost and self.actions.ready():
            log.error("the capacity is lost and is counted on the fleet", extra={"error": lost})
            self.actions.start("recount", {})
        return self.capacity is not None

    # --- what is told

    def tell(self) -> None:
        now, decision, counters = self.clock(), self.decision, self.meter.counters
        self.metrics.set(
            data_age_seconds=self.meter.age(now),
            frozen=float(bool(self.frozen)),
            left_out_hosts=len(self.left_out),
            actions_total=self.actions.started,
            failed_actions_total=self.actions.failed,
            requests_total=counters.requests,
            heartbeats_total=counters.heartbeats,
            duplicates_total=counters.duplicates,
            foreign_total=counters.foreign,
            malformed_total=counters.malformed,
            received_dropped_total=drops(UDP_TABLES, self.config.listen.port),
            minimum=self.config.policy.minimum,
            maximum=self.config.policy.maximum,
        )
        if decision is not None and self.capacity is not None:
            self.metrics.set(
                requests_per_second=decision.stable_rate,
                panic_requests_per_second=decision.panic_rate,
                capacity=self.capacity,
                desired=decision.desired,
                at_maximum=float(decision.at_maximum),
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
            "requests_per_second": decision.stable_rate if decision else None,
            "panic_requests_per_second": decision.panic_rate if decision else None,
            "at_maximum": decision.at_maximum if decision else False,
            "silent": self.meter.silent(now, self.config.listen.silent_seconds),
            "frozen": self.frozen,
            "acting": self.actions.pending,
            "last_action": {"good": last.good, "text": last.text, "seconds": last.seconds} if last else None,
            "left_out": self.left_out,
            "decisions": self.decisions.last(SHOWN),
        }

    # --- the loop

    def reconfigure(self, config: Config) -> None:
        """Take another configuration over. Where it listens and what it keeps is for a restart."""
        if (config.listen.address, config.listen.port, config.paths, config.metrics, config.policy.long_seconds) != (
            self.config.listen.address,
            self.config.listen.port,
            self.config.paths,
            self.config.metrics,
            self.config.policy.long_seconds,
        ):
            log.warning("addresses, ports, paths and long_seconds change only with a restart")
        self.meter.rebalance(map(str, config.listen.balancers))
        self.config = config
        self.actions.settings = config.action

    async def run(self, sock: socket.socket, notify: Callable[[str], None]) -> None:
        """Until told to stop; a running action is then waited for, so that it is not cut in the middle."""
        sock.setblocking(False)
        notify("READY=1")
        loop = asyncio.get_running_loop()
        next_step, next_tell = loop.time(), loop.time()
        while not self.stopping:
            self.drain(sock)
            if loop.time() >= next_step:
                next_step = max(next_step + STEP, loop.time())
                self.step()
                notify("WATCHDOG=1")
            if loop.time() >= next_tell:
                next_tell = loop.time() + TELL_SECONDS
                self.tell()
            await asyncio.sleep(DRAIN_SECONDS)
        notify("STOPPING=1")
        if self.actions.task is not None:
            log.info("waiting for the running action")
            with contextlib.suppress(Exception):
                await self.actions.task
        self.decisions.flush()


def listening(config: Config) -> socket.socket:
    """The socket that systemd hands over (it goes on receiving while the daemon restarts), or one of our own."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        return socket.socket(fileno=3)
    address = str(config.listen.address)
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind((address, config.listen.port))
    return sock


def drops(tables: Iterable[Path], port: int) -> int:
    """Datagrams to this port that the kernel dropped, out of /proc/net/udp{,6}."""
    lines = (line for table in tables if table.exists() for line in table.read_text().splitlines()[1:])
    fields = (line.split() for line in lines)
    return sum(int(one[12]) for one in fields if int(one[1].rpartition(":")[2], 16) == port)
