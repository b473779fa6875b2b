"""Switch instances that are out of rotation to another release or configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from phoenix.common import systemd
from phoenix.instances import configurations, drain, health, paths, releases, units
from phoenix.state import turn


def switch(
    ports: Sequence[int],
    release: str,
    configuration: str,
    check: health.HealthCheck,
    drain_seconds: float,
    rehearsal: Iterable[Mapping[str, str]] = (),
    lock: str = "",
) -> None:
    """Drain, stop, link and start the ports, all at once, and wait until each is healthy and answers the rehearsal.

    Raises:
        health.Unhealthy: one did not.
        releases.NotUnpacked, configurations.NotWritten: there is no such one; nothing was touched.
        turn.Superseded: another play than that with the lock has come to this host while they were drained.
    """
    target = str(releases.unpacked(release))
    configurations.written(configuration)
    asked = list(rehearsal)
    revision = units.revision_of(target, configuration)
    # A request that is still open after so long is cut, as nginx itself does with those of old workers.
    if drain_seconds:
        drain.wait(ports, drain_seconds)
    with turn.held(lock):
        systemd.systemctl("stop", *units.names(ports))
        for port in ports:
            (paths.STATE / str(port)).unlink(missing_ok=True)
        units.link(ports, target, configuration)
        units.reload_changed()
        # Links for the next boot; the running manager needs none, and reading all units again takes it time.
        systemd.systemctl("enable", "--no-reload", "--quiet", *units.names(ports))
        units.reset_failed(ports)
        systemd.systemctl("start", *units.names(ports))
        for port in ports:
            health.wait(port, check, health.CRASHES)
            health.rehearse(port, asked, check.limit)
            units.note(port, revision)
