"""Ports of this machine that a server can listen on later: no client's connection is given one meanwhile."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

LOWEST = 10240
# Of every connection whose program asks for no port; see ip(7).
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
# Open, and thereby locked, until this process ends.
_reserved: list[IO[str]] = []


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on, each reserved for this process until it ends.

    They lie below those of outgoing connections: a port that the kernel chose itself is given to any client's
    connection as soon as it is closed again, and the server that was to listen on it finds it in use.

    Raises:
        RuntimeError: there are not as many.
    """
    low, high = map(int, EPHEMERAL.read_text().split())
    candidates = range(LOWEST, low) if low > LOWEST else range(high + 1, 65536)
    found: list[int] = []
    for port in random.sample(candidates, len(candidates)):
        if len(found) == count:
            break
        if _listens_nowhere(port) and _reserve(port):
            found.append(port)
    if len(found) < count:
        raise RuntimeError(
            f"{count} ports are needed, and {len(found)} are free outside of {low}-{high}, from which connections get"
            " theirs: narrow net.ipv4.ip_local_port_range"
        )
    return found


def free_port() -> int:
    return free_ports(1)[0]


def _listens_nowhere(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind(("", port))
            probe.listen()
            return True
    return False


def _reserve(port: int) -> bool:
    folder = Path(tempfile.gettempdir()) / f"phoenix-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    reserved = (folder / str(port)).open("w")
    try:
        fcntl.flock(reserved, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        reserved.close()
        return False
    _reserved.append(reserved)
    return True
