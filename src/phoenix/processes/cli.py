"""The application's processes besides its instances: phoenixctl processes VERB ...

  serve --host NAME   keep this host's share of them: the unit phoenix-processes
  switch              have them run a release and a configuration, and wait until they do
  keep                start that unit where there are any, or stop it, also after a reboot; prints the changes as JSON
  status              what this host knows of them, as JSON

Exit status 1: they could not be switched; standard error gives the reason.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phoenix.common import files, prometheus, systemd
from phoenix.instances import configurations, paths, releases
from phoenix.instances.model import Change
from phoenix.processes import model, target, units
from phoenix.processes.keeper import Keeper
from phoenix.processes.leases import Leases, Unreachable
from phoenix.processes.model import Process, Running, Target
from phoenix.state import turn

TICK = 2.0
STATUS = Path("/run/phoenix-processes/status.json")
METRICS = Path("/var/lib/phoenix/metrics/processes.prom")
GAUGES = {
    "phoenix_processes_unplaced_age_seconds": "For how long a process or a schedule has been on no application host",
    "phoenix_processes_here": "Processes and schedules that this host runs",
}
# How often a process may be restarted while it is waited for, and the seconds that it has to run without.
CRASHES, HOLD = 3, 10.0
START_SECONDS = 30.0


def eligible() -> bool:
    """Whether this host takes slots: it serves, as a standby host does not."""
    return any(paths.LINKS.glob("[0-9]*"))


class Daemon:
    """The keeper with this host's systemd, settings and database."""

    def __init__(self, host: str) -> None:
        self.keeper = Keeper(host, units.Systemd(), lambda: time.clock_gettime(time.CLOCK_BOOTTIME))
        self.store: Leases | None = None
        self.uri = self.ca = ""
        self.unplaced: float | None = None
        self.ready = self.ended = False

    def connect(self, uri: str, ca: str) -> None:
        if (uri, ca) != (self.uri, self.ca):
            if self.store:
                self.store.close()
            self.store, self.uri, self.ca = Leases(uri, ca) if uri else None, uri, ca

    def tick(self) -> None:
        wanted = target.read()
        processes = target.processes(wanted.configuration)
        if processes:  # otherwise what is held is given back where it was taken
            self.connect(
                target.database(wanted.configuration, processes), target.trusted(wanted.configuration, processes)
            )
        able = eligible()
        self.keeper.tick(self.store, wanted, processes, able, self.ready)
        status = self.keeper.status(wanted, processes, able)
        now = time.monotonic()
        placed = all(status["holders"].values())
        self.unplaced = None if placed else now if self.unplaced is None else self.unplaced
        files.replace(STATUS, json.dumps({**status, "written": time.time()}))
        gauges = {
            "phoenix_processes_unplaced_age_seconds": 0.0 if self.unplaced is None else now - self.unplaced,
            "phoenix_processes_here": float(len(self.keeper.held)),
        }
        files.replace(METRICS, prometheus.exposition(gauges, GAUGES))

    def serve(self) -> None:
        signal.signal(signal.SIGTERM, self._end)
        last = ""
        while not self.ended:
            self.tick()
            # At first: what is bound to this unit, and restarted with it, starts only now that it may.
            systemd.notify("WATCHDOG=1" if self.ready else "READY=1")
            self.ready = True
            if self.keeper.error != last:
                last = self.keeper.error
                print(last or "in order again", flush=True)
            if not self.ended:
                time.sleep(TICK)
        METRICS.unlink(missing_ok=True)
        try:
            self.keeper.leave(self.store)
        except Unreachable as error:
            print(f"the leases were not given back, and lapse: {error}", flush=True)

    def _end(self, *_: object) -> None:
        self.ended = True


def unsettled(
    status: Mapping[str, Any], wanted: Target, processes: Mapping[str, Process], running: Mapping[str, Running]
) -> str:
    """What is not as wanted yet; "" when this host runs its share, and every slot is on some host."""
    if (status.get("release"), status.get("configuration")) != (wanted.release, wanted.configuration):
        return "phoenix-processes has not read what they are to run: see journalctl -u phoenix-processes"
    if not status["eligible"]:
        return f"still stopping: {', '.join(running)}" if running else ""
    if status["error"]:
        return str(status["error"])
    slots = model.slots(processes)
    if lacking := [slot for slot in slots if not status["holders"].get(slot)]:
        return f"on no host yet: {', '.join(lacking)}"
    own = [slot for slot in slots if status["holders"][slot] == status["host"]]
    behind = [slot for slot in own if slot not in running or not _fits(running[slot], wanted)]
    return f"not running yet: {', '.join(behind)}" if behind else ""


def _fits(unit: Running, wanted: Target) -> bool:
    """A scheduled command that runs just now is not cut: it is switched when it has ended."""
    return not unit.stopping and (unit.revision == wanted.revision or unit.busy)


def keep(check: bool = False, restart: bool = False) -> list[Change]:
    """Enable and start the keeper where this host's processes are any, and disable and stop it where they are none."""
    shown = systemd.show(f"LoadState,UnitFileState,ActiveState,FragmentPath,{systemd.STARTED}", units.KEEPER)[0]
    if shown.get("LoadState") != "loaded":
        return []
    # Also where a play that was cut has written the unit, and no later one finds it changed.
    restart = restart or systemd.unread(shown, Path(shown.get("FragmentPath", "")))
    if restart and not check:
        systemd.systemctl("daemon-reload")
    wanted = bool(target.processes(target.read().configuration))
    enabled, active = shown.get("UnitFileState") == "enabled", shown.get("ActiveState") in ("active", "activating")
    if (enabled, active) != (wanted, wanted):
        changes = [Change("start" if wanted else "stop")]
        command = ["enable" if wanted else "disable", "--quiet", "--now", units.KEEPER]
    else:
        changes = [Change("restart")] if restart and active else []
        command = ["restart", units.KEEPER]
    if changes and not check:
        systemd.systemctl(*command)
    return changes


class NotSwitched(Exception):
    """The processes do not run what they are to run; the text says why."""


def switch(release: str, configuration: str, lock: str, hold: float) -> None:
    """Record what they are to run, and wait until they do, and have done so for `hold` seconds.

    Raises:
        NotSwitched: they don't, or end again and again.
        releases.NotUnpacked, configurations.NotWritten: there is no such one; nothing was changed.
        turn.Superseded: another play has the fleet's lock.
    """
    releases.unpacked(release)
    configuration = configuration or configurations.accepted()
    configurations.written(configuration)
    former = target.processes(target.read().configuration)
    processes = target.processes(configuration)
    with turn.held(lock):
        wanted = target.record(release, configuration)
    if not processes and not former:
        return
    if processes:
        keep()
    longest = max(one.lease for one in [*processes.values(), *former.values()])
    deadline = time.monotonic() + longest + START_SECONDS + hold
    since, restarts = None, 0
    while True:
        running = units.Systemd().running()
        crashed = sum(one.restarts for one in running.values() if one.revision == wanted.revision)
        why = unsettled(_status(wanted.since), wanted, processes, running)
        now = time.monotonic()
        if why or crashed != restarts:
            since, restarts = None, crashed
        elif since is None:
            since = now
        if hold and crashed >= CRASHES:
            names = [slot for slot, one in running.items() if one.restarts]
            raise NotSwitched(
                f"{', '.join(names)} ended {crashed} times with {release}. See: journalctl -u '{units.unit(names[0])}'"
            )
        if since is not None and now - since >= hold:
            keep()
            return
        if now > deadline:
            raise NotSwitched(f"the processes do not run {release}: {why or 'they end again and again'}")
        time.sleep(0.5)


def _status(since: float = 0.0) -> dict[str, Any]:
    """What the keeper wrote last, unless that is older."""
    try:
        status = json.loads(STATUS.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return dict(status) if status.get("written", 0) >= since else {}


def report() -> dict[str, Any]:
    """For `processes status` and `host status`: {} where there is no keeper."""
    status = _status()
    if not status:
        return {}
    running = units.Systemd().running()
    own = {slot: one.__dict__ for slot, one in running.items()}
    return {**status, "running": own, "age": round(time.time() - status["written"], 1)}


def main(arguments: list[str]) -> int:
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = top.add_subparsers(dest="verb", required=True)
    verbs.add_parser("serve").add_argument("--host", required=True)
    verbs.add_parser("status")
    verb = verbs.add_parser("keep")
    verb.add_argument("--check", action="store_true", help="only report what would change")
    verb.add_argument("--restart", action="store_true", help="its unit or its code is another")
    verb = verbs.add_parser("switch")
    verb.add_argument("--release", required=True)
    verb.add_argument("--configuration", default="")
    verb.add_argument("--lock", default="", metavar="TOKEN")
    verb.add_argument("--hold", type=float, default=HOLD, help="seconds that they have to run")
    options = top.parse_args(arguments)
    if options.verb == "serve":
        Daemon(options.host).serve()
        return 0
    if options.verb == "status":
        print(json.dumps(report()))
        return 0
    if options.verb == "keep":
        print(json.dumps({"changed": [change.shown() for change in keep(options.check, options.restart)]}))
        return 0
    try:
        turn.enter(options.lock)
        switch(options.release, options.configuration, options.lock, options.hold)
    except (NotSwitched, releases.NotUnpacked, configurations.NotWritten, turn.Superseded) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
