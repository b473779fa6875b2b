"""Start or stop several of this host's phoenix@ instances at once.

phoenixctl instances start PORT...  the ports run, besides what runs already: starts those that don't, all together,
                                    with the current release, and waits until each is healthy --times in a row
phoenixctl instances only PORT...   nothing but these ports runs: drains the others (drain), then stops them.
                                    Load balancers must have left them before.

Prints one `changed: ...` line for each change (with --check: that would be made).
Exit status 1: an instance did not become healthy. What this run started is stopped again, the rest is untouched.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import subprocess
import sys
from collections.abc import Iterable

from phoenix.common import files
from phoenix.instances import drain, instances


def missing(wanted: Iterable[int], found: Iterable[instances.Instance]) -> list[int]:
    """Wanted ports that don't run, or would not after a reboot."""
    running = {one.port for one in found if one.active and one.enabled and one.release}
    return [port for port in wanted if port not in running]


def surplus(wanted: Iterable[int], found: Iterable[instances.Instance]) -> list[int]:
    """Ports that run, or would after a reboot, and are not wanted."""
    ports = set(wanted)
    return [one.port for one in found if one.port not in ports and (one.active or one.enabled or one.release)]


def stop(ports: Iterable[int]) -> None:
    units = [instances.UNIT.format(port) for port in ports]
    instances.systemctl("disable", "--quiet", "--now", *units)
    subprocess.run(["systemctl", "reset-failed", *units], check=False, stderr=subprocess.DEVNULL)
    for port in ports:
        (instances.STATE / str(port)).unlink(missing_ok=True)
        (instances.LINKS / str(port)).unlink(missing_ok=True)


def start(ports: list[int], options: argparse.Namespace) -> int:
    release = files.target(instances.CURRENT)
    if not release:
        print(f"{instances.CURRENT} names no release: site.yml or deploy.yml has to run first", file=sys.stderr)
        return 1
    units = [instances.UNIT.format(port) for port in ports]
    for port in ports:
        files.point(instances.LINKS / str(port), release)
    # A first start that fails is no reason to give up: systemd goes on trying, and the wait decides.
    subprocess.run(["systemctl", "start", *units], check=False)
    # Links for the next boot, made while the instances start; no reload, for the running manager needs none.
    instances.systemctl("enable", "--no-reload", "--quiet", *units)
    failures = []
    with concurrent.futures.ThreadPoolExecutor(len(ports)) as pool:
        waits = {port: pool.submit(instances.wait_healthy, port, options, instances.CRASHES) for port in ports}
        for port, wait in waits.items():
            try:
                wait.result()
                instances.note(port, instances.revision_of(release))
            except instances.Unhealthy as error:
                failures.append(f"{error}. See: journalctl -u {instances.UNIT.format(port)}")
    if failures:
        stop(ports)
        print("\n".join(failures), file=sys.stderr)
        return 1
    return 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["start", "only"])
    parser.add_argument("ports", type=int, nargs="*")
    parser.add_argument("--health-path", default="/")
    parser.add_argument("--timeout", type=float, default=60, help="seconds to become healthy, or drained")
    parser.add_argument("--times", type=int, default=3, help="good answers in a row that make an instance healthy")
    parser.add_argument("--limit", type=float, default=5, help="seconds that one answer may take")
    parser.add_argument("--check", action="store_true", help="only say what would change")
    options = parser.parse_intermixed_args(arguments)
    found = instances.find()
    ports = (missing if options.command == "start" else surplus)(options.ports, found)
    for port in ports:
        print(f"changed: {'start' if options.command == 'start' else 'stop'} {port}", flush=True)
    if options.check or not ports:
        return 0
    if options.command == "start":
        return start(ports, options)
    # Drained or not: no load balancer knows them any more, so what is left is broken off at the time-out, as it says.
    drain.main([str(port) for port in ports] + ["--timeout", str(options.timeout)])
    stop(ports)
    return 0
