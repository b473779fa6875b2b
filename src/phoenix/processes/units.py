"""The slots' units on this host: transient, so that none starts at boot before its lease is this host's again.

They are bound to phoenix-processes.service: when the keeper dies or hangs, systemd stops them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from phoenix.common import systemd
from phoenix.instances import command, configurations, paths, releases
from phoenix.processes.keeper import StartError
from phoenix.processes.model import Process, Running, Target

KEEPER = "phoenix-processes.service"
STAMPS = Path("/var/lib/systemd/timers")
PROPERTIES = "Id,LoadState,ActiveState,NRestarts,Description"
NAMED = re.compile(r"phoenix-([a-z0-9-]+@\d+)\.(service|timer)")
CALL_SECONDS = 10
# systemctl would report to the keeper's own unit.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}


def unit(slot: str, kind: str = "service") -> str:
    return f"phoenix-{slot}.{kind}"


def description(slot: str, target: Target) -> str:
    return f"Phoenix, {slot} of {target.revision}"


def properties(slot: str, process: Process, target: Target, settings: list[str]) -> list[str]:
    """The unit's settings: those of the instances, and the process' own after them, for the last one counts."""
    folder = paths.CONFIGURATIONS / target.configuration
    shared = [line for line in settings if not line.startswith("EnvironmentFile=")]
    own = [
        f"WorkingDirectory={paths.RELEASES / target.release}",
        f"EnvironmentFile={folder / f'environment.{process.name}'}",
        f"MemoryMax={process.memory}",
        f"TimeoutStopSec={process.stop_timeout}",
        f"SyslogIdentifier=phoenix-{slot.replace('@', '-')}",
        f"BindsTo={KEEPER}",
        f"After={KEEPER}",
    ]
    if process.calendar:
        own += [f"RuntimeMaxSec={process.timeout}", "SuccessExitStatus=143"]
    else:
        # As the instances (decision 7): however often it ends, it is started again at once.
        own += ["Restart=always", "RestartSec=0", "StartLimitIntervalSec=0"]
    return shared + own


def line(slot: str, process: Process, target: Target, settings: list[str], text: str) -> list[str]:
    """The command line that makes the unit; with a calendar, a timer and what it starts."""
    timer = [
        f"--on-calendar={process.calendar}",
        *(
            f"--timer-property={one}"
            for one in ("AccuracySec=1s", "Persistent=true", f"BindsTo={KEEPER}", f"After={KEEPER}")
        ),
    ]
    return [
        *("systemd-run", "--quiet", "--service-type=exec", f"--unit={unit(slot)}"),
        f"--description={description(slot, target)}",
        *(timer if process.calendar else []),
        *(f"--property={one}" for one in properties(slot, process, target, settings)),
        # systemd replaces variables itself, before the shell can.
        *("--", "/bin/sh", "-c", text.replace("$", "$$")),
    ]


def understood(shown: list[Mapping[str, str]]) -> dict[str, Running]:
    """The slots among units, from their properties. One that only is there, having failed, does not run."""
    found: dict[str, dict[str, Mapping[str, str]]] = {}
    for values in shown:
        match = NAMED.fullmatch(values.get("Id", ""))
        if match and values.get("ActiveState") not in (None, "inactive", "failed"):
            found.setdefault(match[1], {})[match[2]] = values
    running = {}
    for slot, kinds in found.items():
        first = kinds.get("timer") or kinds["service"]
        stopping = any(one["ActiveState"] == "deactivating" for one in kinds.values())
        busy = "timer" in kinds and "service" in kinds
        running[slot] = Running(
            first.get("Description", "").partition(" of ")[2],
            stopping,
            busy,
            int(kinds.get("service", {}).get("NRestarts") or 0),
        )
    return running


class Systemd:
    """keeper.Units on this host."""

    def running(self) -> dict[str, Running]:
        bound = _systemctl("show", "--property=BoundBy", KEEPER).partition("=")[2].split()
        slots = sorted({match[1] for name in bound if (match := NAMED.fullmatch(name))})
        if not slots:
            return {}
        names = [unit(slot, kind) for slot in slots for kind in ("service", "timer")]
        return understood(list(systemd.parse(_systemctl("show", f"--property={PROPERTIES}", *names))))

    def start(self, slot: str, process: Process, target: Target) -> None:
        release, folder = paths.RELEASES / target.release, paths.CONFIGURATIONS / target.configuration
        try:
            package = json.loads((release / "package.json").read_text(encoding="utf-8"))
            lasting = not process.calendar
            text = command.shell_text(package, [process.command], releases.node(release), lasting)
            parts = [paths.template().read_text(encoding="utf-8"), (folder / configurations.UNIT).read_text("utf-8")]
        except (OSError, ValueError, command.CommandError) as error:
            raise StartError(str(error)) from error
        _quietly("reset-failed", unit(slot))
        made = line(slot, process, target, command.settings(*parts), text)
        try:
            done = subprocess.run(
                made, capture_output=True, text=True, timeout=CALL_SECONDS, check=False, env=ENVIRONMENT
            )
        except subprocess.TimeoutExpired as error:
            raise StartError(f"systemd did not start it within {CALL_SECONDS} s") from error
        if done.returncode:
            raise StartError(done.stderr.strip() or f"it does not start; see: journalctl -u {unit(slot)}")
        print(f"{slot}: started, {target.revision}", flush=True)

    def stop(self, slot: str) -> None:
        print(f"{slot}: stopping", flush=True)
        _quietly("stop", "--no-block", unit(slot, "timer"), unit(slot))
        _quietly("reset-failed", unit(slot))

    def forget(self, slot: str) -> None:
        """When its timer ran here last: it has run elsewhere since, and missed nothing."""
        (STAMPS / f"stamp-{unit(slot, 'timer')}").unlink(missing_ok=True)


def _systemctl(*arguments: str) -> str:
    return subprocess.run(
        ["systemctl", *arguments], check=True, stdout=subprocess.PIPE, text=True, timeout=CALL_SECONDS, env=ENVIRONMENT
    ).stdout


def _quietly(*arguments: str) -> None:
    subprocess.run(
        ["systemctl", *arguments], check=False, stderr=subprocess.DEVNULL, timeout=CALL_SECONDS, env=ENVIRONMENT
    )
