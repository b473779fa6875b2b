"""Hosts that missed a change of the fleet, on control: what they have may be older than what is recorded.

A play records them when it ends without them (`phoenixctl state away`). phoenix.state.reconcile brings each of them up
to date once it answers; site.yml does so as well, and takes the hosts that it reached from the record (`phoenixctl
state back`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from phoenix.common import files
from phoenix.state import lock

NAME = "away.json"


def read(folder: Path = lock.FOLDER) -> dict[str, str]:
    """The hosts that missed a change, with the reasons. A damaged record holds none: site.yml does not need it.

    Raises OSError when it can't be read.
    """
    try:
        return {str(host): str(reason) for host, reason in json.loads((folder / NAME).read_text("utf-8")).items()}
    except (FileNotFoundError, ValueError, AttributeError):
        return {}


def _write(hosts: Mapping[str, str], folder: Path) -> None:
    files.replace(folder / NAME, json.dumps(hosts, indent=1, sort_keys=True) + "\n", durable=True)


def add(hosts: Iterable[str], reason: str, folder: Path = lock.FOLDER) -> None:
    """Record that these hosts missed a change. Raises OSError."""
    with lock.guarded(folder):
        _write({**read(folder), **dict.fromkeys(hosts, reason)}, folder)


def remove(hosts: Iterable[str], folder: Path = lock.FOLDER) -> list[str]:
    """Take hosts that are up to date again from the record, and return those that were in it. Raises OSError."""
    with lock.guarded(folder):
        known = read(folder)
        gone = [host for host in hosts if host in known]
        if gone:
            _write({host: reason for host, reason in known.items() if host not in gone}, folder)
        return gone
