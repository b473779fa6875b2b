"""Find phoenix@ instances whose event loop hangs, and have systemd replace them.

Liveness, not health: a malformed request line makes Node.js answer or close by itself, whatever state the application
and its database are in. No reaction in time, several times in a row, means that the event loop is blocked.
A refused connection does not indicate a hang: the process starts, waits for its database, or was just replaced.
"""

from __future__ import annotations

import argparse
import asyncio
import enum
import re
import time
from dataclasses import dataclass

from phoenix.common import systemd

REQUEST = b"\x01PROBE\r\n\r\n"


class Outcome(enum.Enum):
    REACTED = "reacted"
    SILENT = "silent"
    REFUSED = "refused"


@dataclass(frozen=True)
class Unit:
    """A running instance. started: seconds on the monotonic clock."""

    name: str
    port: int
    pid: int
    started: float


@dataclass(frozen=True)
class Policy:
    """timeout, interval, grace in seconds; failures: silent probes in a row before a kill."""

    timeout: float = 3.0
    interval: float = 1.0
    failures: int = 2
    grace: float = 15.0


@dataclass(frozen=True)
class Record:
    """The state kept of a unit's process between two probes."""

    pid: int = 0
    silent: int = 0


@dataclass(frozen=True)
class Decision:
    record: Record
    kill: bool
    wait: float  # seconds until the next probe
    reason: str = ""


def decide(record: Record, unit: Unit, outcome: Outcome, now: float, policy: Policy) -> Decision:
    """Pure: what to do about unit after a probe that ended now."""
    if record.pid != unit.pid:
        record = Record(pid=unit.pid)
    if outcome is not Outcome.SILENT:
        return Decision(Record(unit.pid), False, policy.interval)
    if now - unit.started < policy.grace:
        return Decision(Record(unit.pid), False, policy.interval)
    silent = record.silent + 1
    if silent >= policy.failures:
        reason = f"no reaction within {policy.timeout:g} s, {silent} times in a row"
        return Decision(Record(unit.pid), True, policy.interval, reason)
    # At once: a hang must be sure and found soon.
    return Decision(Record(unit.pid, silent), False, 0.0)


def parse_units(text: str) -> list[Unit]:
    """Running instances from `systemctl show`'s blocks of Id, ActiveState, MainPID and the start in monotonic µs."""
    units = []
    for values in systemd.parse(text):
        match = re.fullmatch(r"phoenix@(\d+)\.service", values.get("Id", ""))
        if not match or values.get("ActiveState") != "active" or int(values.get("MainPID") or 0) <= 0:
            continue
        started = int(values.get("ExecMainStartTimestampMonotonic") or 0) / 1e6
        units.append(Unit(values["Id"], int(match[1]), int(values["MainPID"]), started))
    return units


async def systemctl(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec("systemctl", *arguments, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return output.decode()


async def find(pattern: str = "phoenix@*.service") -> list[Unit]:
    return parse_units(
        await systemctl("show", "--property=Id,ActiveState,MainPID,ExecMainStartTimestampMonotonic", pattern)
    )


async def ask(port: int, host: str) -> None:
    """Send the malformed request and wait for any reaction."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(REQUEST)
        await writer.drain()
        await reader.read(1)
    finally:
        writer.transport.abort()


async def probe(port: int, timeout: float, host: str = "127.0.0.1") -> Outcome:
    """Any byte, end of file or reset counts as a reaction."""
    try:
        # Debian 11's Python has no asyncio.timeout, and its asyncio.TimeoutError is not the built-in one.
        await asyncio.wait_for(ask(port, host), timeout)
    except asyncio.TimeoutError:
        return Outcome.SILENT
    except ConnectionRefusedError:
        return Outcome.REFUSED
    except OSError:
        pass
    return Outcome.REACTED


async def kill(unit: Unit, reason: str) -> None:
    # Only the process that was judged: it may have been replaced meanwhile.
    if [found.pid for found in await find(unit.name)] != [unit.pid]:
        return
    print(f"{unit.name} (process {unit.pid}): {reason}; killing it, systemd starts it again", flush=True)
    await systemctl("kill", "--signal=SIGKILL", unit.name)


async def watch(name: str, units: dict[str, Unit], policy: Policy) -> None:
    """Probe one instance until it is no longer among units."""
    record = Record()
    while (unit := units.get(name)) is not None:
        outcome = await probe(unit.port, policy.timeout)
        decision = decide(record, unit, outcome, time.monotonic(), policy)
        record = decision.record
        if decision.kill:
            await kill(unit, decision.reason)
        await asyncio.sleep(decision.wait)


async def run(policy: Policy) -> None:
    units: dict[str, Unit] = {}
    watchers: dict[str, asyncio.Task[None]] = {}
    systemd.notify("READY=1")
    while True:
        found = {unit.name: unit for unit in await find()}
        units.clear()
        units.update(found)
        for name, task in list(watchers.items()):
            if task.done():
                task.result()  # A defect must end the daemon, not blind it.
                del watchers[name]
        for name in found:
            if name not in watchers:
                watchers[name] = asyncio.create_task(watch(name, units, policy))
        systemd.notify("WATCHDOG=1")
        await asyncio.sleep(policy.interval)


def main(arguments: list[str]) -> int:
    default = Policy()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interval", type=float, default=default.interval)
    parser.add_argument("--timeout", type=float, default=default.timeout)
    parser.add_argument("--failures", type=int, default=default.failures)
    parser.add_argument("--grace", type=float, default=default.grace)
    options = parser.parse_args(arguments)
    asyncio.run(run(Policy(options.timeout, options.interval, options.failures, options.grace)))
    return 0
