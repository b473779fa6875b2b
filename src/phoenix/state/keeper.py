"""Keep the fleet's lock while its play lives, from the machine that runs it, and release it at once when it ends.

A play can end without a last task: Ctrl-C, a lost terminal, all hosts unreachable. Something outside of it has to
notice: a process beside it that renews a short lease. When the machine or its connection is lost as well, the lease
lapses.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from phoenix.common import process

# How soon the end of a play is noticed.
POLL_SECONDS = 0.5
# A renewal may fail this often in a row before the lease lapses.
RENEWALS = 6
LOST = 76
# Runs `phoenixctl lock WORDS...` on control and returns its exit status.
Run = Callable[..., int]


@dataclass(frozen=True)
class Play:
    """A process, which may be gone, or another one may have its number by now. started: "" where it is not known."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Play:
        try:
            return cls(pid, process.stat(pid)[19])
        except (OSError, IndexError):
            return cls(pid, "")

    def lives(self) -> bool:
        """Whether it is there. One that has ended and that nobody has waited for (Z) does not live."""
        try:
            fields = process.stat(self.pid)
            return fields[0] != "Z" and fields[19] == self.started
        except (OSError, IndexError):
            return False


def keep(play: Play, lease: float, run: Run) -> None:
    """Renew the lock until the play ends, then release it; end as well when the lock is lost or was released.

    `run` may fail (raise) while control can't be reached: the next renewal may reach it again.
    """
    signal.signal(signal.SIGTERM, _stop)
    with contextlib.suppress(SystemExit):
        due = time.monotonic() + lease / RENEWALS
        while play.lives():
            if time.monotonic() >= due:
                due = time.monotonic() + lease / RENEWALS
                with contextlib.suppress(Exception):
                    if run("renew", "--lease", f"{lease:g}") == LOST:
                        return
            time.sleep(POLL_SECONDS)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(Exception):
        run("release")


def _stop(*_: Any) -> None:
    raise SystemExit
