"""phoenixctl reconcile: bring the fleet to what is recorded, where a play was cut or a host was away; by a timer.

  interrupted  the newest roll-out has no result, and nobody holds the fleet's lock: its play is dead. Instances are
               brought back to the recorded release and configuration; a rollback is carried out to its end instead.
  returned     a host that missed a change (phoenix.state.away) answers again: playbooks/reconcile.yml brings it up to
               date before clients reach it.

Either has to be seen for GRACE_S: people who interrupt a play may start another one, and a host has to boot. A roll-out
gets its result from the first run. A host that could not be brought back is tried again, after a pause that doubles.
Exit status: 0 nothing to do, not yet, or done; 1 what was tried did not help, or is not tried again yet.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from phoenix.common import files
from phoenix.state import away, deploys, desired, lock

CONFIGURATION = Path("/etc/phoenix/reconcile.json")
# Of this boot: its times are those of a clock that starts with it.
MEMORY = Path("/run/phoenix-reconcile/memory.json")
CONTROL = "/usr/local/bin/phoenixctl"
GRACE_S = 45.0
PAUSE_S, LONGEST_PAUSE_S = 60.0, 3600.0
CONNECT_S = 3.0
OLD_S = 86400.0
SSH_PORT = 22


@dataclass(frozen=True)
class Memory:
    """What earlier runs saw. since: by subject, when it was seen first; tried: those of the last attempt, in vain."""

    since: dict[str, float] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)
    failures: int = 0
    not_before: float = 0.0


@dataclass(frozen=True)
class Seen:
    """The roll-out that was cut, the hosts that missed a change and answer, and whether a play holds the lock."""

    interrupted: deploys.Deploy | None = None
    returned: tuple[str, ...] = ()
    held: bool = False

    def roll_out(self) -> str:
        return f"roll-out {self.interrupted.number}" if self.interrupted else ""

    def subjects(self) -> list[str]:
        return [*filter(None, [self.roll_out()]), *(f"host {name}" for name in self.returned)]


@dataclass(frozen=True)
class Decision:
    """act: on what to act now, if at all; text: why, or why not; failing: what was tried before did not help."""

    act: Seen | None = None
    text: str = ""
    failing: bool = False


def decide(seen: Seen, memory: Memory, now: float) -> tuple[Decision, Memory]:
    """Whether to act, and what to remember. While a play holds the lock, nothing is known."""
    if seen.held:
        return Decision(text="a play holds the fleet's lock"), memory
    subjects = seen.subjects()
    if not subjects:
        return Decision(), Memory()
    memory = replace(memory, since={subject: memory.since.get(subject, now) for subject in subjects})
    due = [subject for subject, since in memory.since.items() if now - since >= GRACE_S]
    # A host that can't be brought back must not hold up what is seen later.
    if due and (now >= memory.not_before or set(due) - set(memory.tried)):
        # The play brings back every host that answers; a roll-out has its own time.
        cut = seen.interrupted if seen.roll_out() in due else None
        return Decision(replace(seen, interrupted=cut), ", ".join(subjects)), memory
    if now < memory.not_before:
        text = f"{', '.join(subjects)}: the next attempt follows in {memory.not_before - now:.0f} s"
        return Decision(text=text, failing=True), memory
    return Decision(text=f"{', '.join(subjects)}: seen for less than {GRACE_S:.0f} s"), memory


def after(memory: Memory, good: bool, now: float) -> Memory:
    """What to remember of an attempt."""
    if good:
        return Memory()
    pause = min(PAUSE_S * 2**memory.failures, LONGEST_PAUSE_S)
    return replace(memory, tried=list(memory.since), failures=min(memory.failures + 1, 16), not_before=now + pause)


def plays(seen: Seen) -> list[list[str]]:
    """The plays to run, as arguments of `phoenixctl play`.

    A rollback leads away from the recorded release, so it is finished.
    """
    cut = seen.interrupted
    back = [["rollback", "-e", f"phoenix_version={cut.version}"]] if cut and cut.what == "rollback" else []
    return back + ([["reconcile"]] if seen.returned or not back else [])


def interrupted(history: Sequence[deploys.Deploy], now: float) -> deploys.Deploy | None:
    """The newest roll-out, where it has no result; with an old one, somebody has dealt by other means."""
    newest = history[-1] if history else None
    return newest if newest and not newest.result and now - newest.began < OLD_S else None


def answers(address: str, port: int) -> bool:
    """Whether a host accepts connections there."""
    try:
        with socket.create_connection((address, port), CONNECT_S):
            return True
    except OSError:
        return False


def look(hosts: Mapping[str, Sequence[str | int]], folder: Path = lock.FOLDER) -> Seen:
    """Read the records, and ask the hosts that are away. hosts: name -> [address, SSH port]. Raises OSError."""
    cut, missed = interrupted(deploys.read(), time.time()), away.read(folder)
    known = {host: hosts[host] for host in missed if host in hosts}
    returned = tuple(host for host, (address, port) in known.items() if answers(str(address), int(port)))
    # Last: roll-outs begin and end under it, so that one that runs is never taken for one that was cut.
    if lock.holder(folder) is not None:
        return Seen(held=True)
    # A host that has left the inventory, or was made on demand, has nothing to be brought to.
    if gone := [host for host in missed if host not in hosts]:
        away.remove(gone, folder)
    return Seen(cut, returned)


def play(arguments: Sequence[str]) -> bool:
    """Run a play; whether it ended well. Its output is this program's."""
    # Named as the holder of the lock, and in the history.
    environment = {**os.environ, "SUDO_USER": "phoenix-reconcile"}
    return subprocess.run([CONTROL, "play", *arguments], env=environment, check=False).returncode == 0


def settle(good: bool, release: str | None) -> None:
    """Give every roll-out that was cut its result."""
    for cut in (one for one in deploys.read() if not one.result):
        # What a roll changes is no release: whether it was at its end is not known.
        ended = cut.what != "roll" and cut.version == release
        result = "failed" if not good else "good" if ended else "rolled back"
        reason = "its play was interrupted" + ("" if good else ", and the fleet is not as recorded yet")
        deploys.main(["end", "--number", str(cut.number), "--result", result, "--reason", reason])


def restored(since: float) -> bool:
    """Whether a roll-out that began since then has ended well: of what the fleet runs, or of the rollback."""
    newest = deploys.read()[-1]
    return newest.result == "good" and newest.began >= since - 1


def act(seen: Seen, run: Callable[[Sequence[str]], bool] = play, folder: Path = lock.FOLDER) -> bool:
    """Run the plays, and record what came of them; whether the fleet is what is recorded. Raises OSError.

    A play may fail for one host, and have brought the others back all the same: the records say which.
    """
    began = time.time()
    good = all(run(arguments) for arguments in plays(seen))
    if seen.interrupted:
        if lock.holder(folder) is not None:
            return False  # somebody was faster: what was cut is theirs now
        good = good or restored(began)
        settle(good, desired.read_release(folder))
    still = set(seen.returned) & set(away.read(folder))
    return not still and (good or not seen.interrupted)


def _remembered() -> Memory:
    try:
        return Memory(**json.loads(MEMORY.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Memory()


def main(arguments: list[str]) -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(
        arguments
    )
    hosts = json.loads(CONFIGURATION.read_text(encoding="utf-8"))["hosts"]
    seen = look(hosts)
    decision, memory = decide(seen, _remembered(), time.monotonic())
    if decision.text:
        print(decision.text, flush=True)
    good = not decision.failing
    if decision.act:
        good = act(decision.act)
        memory = after(memory, good, time.monotonic())
        print("done" if good else "what was tried did not help: see the play above", file=sys.stderr, flush=True)
    MEMORY.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    files.replace(MEMORY, json.dumps(asdict(memory)) + "\n")
    return 0 if good else 1
