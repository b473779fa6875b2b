"""Turns of the fleet's lock on a host: what a play that is dead left running ends before the next one's first command.

A command that a play started on a host goes on when the play dies: it drains, and then stops what another play may have
put into rotation meanwhile. So a command states the lock that it acts under (`--lock TOKEN`) and enters it here; what
runs under an older one ends before it changes anything. Tokens are numbered (phoenix.state.lock), so an older one that
comes late is refused.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from phoenix.common import files

FOLDER = Path("/var/lib/phoenix/turn")


# Exit status of a command whose play has to stop, as of one that renews the lock in vain.
LOST = 76


class Superseded(Exception):
    """Another play holds the fleet's lock by now, and acts on this host; nothing more was changed."""


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lock", default="", metavar="TOKEN", help="the fleet's lock that this acts under")


def number(token: str) -> int:
    """The number of a token; 0 without one."""
    digits = token.partition("-")[0]
    return int(digits) if digits.isdigit() else 0


@contextlib.contextmanager
def _exclusive() -> Iterator[None]:
    FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (FOLDER / "guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def _current() -> str:
    path = FOLDER / "lock"
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def enter(token: str) -> None:
    """Enter the lock that a command acts under, after waiting for what changes something now. Raises Superseded."""
    if not token:
        return
    with _exclusive():
        if number(token) < number(_current()):
            raise Superseded(_message())
        files.replace(FOLDER / "lock", token)


@contextlib.contextmanager
def held(token: str) -> Iterator[None]:
    """Change something on this host, which no other play begins to act on meanwhile. Raises Superseded."""
    if not token:
        yield
        return
    with _exclusive():
        if _current() != token:
            raise Superseded(_message())
        yield


def _message() -> str:
    return (
        "Another play has taken the fleet's lock since, and acts on this host: nothing more is changed. "
        f"Where none does, remove {FOLDER / 'lock'}."
    )
