"""The drills themselves. Each returns what it saw, or raises Failed."""

from __future__ import annotations

import http.client
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from phoenix.backup.store import Config, Dump, Store

DAY = 86400.0
CONTROL = "/usr/local/bin/phoenixctl"
STORE = Path("/etc/phoenix/backup/store.json")
ASKS_S, ANSWER_S = 0.2, 5.0
# Longer than an address needs to arrive at the other load balancer, also on a busy machine.
LONGEST_GAP_S = 15.0


class Failed(Exception):
    """The drill did not end as it has to; the message says how."""


@dataclass(frozen=True)
class Scene:
    """url: the site's; now: seconds since 1970."""

    url: str
    now: float


def _run(*command: str) -> str:
    """A command's output. Raises Failed, with its last lines."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise Failed(f"{' '.join(command)} ended with status {done.returncode}: {'; '.join(lines[-8:])[-1500:]}")
    return done.stdout


def choose(good: Sequence[Dump], now: float) -> Dump:
    """Another of the good dumps each day, so that in time all that are kept were restored again. Raises Failed."""
    if not good:
        raise Failed("the store has no good dump")
    return good[int(now // DAY) % len(good)]


def restore(scene: Scene) -> str:
    """Restore a dump on trial: its unit is ready once what was restored equals what the dump's manifest says."""
    found = Store(Config.read(STORE)).dumps()
    dump = choose([one for one in found if one.state == "good" and one.folder], scene.now)
    # The colon makes another instance of it than a restore's, which this one must not stop.
    unit = f"phoenix-backup-scratch@{dump.name}:.service"
    try:
        _run("systemctl", "start", unit)
    finally:
        subprocess.run(["systemctl", "stop", unit], check=False)
        subprocess.run(["systemctl", "reset-failed", unit], check=False, capture_output=True)
    return f"{dump.name} was restored, and equals what it was taken from"


def alarm(_: Scene) -> str:
    """Follow the test alarm to what each channel answered."""
    return "; ".join(_run(CONTROL, "alerts", "test").splitlines())


@dataclass
class Answers:
    """What a client saw that asked all the time: since when it has waited for an answer, and the longest such time."""

    longest: float = 0.0
    asked: int = 0
    failures: list[str] = field(default_factory=list)


def _ask(url: str) -> None:
    """Raises OSError, or HTTPException, where the site does not answer, or with an error of its own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_S, context=context):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise


@contextmanager
def asking(url: str, ask: Callable[[str], None]) -> Iterator[Answers]:
    """Ask for a URL all the time meanwhile."""
    seen, over = Answers(), threading.Event()

    def loop() -> None:
        answered = time.monotonic()
        while not over.wait(ASKS_S):
            seen.asked += 1
            try:
                ask(url)
                answered = time.monotonic()
            except (OSError, http.client.HTTPException) as error:
                seen.failures.append(f"{type(error).__name__}: {error}")
            seen.longest = max(seen.longest, time.monotonic() - answered)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join(2 * ANSWER_S)


def balancer(scene: Scene) -> str:
    """Have the other load balancer serve, and then the one from before."""
    with asking(scene.url, _ask) as seen:
        _run(CONTROL, "play", "failover")
    said = (
        f"of {seen.asked} requests {len(seen.failures)} failed, {seen.longest:.1f} s was the longest without an answer"
    )
    if not seen.asked or seen.longest > LONGEST_GAP_S:
        raise Failed(f"{said}: {'; '.join(seen.failures[-3:])}")
    return said


ACTS: dict[str, Callable[[Scene], str]] = {"restore": restore, "alarm": alarm, "balancer": balancer}
