"""TLS of the database: its modes (`mongodb_tls`), the steps between them, and what a client connects with.

The modes are the server's own (net.tls.mode). One server after the other is restarted with another one, and what
connects to them is changed before or after: so each pair of neighbours has to work together, and no other pair does.

  disabled   nothing is encrypted
  allowTLS   servers accept both; they, and all clients, connect without
  preferTLS  servers accept both; they, and all clients, connect by TLS
  requireTLS servers accept TLS alone

Clients are changed by the same run as the servers, after them, and only between the two modes that accept both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# What clients on a host trust; a link to a file whose name tells its content.
BUNDLE = "/etc/ssl/phoenix/database-ca.pem"
# By which Node.js trusts them, whichever driver connects; it reads the file when it starts.
NODE_VARIABLE = "NODE_EXTRA_CA_CERTS"
MODES = ("disabled", "allowTLS", "preferTLS", "requireTLS")


def used(mode: str) -> bool:
    """Whether clients connect by TLS. Raises ValueError for a mode that there is not."""
    if mode not in MODES:
        raise ValueError(f"mongodb_tls = {mode!r} is no mode of TLS: give one of {', '.join(MODES)}")
    return MODES.index(mode) >= MODES.index("preferTLS")


def mode_of(configuration: str) -> str:
    """The mode in a server's configuration, which Phoenix's own template wrote: hosts have no YAML parser."""
    found = re.search(r"^  tls:\n    mode: (\w+)$", configuration, re.MULTILINE)
    return found[1] if found else MODES[0]


def step_refusal(wanted: str, host: str, configuration: str) -> str:
    """Why a member may not be given this mode; "" where it may.

    configuration: the one that its server was started with, or the one in place where none runs; "" on a new host.
    """
    if not configuration:
        return ""
    present = mode_of(configuration)
    distance = MODES.index(wanted) - MODES.index(present)
    if abs(distance) <= 1:
        return ""
    between = MODES[MODES.index(present) + (1 if distance > 0 else -1)]
    return (
        f"mongodb_tls = {wanted} is more than one step from {present}, with which {host} runs: members and clients of "
        f"the two would refuse each other. Set mongodb_tls = {between} and run the whole site.yml first."
    )


def options(ca: str) -> Mapping[str, Any]:
    """MongoDB's Python driver's options. ca: path of the CAs that are trusted; "" without TLS."""
    return {"tls": True, "tlsCAFile": ca} if ca else {}


def tool_options(ca: str) -> list[str]:
    """The options of mongodump and mongorestore."""
    return ["--ssl", f"--sslCAFile={ca}"] if ca else []


def unread(paths: Sequence[Path], markers: Sequence[Path]) -> list[Path]:
    """The files, or links, that are newer than the newest marker that there is: their reader has not read them."""
    since = max((marker.stat().st_mtime_ns for marker in markers if marker.exists()), default=0)
    return [path for path in paths if path.lstat().st_mtime_ns > since]
