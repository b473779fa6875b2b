"""Hosts that missed a change of the fleet, on control: what they have may be older than what is recorded.

A play records them when it ends without them (`phoenixctl state away`). phoenix.state.reconcile brings each of them up
to date once it answers; site.yml does so as well, and takes the hosts that it reached from the record (`phoenixctl
state back`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from phoenix.common import files
from phoenix.state import lock

NAME = "away.json"


@dataclass(frozen=True)
class Away:
    """Why a host is away, and when it missed a change last, in seconds since 1970."""

    reason: str
    missed: float


def read(folder: Path = lock.FOLDER) -> dict[str, Away]:
    """The hosts that missed a change. A damaged record holds none: site.yml does not need it. Raises OSError."""
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
        return {str(host): Away(str(one["reason"]), float(one["missed"])) for host, one in found.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _write(hosts: Mapping[str, Away], folder: Path) -> None:
    text = json.dumps({host: asdict(one) for host, one in sorted(hosts.items())}, indent=1)
    files.replace(folder / NAME, f"{text}\n", durable=True)


def add(hosts: Iterable[str], reason: str, folder: Path = lock.FOLDER) -> None:
    """Record that these hosts missed a change now. Raises OSError."""
    with lock.guarded(folder):
        _write({**read(folder), **{host: Away(reason, time.time()) for host in hosts}}, folder)


def remove(hosts: Iterable[str], folder: Path = lock.FOLDER) -> list[str]:
    """Take hosts that are up to date again from the record, and return those that were in it. Raises OSError."""
    with lock.guarded(folder):
        known = read(folder)
        gone = [host for host in hosts if host in known]
        if gone:
            _write({host: one for host, one in known.items() if host not in gone}, folder)
        return gone
