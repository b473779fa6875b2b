"""The fleet's one lock, on control: scale, deploy and restore exclude each other.

  phoenixctl lock acquire --holder TEXT --purpose scale|deploy|restore --lease SECONDS [--wait SECONDS]
  phoenixctl lock renew --token T --lease SECONDS
  phoenixctl lock release --token T
  phoenixctl lock show [--json]
  phoenixctl lock break [--yes]

`acquire` prints a token. A lock is free again when its lease has lapsed or control was rebooted since.
`break` takes it away from its holder, after asking: for a play that was killed. A play that still runs ends at its
next step, without touching what others own by then.
Exit status: 0 done; 1 the lock could not be read or written; 75 held by another, who is named;
76 (renew) the token does not hold the lock any more: its play has to stop.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from phoenix.common import files, process

FOLDER = Path("/var/lib/phoenix/state")
PURPOSES = ("scale", "deploy", "restore")
BUSY = 75  # EX_TEMPFAIL
LOST = 76
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Lock:
    """Who holds the lock. `expires` is in seconds of CLOCK_BOOTTIME, meaningful within `boot` only."""

    token: str
    holder: str
    purpose: str
    since: str  # UTC, for people
    boot: str
    expires: float

    def held(self, boot: str, now: float) -> bool:
        """Whether the lease still runs, seen from this boot at `now` (CLOCK_BOOTTIME, s)."""
        return self.boot == boot and now < self.expires


def now() -> float:
    """Seconds on a clock that cannot be set and that runs on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read(folder: Path = FOLDER) -> Lock | None:
    """The lock on disk, lapsed or not; None without one.

    Raises:
        ValueError: the file is not a valid lock.
        OSError: it can't be read.
    """
    try:
        text = (folder / "lock").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        lock = Lock(**json.loads(text))
        return replace(lock, expires=float(lock.expires))
    except TypeError as error:
        raise ValueError(str(error)) from error


def holder(folder: Path = FOLDER) -> Lock | None:
    """Who holds the lock now; None when it is free. An unreadable lock file holds nothing."""
    try:
        lock = read(folder)
    except ValueError:
        return None
    return lock if lock and lock.held(process.boot(), now()) else None


def _write(folder: Path, lock: Lock) -> None:
    files.replace(folder / "lock", json.dumps(asdict(lock)) + "\n", durable=True)


@contextlib.contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Exclude other processes between reading the lock and writing it."""
    with (folder / ".lock.guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def _sight(folder: Path) -> Lock | None:
    """The holder; an invalid lock file is moved aside, for inspection."""
    try:
        return holder(folder) if read(folder) else None
    except ValueError as error:
        aside = folder / "lock.corrupt"
        (folder / "lock").replace(aside)
        print(f"{folder / 'lock'} was not a valid lock ({error}); it was moved to {aside}", file=sys.stderr)
        return None


def _token(folder: Path) -> str:
    """A secret after a number that is higher than any before it, also on a control host that lost its records."""
    path = folder / "lock.number"
    last = path.read_text(encoding="ascii", errors="replace").strip() if path.exists() else ""
    number = max(int(last) + 1 if last.isdigit() else 0, int(time.time() * 1000))
    files.replace(path, f"{number}\n", durable=True)
    return f"{number}-{secrets.token_hex(8)}"


def acquire(folder: Path, who: str, purpose: str, lease: float, wait: float = 0) -> tuple[str, Lock | None]:
    """Take the lock and return (token, None); or ("", its holder) when it stayed busy for `wait` seconds."""
    deadline = time.monotonic() + wait
    while True:
        with guarded(folder):
            other = _sight(folder)
            if other is None:
                token = _token(folder)
                since = datetime.now(timezone.utc).isoformat(timespec="seconds")
                _write(folder, Lock(token, who, purpose, since, process.boot(), now() + lease))
                return token, None
        if time.monotonic() >= deadline:
            return "", other
        time.sleep(POLL_SECONDS)


def renew(folder: Path, token: str, lease: float) -> bool:
    """Renew the lease from now on; False when the token does not hold the lock."""
    with guarded(folder):
        lock = holder(folder)
        if lock is None or lock.token != token:
            return False
        _write(folder, replace(lock, expires=now() + lease))
        return True


def release(folder: Path, token: str) -> bool:
    """Release the lock; False when the token does not hold it, and the lock stays as it is."""
    with guarded(folder):
        lock = holder(folder)
        if lock is None or lock.token != token:
            return False
        (folder / "lock").unlink()
        return True


def lost(folder: Path) -> str:
    """The message for the holder of a token that has lost the lock."""
    return f"This play has lost the fleet's lock and changes nothing any more; the lock is {describe(holder(folder))}."


def describe(lock: Lock | None) -> str:
    if lock is None:
        return "free"
    left = max(0, round(lock.expires - now()))
    return f"held by {lock.holder} for {lock.purpose} since {lock.since}, lapses in {left} s unless renewed"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the lock is (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("acquire")
    one.add_argument("--holder", required=True)
    one.add_argument("--purpose", required=True, choices=PURPOSES)
    one.add_argument("--lease", type=float, required=True, help="seconds after which the lock is free again")
    one.add_argument("--wait", type=float, default=0, help="seconds to wait for a busy lock")
    one = commands.add_parser("renew")
    one.add_argument("--token", required=True)
    one.add_argument("--lease", type=float, required=True)
    commands.add_parser("release").add_argument("--token", required=True)
    commands.add_parser("show").add_argument("--json", action="store_true")
    commands.add_parser("break").add_argument("--yes", action="store_true", help="do not ask")
    return parser


def _break(options: argparse.Namespace) -> int:
    lock = holder(options.folder)
    print(f"The fleet's lock is {describe(lock)}.")
    if lock is None:
        return 0
    if not options.yes and input("Break it? Its play must not be running any more. Type yes: ") != "yes":
        print("Nothing was changed.")
        return 1
    if not release(options.folder, lock.token):
        print(f"Nothing was changed: meanwhile the lock is {describe(holder(options.folder))}.", file=sys.stderr)
        return 1
    print("The lock is free.")
    return 0


def _run(options: argparse.Namespace) -> int:
    if options.command == "acquire":
        token, other = acquire(options.folder, options.holder, options.purpose, options.lease, options.wait)
        if not token:
            print(f"The fleet's lock is {describe(other)}. Try again later.", file=sys.stderr)
            return BUSY
        print(token)
    elif options.command == "renew":
        if not renew(options.folder, options.token, options.lease):
            print(lost(options.folder), file=sys.stderr)
            return LOST
    elif options.command == "release":
        if not release(options.folder, options.token):
            print(f"Nothing to release: the lock is {describe(holder(options.folder))}.", file=sys.stderr)
    elif options.command == "break":
        return _break(options)
    else:
        lock = holder(options.folder)
        left = {"seconds_left": round(lock.expires - now(), 1)} if lock else {}
        shown = {k: v for k, v in asdict(lock).items() if k in ("holder", "purpose", "since")} if lock else {}
        print(json.dumps({"held": lock is not None, **shown, **left}) if options.json else describe(lock))
    return 0


def main(arguments: list[str]) -> int:
    try:
        return _run(_parser().parse_args(arguments))
    except OSError as error:
        print(f"The fleet's lock can't be used: {error}", file=sys.stderr)
        return 1
