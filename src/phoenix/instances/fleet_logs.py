"""On control: what the instances and other processes of all application hosts write, merged; see logs.

Each host is asked over SSH, with the key of the user who runs plays. A host that does not answer is named, and the
others are shown.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import queue
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from phoenix.provider import published

TOP = Path("/opt/phoenix/runner")
KEY = Path("/var/lib/phoenix-runner/.ssh/id_ed25519")
KNOWN_HOSTS = (TOP / "known_hosts", published.KNOWN_HOSTS)
USER = "phoenix-runner"
SSH_PORT = 22
# For how long a line is kept back while hosts are followed, as earlier ones of others may be on their way.
HOLD_S = 1.0
# Lines that were not shown yet; beyond them the hosts wait.
MOST_LINES = 10_000

Address = tuple[str, int]


# What would act on the terminal of whoever reads, as an application may write anything.
CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in [*range(0x20), *range(0x7F, 0xA0)] if chr(code) not in "\t\n"}


class Unknown(Exception):
    """The application hosts are not known here; the message says why."""


def reached(listed: Mapping[str, Any], demand: Sequence[Mapping[str, Any]]) -> dict[str, Address]:
    """Pure: the application hosts' addresses and SSH ports. listed: ansible-inventory's; demand: hosts on demand."""
    names = dict.fromkeys(name for group in ("app", "app_standby") for name in listed.get(group, {}).get("hosts", ()))
    known = listed["_meta"]["hostvars"]
    own = {name: (str(known[name]["ansible_host"]), int(known[name].get("ansible_port", SSH_PORT))) for name in names}
    return {**own, **{str(one["name"]): (str(one["address"]), SSH_PORT) for one in demand}}


def hosts(top: Path = TOP) -> dict[str, Address]:
    """The application hosts of the fleet's inventory on control, and those on demand. Raises Unknown."""
    inventory = top / "inventory.yml"
    if not inventory.exists():
        raise Unknown(f"{inventory} is missing: --fleet is for the host of the group control, after site.yml")
    done = subprocess.run(
        [top / "venv" / "bin" / "ansible-inventory", "-i", inventory, "--list"],
        cwd=top,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Unknown(f"{inventory} can't be read: {done.stderr.strip()[-500:]}")
    return reached(json.loads(done.stdout), published.read())


def command(address: Address, words: Sequence[str]) -> list[str]:
    """The command line that runs `phoenixctl logs` with these words at an address."""
    host, port = address
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": " ".join(map(str, KNOWN_HOSTS)),
        "GlobalKnownHostsFile": "/dev/null",
        "ConnectTimeout": "10",
        "ServerAliveInterval": "10",
        "ServerAliveCountMax": "3",
        "LogLevel": "ERROR",
    }
    named = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    remote = shlex.join(["sudo", "-n", "phoenixctl", "logs", *words])
    return ["ssh", "-F", "none", "-T", "-i", str(KEY), "-l", USER, "-p", str(port), *named, host, remote]


def when_unread(act: Callable[[], object]) -> None:
    """Call `act` once nobody reads what this program prints, which a program that is silent would not notice."""

    def wait() -> None:
        output = select.poll()
        output.register(sys.stdout.fileno(), 0)  # errors and hang-ups are always told
        output.poll()
        act()

    threading.Thread(target=wait, daemon=True).start()


class Asked:
    """Hosts that were asked, each by an ssh of its own, and the lines that arrive from all of them."""

    def __init__(self, found: Mapping[str, Address], words: Sequence[str]) -> None:
        self.open, self.failed, self.ending = len(found), list[str](), False
        self._arrived = queue.Queue[str](MOST_LINES)
        # In sessions of their own: Ctrl-C is for this program, which ends them.
        self._processes = {
            name: subprocess.Popen(
                command(address, words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace",
                start_new_session=True,
            )
            for name, address in found.items()
        }  # fmt: skip
        for name, process in self._processes.items():
            threading.Thread(target=self._read, args=(name, process), daemon=True).start()

    def _read(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        for text in process.stdout:
            self._arrived.put(text.translate(CONTROLS))
        if (code := process.wait()) and not self.ending:
            print(f"{name}: no lines from here on: ssh or phoenixctl ended with {code}", file=sys.stderr, flush=True)
            self.failed.append(name)
        self._arrived.put("")

    def line(self, seconds: float | None = None) -> str | None:
        """The next line, or None after so many seconds, or when a host has ended."""
        try:
            text = self._arrived.get(timeout=seconds)
        except queue.Empty:
            return None
        self.open -= not text
        return text.rstrip("\n") if text else None

    def end(self) -> None:
        self.ending = True
        for process in self._processes.values():
            process.terminate()

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        for process in self._processes.values():
            process.wait()


def followed(asked: Asked) -> Iterator[str]:
    """The hosts' lines in the order of their times, as far as they arrive within HOLD_S, until all hosts have ended."""
    held: list[tuple[str, int, float, str]] = []
    for number in itertools.count():
        if not asked.open and not held:
            return
        if asked.open and (text := asked.line(HOLD_S / 4)) is not None:
            # Lines of one moment stay in the order in which their host has them.
            heapq.heappush(held, (text.partition(" ")[0], number, time.monotonic(), text))
        while held and (not asked.open or time.monotonic() - held[0][2] >= HOLD_S):
            yield heapq.heappop(held)[3]


def collected(asked: Asked) -> list[str]:
    """All lines of all hosts."""
    found = []
    while asked.open:
        if (text := asked.line()) is not None:
            found.append(text)
    return found


def show(words: Sequence[str], follow: bool, newest: Callable[[list[str]], list[str]]) -> int:
    """Show the lines of all hosts; returns 1 where a host's are missing. newest: of all of them, those to show."""
    try:
        found = hosts()
    except (Unknown, OSError, ValueError, KeyError) as error:
        print(f"phoenixctl logs: {error}", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with Asked(found, words) as asked:
        when_unread(asked.end)
        try:
            for text in followed(asked) if follow else newest(collected(asked)):
                print(text, flush=follow)
        except KeyboardInterrupt:
            return 0
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(bool(asked.failed))
