"""The key with which the agents stream to their parent: which ones a parent accepts, and whether it accepts one."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from urllib.parse import quote

KEY = re.compile(r"(?m)^\[([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\]$")
API_KEY = re.compile(r"(?m)^\s*api key = ([0-9a-f-]{36})$")
TIMEOUT_S = 20.0
# How Netdata answers (1.37, without a status line): to a key that it does not know, and to a second connection.
REFUSED = "You are not permitted to access this."
CONNECTED = "This GUID is already streaming to this server"


def accepted(stream_conf: str) -> list[str]:
    """The keys that a parent's stream.conf accepts."""
    return KEY.findall(stream_conf)


def sent(stream_conf: str) -> str:
    """The key that an agent's stream.conf has; "" on a parent."""
    found = API_KEY.search(stream_conf)
    return found[1] if found else ""


def former(stream_confs: Sequence[str], wanted: str) -> list[str]:
    """The keys in these files other than the wanted one."""
    known = [key for text in stream_confs for key in (*accepted(text), sent(text)) if key]
    return list(dict.fromkeys(key for key in known if key != wanted))


def verdict(answer: str) -> bool:
    """Whether the parent's answer to a host that streams already means that it accepts the key.

    With a key that it knows, it finds the host connected, and refuses a second connection; an unknown key at once.

    Raises:
        ValueError: it is neither answer.
    """
    said = answer.rpartition("\r\n\r\n")[2]
    if said.startswith((REFUSED, CONNECTED)):
        return said.startswith(CONNECTED)
    raise ValueError(f"the parent gave no clear answer: {answer[:200]!r}")


def ask(address: str, port: int, key: str, hostname: str, guid: str) -> str:
    """A parent's answer to one more connection of this host, which streams to it already. Raises OSError."""
    words = {
        "key": key, "hostname": hostname, "registry_hostname": hostname, "machine_guid": guid, "update_every": "2",
        "os": "linux", "timezone": "UTC", "tags": "", "ver": "3",
    }  # fmt: skip
    query = "&".join(f"{name}={quote(value)}" for name, value in words.items())
    request = f"STREAM {query} HTTP/1.1\r\nUser-Agent: phoenix\r\nAccept: */*\r\n\r\n"
    with socket.create_connection((address, port), TIMEOUT_S) as connection:
        connection.sendall(request.encode())
        return connection.recv(4096).decode(errors="replace")
