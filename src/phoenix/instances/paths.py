"""Where this host keeps the application: releases, configurations, instances' links, what each was healthy with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

STATE = Path("/var/lib/phoenix/instances")
TOP = Path("/opt/phoenix")
RELEASES = TOP / "releases"
LINKS = TOP / "instances"
CURRENT = TOP / "current"
NODEJS = Path("/opt/nodejs/current")
# Revisions of the configuration, and the accepted one.
CONFIGURATIONS = Path("/etc/phoenix/configurations")
CONFIGURATION = Path("/etc/phoenix/configuration")
# What a roll-out gave the processes besides the instances.
PROCESSES = Path("/var/lib/phoenix/processes/target.json")
UNITS = Path("/etc/systemd/system")
# The environment of all instances up to version 0.9.
SHARED_ENVIRONMENT = Path("/etc/phoenix/phoenix.env")


def processes() -> dict[str, Any]:
    """What the processes besides the instances run, as a roll-out recorded it: release, configuration, since."""
    try:
        return dict(json.loads(PROCESSES.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def template() -> Path:
    return UNITS / "phoenix@.service"


def drop_ins(port: int) -> Path:
    """The folder of an instance's own unit settings: a link to its configuration."""
    return UNITS / f"phoenix@{port}.service.d"


def wants() -> Path:
    return UNITS / "multi-user.target.wants"
