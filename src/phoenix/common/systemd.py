"""systemd as Phoenix uses it: notifications, and properties of units."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

STARTED = "ExecMainStartTimestampMonotonic"


def notify(message: str) -> None:
    """Send systemd a message such as READY=1; do nothing if systemd did not start the process.

    https://www.freedesktop.org/software/systemd/man/sd_notify.html
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection, contextlib.suppress(OSError):
        connection.sendto(message.encode(), "\0" + address[1:] if address.startswith("@") else address)


def systemctl(*arguments: str) -> str:
    """Run systemctl and return its output.

    Raises:
        CalledProcessError: its exit status was not 0.
    """
    return subprocess.run(["systemctl", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def parse(shown: str) -> Iterator[dict[str, str]]:
    """Yield the properties of each unit from the output of `systemctl show`: blocks of NAME=VALUE lines."""
    for block in shown.strip().split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if values:
            yield values


def unread(shown: Mapping[str, str], path: Path) -> bool:
    """Whether a file is newer than a service's process, by the property STARTED; one that never ran will read all."""
    started = int(shown.get(STARTED) or 0)
    if not started or not path.is_file():
        return False
    return path.stat().st_mtime > time.time() - time.monotonic() + started / 1e6


def show(properties: str, *units: str) -> list[dict[str, str]]:
    """Return the named properties (Id,ActiveState,…) of units; a pattern matches the units that systemd has loaded.

    Raises:
        CalledProcessError: systemctl failed.
    """
    return list(parse(systemctl("show", f"--property={properties}", *units)))
