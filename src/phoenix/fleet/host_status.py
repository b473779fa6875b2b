"""phoenixctl host status: what this host runs, as JSON; phoenixctl host updates: what is due on it (see there)."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

from phoenix.balancer import floating
from phoenix.build import identity
from phoenix.common import files, systemd
from phoenix.database import replica_set, tls
from phoenix.fleet import updates
from phoenix.instances import releases
from phoenix.processes import cli as processes
from phoenix.provider import published
from phoenix.state import desired


def run(*command: str) -> str:
    """Standard output of a command, stripped; empty where it can't run."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def instances() -> list[str]:
    """Instances of the application as "port" or "port(restarts)", with their state where it is not active."""
    found = []
    for shown in systemd.parse(run("systemctl", "show", "--property=Id,ActiveState,NRestarts", "phoenix@*.service")):
        port = shown["Id"].removeprefix("phoenix@").removesuffix(".service")
        restarts = "" if shown.get("NRestarts", "0") == "0" else f"(restarts {shown['NRestarts']})"
        state = "" if shown.get("ActiveState") == "active" else f"[{shown.get('ActiveState')}]"
        found.append(f"{port}{restarts}{state}")
    return sorted(found)


def database(configuration_path: Path = Path("/etc/mongod.conf")) -> str:
    """Role of this host's database member, or an empty string where it has none."""
    try:
        configuration = configuration_path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    # Phoenix's own template writes the file; hosts have no YAML parser in their standard library.
    port = re.search(r"^\s+port: (\d+)$", configuration, re.MULTILINE)
    ca = tls.BUNDLE if tls.mode_of(started(configuration)) != tls.MODES[0] else ""
    return replica_set.role("127.0.0.1", int(port[1]), ca) if port else "NOT READY"


def started(configuration: str, folder: Path = Path("/run/mongodb")) -> str:
    """The configuration that the running server was started with: before a restart that is due, the former one."""
    if not (folder / "started").exists():
        return configuration
    copy = folder / "mongod.conf"  # not there without TLS
    return copy.read_text(encoding="utf-8") if copy.exists() else ""


def built(folder: Path = Path("/var/lib/phoenix/releases")) -> dict[str, str]:
    """The recorded checksum of each archive that this host has built, by the release's name."""
    notes = {note.name[: -len(".tar.gz.sha256")]: note for note in folder.glob("[!.]*.tar.gz.sha256")}
    return {name: f"sha256:{note.read_text(encoding='ascii').partition(' ')[0]}" for name, note in notes.items()}


def autoscaler() -> dict[str, object]:
    """What the autoscaler of this host wrote about itself last, with its age in seconds; empty where it has none."""
    try:
        status = json.loads(Path("/var/lib/phoenix/autoscaler/status.json").read_text(encoding="utf-8"))
        return {**status, "age": round(time.time() - status["written"], 1)}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["updates"]:
        return updates.main(arguments[1:])
    if arguments != ["status"]:
        print("usage: phoenixctl host status | updates [--all]", file=sys.stderr)
        return 64
    failed = run("systemctl", "list-units", "--failed", "--plain", "--no-legend").splitlines()
    status: dict[str, object] = {
        "version": identity.version(),
        "system": run("systemctl", "is-system-running"),
        "failed": [line.split()[0] for line in failed],
        "instances": instances(),
    }
    if release := files.target(Path("/opt/phoenix/current")):
        status["release"] = Path(release).name
        status["checksum"] = releases.checksums().get(Path(release).name, "")
    if archives := built():
        status["archives"] = archives
    if role := database():
        status["database"] = role
    if Path("/etc/phoenix/backup/store.json").exists():
        status["backup"] = run("/usr/local/bin/phoenixctl", "backup", "status") or "unknown"
    if known := floating.addresses():
        with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
            status["floating"] = floating.held(known)
    with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
        if kept := processes.report():
            status["processes"] = kept
    if scaling := autoscaler():
        status["autoscaler"] = scaling
    if made := published.read_status():
        status["demand"] = {**made, "now": time.time()}
    with contextlib.suppress(OSError, desired.Corrupt):
        if out := desired.read_drained():
            status["drained"] = out
    print(json.dumps(status))
    return 0
