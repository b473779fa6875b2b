"""Bring this host's instances to exactly the wanted ports, one after another."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from phoenix.common import files, systemd
from phoenix.instances import configurations, health, model, paths, releases, units
from phoenix.instances.model import Change


def converge(
    ports: Sequence[int], release: str, configuration: str, check: health.HealthCheck, keep: int, keep_running: bool,
    dry: bool, changes: list[Change],
) -> None:  # fmt: skip
    """Start what is missing, stop what is not wanted, restart what is stale; `changes` gets each step when it begins.

    release and configuration become the current ones first ("": unchanged); with keep_running only where there is no
    current one, and nothing that runs is stopped or restarted. keep: number of releases to keep. dry: only report what
    would change.

    Raises health.Unhealthy (the instances after that one were left as they are) and configurations.NotWritten.
    """
    current = files.target(paths.CURRENT)
    if release and (not current or not keep_running):
        current = str(paths.RELEASES / release)
    if current != files.target(paths.CURRENT):
        changes.append(Change("current", release=release))
        if not dry:
            files.point(paths.CURRENT, current)
    accepted = configurations.accepted()
    if configuration and configuration != accepted and (not accepted or not keep_running):
        accepted = configuration
        changes.append(Change("current", configuration=accepted))
        if not dry:
            configurations.accept(accepted)
    revision = units.revision_of(current, accepted)
    steps = model.decide(ports, units.find(), revision, keep_running)
    # Links first: a unit that is new may name them.
    for step in sorted(steps, key=lambda step: step.action != "link"):
        changes.append(step)
        if not dry:
            _take(step, current, accepted, check)
    if not dry:
        units.reload_changed()
        releases.mark_current()
        changes += configurations.prune(besides=[configuration])
    changes += releases.prune(keep, dry)


def _take(step: Change, current: str, accepted: str, check: health.HealthCheck) -> None:
    if step.action == "link":
        units.link([step.port], current, accepted)
        return
    units.reload_changed()
    unit = units.UNIT.format(step.port)
    if step.action == "stop":
        units.stop([step.port], 0)
    elif step.action == "enable":
        systemd.systemctl("enable", "--quiet", unit)
    else:
        units.link([step.port], current, accepted)
        # A failed first start is not final: systemd keeps trying, and the wait decides.
        subprocess.run(["systemctl", "restart", unit], check=False)
        health.wait(step.port, check)
        units.note(step.port, units.revision_of(current, accepted))
