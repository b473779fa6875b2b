"""phoenixctl AREA VERB ...: the one command of Phoenix on its hosts."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from phoenix.build.identity import version

# MongoDB's driver, unpacked there by the roles `mongodb`, `backup` and `phoenix`.
DRIVER = "/opt/pymongo/current"
# The Python with the autoscaler's libraries, which its role installs.
AUTOSCALER_PYTHON = "/opt/phoenix/autoscaler/venv/bin/python"
USAGE = 64  # EX_USAGE


@dataclass(frozen=True)
class Area:
    """A part of Phoenix: the module whose main(arguments) carries out its verbs.

    driver: it uses MongoDB's driver where there is one; python: the interpreter that has its libraries.
    """

    module: str
    purpose: str
    driver: bool = False
    python: str = ""


AREAS: Mapping[str, Area] = {
    "alerts": Area("phoenix.alerting.cli", "the notifier: serve, event, deadman, test, former"),
    "authority": Area(
        "phoenix.database.authority", "the CA of the database's certificates: show, create, sign, begin, switch, end"
    ),
    "autoscaler": Area("phoenix.autoscaler.cli", "the autoscaler: serve, validate", python=AUTOSCALER_PYTHON),
    "backup": Area("phoenix.backup.cli", "dumps, logs and the store", driver=True),
    "build": Area("phoenix.build.cli", "releases and archives: release, source, export, project, toolkit, plugins"),
    "capacity": Area("phoenix.autoscaler.capacity", "the number of instances: explain, hold, release"),
    "certificates": Area("phoenix.balancer.acme", "certificates by ACME: account, due, issue, validate"),
    "demand": Area("phoenix.provider.service", "hosts on demand: serve, validate, show", python=AUTOSCALER_PYTHON),
    "deploys": Area("phoenix.state.deploys", "the history of deploys: begin, end, show, previous"),
    "drill": Area("phoenix.drills.cli", "drills on the running fleet: run, schedule, show"),
    "floating": Area("phoenix.balancer.floating", "this load balancer's floating addresses: show, leave"),
    "host": Area(
        "phoenix.fleet.host_status", "the state of this host, and what is due on it: status, updates", driver=True
    ),
    "instances": Area("phoenix.instances.cli", "the application's instances on this host"),
    "job": Area("phoenix.common.job", "another command in the background: start, wait"),
    "keys": Area("phoenix.fleet.ssh_keys", "the SSH keys that this host has made: show, next, switch, try, forget"),
    "logs": Area(
        "phoenix.instances.logs", "what the instances and processes of this host write, or of all: --fleet, --follow"
    ),
    "lock": Area("phoenix.state.lock", "the fleet's lock: acquire, renew, release, show, break"),
    "member": Area(
        "phoenix.database.certificate", "the certificate of this database member: due, refuse, request, install"
    ),
    "metering": Area("phoenix.balancer.heartbeat", "this load balancer's heartbeat for the autoscaler: heartbeat"),
    "metrics": Area("phoenix.monitoring.plugin", "Netdata's plugin: collect"),
    "names": Area("phoenix.database.names", "names of the database's members in /etc/hosts: keep"),
    "page": Area("phoenix.page.cli", "the status page on control: write"),
    "pipeline": Area(
        "phoenix.pipeline.cli",
        "requests that a pipeline's SSH key may make, and how its runs go: serve, begun, ended, result, fetch, hook",
    ),
    "play": Area("phoenix.pipeline.run", "run one of the fleet's plays from control"),
    "processes": Area("phoenix.processes.cli", "the application's other processes on this host", driver=True),
    "provider": Area("phoenix.provider.cli", "hosts at their provider: ensure, find, remove, serve"),
    "proxies": Area("phoenix.balancer.proxies", "whether the proxies in front speak the PROXY protocol: watch"),
    "reconcile": Area("phoenix.state.reconcile", "bring hosts back that were away, and end interrupted roll-outs"),
    "requests": Area("phoenix.balancer.access_log", "clients' requests, from nginx's access log: sample, watch"),
    "run": Area("phoenix.instances.command", "one command in a release's environment: COMMAND..."),
    "state": Area("phoenix.state.desired", "the fleet's desired state: show, record, drain, maintenance"),
    "vault": Area("phoenix.fleet.vault", "where Ansible runs, the password of the inventory's vault: rekey"),
    "upstreams": Area("phoenix.balancer.upstreams", "nginx's upstreams on this host: set, apply, load, maintenance"),
}


def usage() -> str:
    width = max(map(len, AREAS))
    lines = [f"  {name:<{width}}  {area.purpose}" for name, area in sorted(AREAS.items())]
    return "usage: phoenixctl AREA VERB ... | --version\n\n" + "\n".join(lines) + "\n"


def _installed() -> bool:
    """Whether this is the archive, or what was compiled of it, and not a checkout."""
    here = Path(sys.path[0])
    return here.is_file() or (here / "__main__.py").is_file()


def main(arguments: list[str]) -> int:
    """Run a command and return the area's exit status, or 64 for an unknown area."""
    if arguments == ["--version"]:
        print(f"phoenixctl {version()}")
        return 0
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage(), end="")
        return 0 if arguments else USAGE
    area = AREAS.get(arguments[0])
    if area is None:
        print(f"phoenixctl: unknown area {arguments[0]!r}\n{usage()}", end="", file=sys.stderr)
        return USAGE
    if area.python and Path(area.python).exists() and _installed():
        # The folder behind the link, which an upgrade leads elsewhere: a daemon has yet to import from its own.
        python = str(Path(area.python).parent.resolve() / Path(area.python).name)
        if python != sys.executable:
            os.execv(python, [python, "-I", sys.path[0], *arguments])  # the same version
    if area.driver and Path(DRIVER).is_dir():
        sys.path.append(DRIVER)
    sys.argv[0] = f"phoenixctl {arguments[0]}"  # as argparse's messages name it
    return int(importlib.import_module(area.module).main(arguments[1:]) or 0)
