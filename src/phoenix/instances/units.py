"""This host's phoenix@ units and their links, which name the release and the configuration that an instance runs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from phoenix.common import files, systemd
from phoenix.instances import configurations, drain, paths
from phoenix.instances.model import Instance
from phoenix.state import turn

UNIT = "phoenix@{}.service"
# Waiting for its restart counts as running: systemd brings it back by itself.
RUNNING = ("active", "activating", "reloading")


def names(ports: Sequence[int]) -> list[str]:
    return [UNIT.format(port) for port in ports]


def revision_of(release: str, configuration: str) -> str:
    """Identity of all that an instance is started with: a release (a path), and a configuration, named by content."""
    return f"{release} {configuration}"


def find() -> list[Instance]:
    """Every port of this host that runs, would run after a reboot, or is remembered."""
    active: set[int] = set()
    for shown in systemd.show("Id,ActiveState", UNIT.format("*")):
        match = re.fullmatch(r"phoenix@(\d+)\.service", shown.get("Id", ""))
        if match and shown.get("ActiveState") in RUNNING:
            active.add(int(match[1]))
    wants = paths.wants().glob("phoenix@*.service")
    enabled = {int(match[1]) for link in wants if (match := re.fullmatch(r"phoenix@(\d+)\.service", link.name))}
    known = {int(path.name) for path in paths.STATE.glob("[0-9]*")}
    linked = {int(path.name) for path in paths.LINKS.glob("[0-9]*")}
    found = paths.UNITS.glob("phoenix@*.service.d")
    configured = {int(match[1]) for path in found if (match := re.fullmatch(r"phoenix@(\d+)\.service\.d", path.name))}
    return [
        Instance(
            port,
            port in active,
            port in enabled,
            (paths.STATE / str(port)).read_text(encoding="ascii") if port in known else "",
            files.target(paths.LINKS / str(port)),
            configurations.of(port),
        )
        for port in sorted(active | enabled | known | linked | configured)
    ]


def restarts(port: int) -> int:
    """How often systemd has restarted the instance since it was started."""
    return int(systemd.show("NRestarts", UNIT.format(port))[0].get("NRestarts") or 0)


def note(port: int, revision: str) -> None:
    """Remember what the instance was healthy with."""
    files.replace(paths.STATE / str(port), revision)


def link(ports: Sequence[int], release: str, configuration: str) -> None:
    """Link what instances run from their next start on: a release (a path) and a configuration. Raises NotWritten."""
    linked = [configurations.link(port, configuration) for port in ports]
    for port in ports:
        files.point(paths.LINKS / str(port), release)
    # systemd 252 does not see this by itself: NeedDaemonReload is mostly "no" for a folder of drop-ins that is new, and
    # always for one whose files are older, as those are to which an instance is put back.
    if any(linked):
        systemd.systemctl("daemon-reload")


def stop(ports: Sequence[int], drain_seconds: float, lock: str = "") -> None:
    """Wait until no request is in flight, then stop the ports for good. What is open after drain_seconds is cut.

    Raises turn.Superseded when another play than that with the lock has come to this host meanwhile.
    """
    if drain_seconds:
        drain.wait(ports, drain_seconds)
    with turn.held(lock):
        systemd.systemctl("disable", "--quiet", "--now", *names(ports))
        reset_failed(ports)
        for port in ports:
            (paths.STATE / str(port)).unlink(missing_ok=True)
            (paths.LINKS / str(port)).unlink(missing_ok=True)
            paths.drop_ins(port).unlink(missing_ok=True)


def reset_failed(ports: Sequence[int]) -> None:
    """Reset failures. systemd unloads a unit that was stopped cleanly, and then has nothing to reset."""
    subprocess.run(["systemctl", "reset-failed", *names(ports)], check=False, stderr=subprocess.DEVNULL)


def reload_changed() -> None:
    """Have systemd read changed unit files; the pattern matches active units."""
    shown = systemd.show("NeedDaemonReload", "phoenix-probe.service", UNIT.format("*"))
    if any(unit.get("NeedDaemonReload") == "yes" for unit in shown):
        systemd.systemctl("daemon-reload")
