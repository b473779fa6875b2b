"""Where this host keeps the application: releases, the link of each instance, and what each was last healthy with."""

from __future__ import annotations

from pathlib import Path

STATE = Path("/var/lib/phoenix/instances")
TOP = Path("/opt/phoenix")
RELEASES = TOP / "releases"
LINKS = TOP / "instances"
CURRENT = TOP / "current"
NODEJS = Path("/opt/nodejs/current")
# Inputs of an instance's start, besides its release and Node.js; a change of any of them needs a restart.
FILES = (Path("/etc/systemd/system/phoenix@.service"), Path("/etc/phoenix/phoenix.env"))
WANTS = Path("/etc/systemd/system/multi-user.target.wants")
