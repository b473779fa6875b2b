"""Start or stop several of this host's instances at once."""

from __future__ import annotations

import concurrent.futures
import subprocess
from collections.abc import Sequence

from phoenix.common import files, systemd
from phoenix.instances import configurations, health, paths, releases, units


def start(ports: Sequence[int], check: health.HealthCheck, recorded: str = "", configuration: str = "") -> None:
    """Start the ports together, with the recorded release and configuration, and wait until each is healthy.

    Where none is recorded ("") they are the host's current ones. A host that was away during a roll-out has older ones,
    which must not serve.

    Raises:
        health.Unhealthy: one is not; what was started is stopped again.
        releases.NotUnpacked, configurations.NotWritten: it is not on this host; nothing was started.
    """
    release = str(releases.unpacked(recorded)) if recorded else files.target(paths.CURRENT)
    if not release:
        raise health.Unhealthy(f"{paths.CURRENT} names no release: site.yml or deploy.yml has to run first")
    configuration = configuration or configurations.accepted()
    units.link(ports, release, configuration)
    units.reload_changed()
    # A failed first start is not final: systemd keeps trying, and the wait decides.
    subprocess.run(["systemctl", "start", *units.names(ports)], check=False)
    # Links for the next boot, made while the instances start; no reload, for the running manager needs none.
    systemd.systemctl("enable", "--no-reload", "--quiet", *units.names(ports))
    failures = []
    with concurrent.futures.ThreadPoolExecutor(len(ports)) as pool:
        waits = {port: pool.submit(health.wait, port, check, health.CRASHES) for port in ports}
        for port, wait in waits.items():
            try:
                wait.result()
                units.note(port, units.revision_of(release, configuration))
            except health.Unhealthy as error:
                failures.append(f"{error}. See: journalctl -u {units.UNIT.format(port)}")
    if failures:
        units.stop(ports, 0)
        raise health.Unhealthy("\n".join(failures))
