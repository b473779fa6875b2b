"""The hosts on demand that plays, the autoscaler and the monitoring see: read from their record, on control."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phoenix.provider.demand import Store
from phoenix.provider.lifecycle import PUBLISHED

FOLDER = Path("/var/lib/phoenix/demand")
RECORD = FOLDER / "hosts.json"
KNOWN_HOSTS = FOLDER / "known_hosts"


def number(name: str) -> int:
    """The number that the name of a host on demand ends with: its place in the order of hosts."""
    match = re.search(r"(\d+)$", name)
    return int(match[1]) if match else 0


def read(record: Path = RECORD) -> list[dict[str, Any]]:
    """Each host's name, address and state, in the order of placement; accepts: it may have instances.

    Raises Corrupt, or OSError when the record can't be read.
    """
    hosts = [entry for entry in Store(record).load().hosts.values() if entry.state in PUBLISHED]
    return [
        {
            "name": entry.name,
            "address": entry.address,
            "state": entry.state,
            "accepts": entry.state != "draining",
        }
        for entry in sorted(hosts, key=lambda entry: (number(entry.name), entry.name))
    ]


def key_of(address: str, known_hosts: Path = KNOWN_HOSTS) -> str:
    """The host's public SSH key, which was made before the host was; "" where none is known."""
    try:
        lines = [line.split() for line in known_hosts.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return ""
    return next((" ".join(words[1:3]) for words in lines if words[:1] == [address]), "")


def with_keys(record: Path = RECORD, known_hosts: Path = KNOWN_HOSTS) -> list[dict[str, Any]]:
    """As read(), with each host's key, for the known_hosts of the user who runs plays. Raises as read() does."""
    return [{**host, "key": key_of(host["address"], known_hosts)} for host in read(record)]


def lines(status: Mapping[str, Any], now: float) -> list[str]:
    """The daemon's status for people."""
    age = now - float(status["written"])
    shown = [
        f"HOSTS ON DEMAND {'' if age < 600 else f'(silent for {age:.0f} s) '}{status['wanted']} wanted of "
        f"{status['limit']}, {status['created']} of {status['creations_per_hour']} creations in the last hour"
        + (f", {status['failures']} failed in a row" if status["failures"] else "")
        + (f", provider away for {status['away_seconds']} s" if status["away_seconds"] else "")
    ]
    for host in status["hosts"]:
        why = f" ({host['reason']})" if host["reason"] else ""
        since = f"for {now - host['since']:.0f} s{why}"
        shown.append(f"  {host['name']:<12} {host['address']:<15} {host['state']} {since}")
    return shown + [f"  {now - note['at']:.0f} s ago: {note['text']}" for note in status["notes"]]


def read_status(folder: Path = FOLDER) -> dict[str, Any]:
    """What the daemon wrote last; {} where there is none."""
    try:
        status = json.loads((folder / "status.json").read_text(encoding="utf-8"))
        return dict(status) if "written" in status else {}
    except (OSError, ValueError, TypeError):
        return {}
