#!/usr/bin/python3
"""Prints what one host of the fleet runs, as JSON: system state, release, instances with their restarts, database role."""

import json
import os
import subprocess
import time


def run(*command: str) -> str:
    """Standard output of a command, stripped; empty where it can't run."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def instances() -> list[str]:
    """Instances of the application as "port" or "port(restarts)", with their state where it is not active."""
    found = []
    for line in run("systemctl", "list-units", "--all", "--plain", "--no-legend", "phoenix@*.service").splitlines():
        unit = line.split()[0]
        shown = dict(
            pair.split("=", 1)
            for pair in run("systemctl", "show", "-p", "ActiveState,NRestarts", unit).splitlines()
        )
        port = unit.removeprefix("phoenix@").removesuffix(".service")
        restarts = "" if shown.get("NRestarts", "0") == "0" else f"(restarts {shown['NRestarts']})"
        state = "" if shown.get("ActiveState") == "active" else f"[{shown.get('ActiveState')}]"
        found.append(f"{port}{restarts}{state}")
    return found


def database() -> str:
    """Role of this host's database member, or an empty string where it has none."""
    if not os.path.exists("/etc/mongod.conf"):
        return ""
    script = (
        "import pymongo, json;"
        "h = pymongo.MongoClient('127.0.0.1', directConnection=True, serverSelectionTimeoutMS=3000).admin.command('hello');"
        "print('PRIMARY' if h.get('isWritablePrimary') else 'SECONDARY' if h.get('secondary') else 'NOT READY')"
    )
    return run("env", "PYTHONPATH=/opt/pymongo/current", "/usr/bin/python3", "-c", script) or "silent"


def autoscaler() -> dict[str, object]:
    """What the autoscaler of this host wrote about itself last, with its age in seconds; empty where it has none."""
    try:
        with open("/var/lib/phoenix/autoscaler/status.json", encoding="utf-8") as file:
            status = json.load(file)
        return {**status, "age": round(time.time() - status["written"], 1)}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


failed = run("systemctl", "list-units", "--failed", "--plain", "--no-legend").splitlines()
status = {
    "system": run("systemctl", "is-system-running"),
    "failed": [line.split()[0] for line in failed],
    "instances": instances(),
}
if os.path.islink("/opt/phoenix/current"):
    status["release"] = os.path.basename(os.path.realpath("/opt/phoenix/current"))
if role := database():
    status["database"] = role
if os.path.exists("/etc/phoenix/backup/store.json"):
    status["backup"] = run("/usr/local/bin/phoenix-backup", "status") or "unknown"
if scaling := autoscaler():
    status["autoscaler"] = scaling
print(json.dumps(status))
