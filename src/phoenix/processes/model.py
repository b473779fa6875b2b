"""What runs besides the instances: processes and scheduled commands, as slots of which each is one host's at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

# Seconds. A lease is renewed every RENEW. A holder that could not renew it for GIVE_UP ends what it runs, within the
# process' own time to stop; others take it after LEASE and that time without a renewal, by a clock of their own. What
# is between the two is for a tick, a call that hangs, and the kill. GIVE_UP is longer than an election in the database.
RENEW, GIVE_UP, LEASE = 5.0, 30.0, 50.0
# A host waits this long for each slot that it has, before it takes another: so they spread.
SPREAD = 3.0


@dataclass(frozen=True)
class Process:
    """A process, or with a calendar a scheduled command. Times in seconds."""

    name: str
    command: str
    memory: str
    count: int = 1
    stop_timeout: int = 10
    calendar: str = ""
    timeout: int = 0

    @property
    def lease(self) -> float:
        """For how long without a renewal it may still run on the host that had it."""
        return LEASE + self.stop_timeout


@dataclass(frozen=True)
class Target:
    """What the processes of this host are to run: a release (a name) and a configuration, given at a moment."""

    release: str = ""
    configuration: str = ""
    since: float = 0.0

    @property
    def revision(self) -> str:
        return f"{self.release} {self.configuration}"


@dataclass(frozen=True)
class Running:
    """What systemd has of a slot. busy: a scheduled command that runs just now; restarts: by systemd itself."""

    revision: str
    stopping: bool = False
    busy: bool = False
    restarts: int = 0


@dataclass(frozen=True)
class Lease:
    """A slot's record in the database. number changes with every renewal; holder: "" where it was released."""

    holder: str
    number: int
    release: str = ""
    since: float = 0.0


def read(text: str) -> dict[str, Process]:
    """The processes in a configuration's processes.json, by name."""
    found: Mapping[str, Mapping[str, object]] = json.loads(text or "{}")
    return {name: Process(name, **entry) for name, entry in found.items()}  # type: ignore[arg-type]


def slots(processes: Mapping[str, Process]) -> dict[str, Process]:
    """worker@1, worker@2, …: what can be on different hosts."""
    return {f"{name}@{number}": one for name, one in processes.items() for number in range(1, one.count + 1)}
