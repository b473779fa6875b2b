"""What this host's processes are to run: recorded apart from the instances', as a roll-out switches them later."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from phoenix.common import files
from phoenix.database import tls
from phoenix.instances import configurations, paths
from phoenix.processes import model
from phoenix.processes.model import Process, Target

DEFINED = "processes.json"


def read() -> Target:
    """The recorded one; on a host that no roll-out has reached yet, what new instances get."""
    if recorded := paths.processes():
        return Target(**recorded)
    since = paths.CURRENT.lstat().st_mtime if paths.CURRENT.is_symlink() else 0.0
    return Target(Path(files.target(paths.CURRENT)).name, configurations.accepted(), since)


def record(release: str, configuration: str) -> Target:
    """Record it, also where it is the same: it is known to be right since now."""
    target = Target(release, configuration, time.time())
    paths.PROCESSES.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    files.replace(paths.PROCESSES, json.dumps(target.__dict__), durable=True)
    return target


def processes(configuration: str) -> dict[str, Process]:
    """Those of a configuration of this host; none where it has no such configuration."""
    try:
        return model.read((paths.CONFIGURATIONS / configuration / DEFINED).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}


def database(configuration: str, processes: dict[str, Process]) -> str:
    """The database's address in the environment of the processes; "" without any."""
    return _variable("DB_CONNECTION_STRING", configuration, processes)


def trusted(configuration: str, processes: dict[str, Process]) -> str:
    """Path of the CAs by which the processes know the database; "" without TLS, and for a file of the operator's own.

    Such a file is an addition to the system's CAs for Node.js, and would replace them for the leases.
    """
    by_tls = re.search(r"[?&](ssl|tls)=true\b", database(configuration, processes))
    path = _variable(tls.NODE_VARIABLE, configuration, processes) if by_tls else ""
    return path if Path(path).parent == Path(tls.BUNDLE).parent else ""


def _variable(variable: str, configuration: str, processes: dict[str, Process]) -> str:
    for name in processes:
        text = (paths.CONFIGURATIONS / configuration / f"environment.{name}").read_text(encoding="utf-8")
        found = dict(configurations.VARIABLE.findall(text)).get(variable, "")
        return configurations.ESCAPED.sub(r"\1", found)
    return ""
