"""How fast keepalived moves the floating address, between two network namespaces of this machine: no fleet, no Docker.

usage: python -m bench.namespaces [--pace fast|calm] [--times N] [--minutes N] [--processes N]    (as root)

keepalived is the distribution's, configured by the role's template. Prints a table: the address moved N times when
keepalived is killed, as with its host, and when nginx's unit reports that nginx ended; VRRP cut both ways and healed;
and with --minutes how often it moved while so many processes want the processors. It has real-time priority where this
machine allows that, and the table says whether it had.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ansible.plugins.loader import init_plugin_loader

from bench.__main__ import table
from bench.fleet import Row
from bench.pair import LONGEST_S, moved_rows
from tests.harness import debian
from tests.harness.hosts import REMOTE
from tests.harness.pair import masters
from tests.harness.waiting import wait_for
from tests.unit.shared import TOP, rendered

TEMPLATE = TOP / "roles" / "keepalived" / "templates" / "keepalived.conf.j2"
LIBRARIES = ("libnl-3-200", "libnl-genl-3-200", "libsnmp40", "libwrap0", "libpci3")
ADDRESS = "192.0.2.100"
OWN = {"phoenix-a": "192.0.2.10", "phoenix-b": "192.0.2.12"}
LINK = "phoenix-link"  # the namespace of the bridge that joins them
INTERVAL_S = {"fast": 0.1, "calm": 1.0}
CUTS = 3


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def real_time() -> bool:
    """Whether processes of this machine may have real-time priority, for which keepalived asks on a host."""
    return subprocess.run(["chrt", "--rr", "20", "true"], capture_output=True, check=False).returncode == 0


def configuration(name: str, folder: Path, pace: str) -> str:
    """The role's, with a probe that always succeeds: there is no nginx, only the file that its unit writes."""
    own = OWN[name]
    facts = {
        "interfaces": ["eth0"],
        "eth0": {"device": "eth0", "ipv4": {"address": own, "prefix": "24"}},
        "virtualization_type": "kvm" if real_time() else "docker",
    }
    variables = {
        "ansible_facts": facts,
        "inventory_hostname": name,
        "keepalived_address": own,
        "keepalived_floating_addresses": [ADDRESS],
        "keepalived_peers": [address for address in OWN.values() if address != own],
        "keepalived_order": list(OWN).index(name),
        "__keepalived_folder": str(folder),
        "__keepalived_interval": INTERVAL_S[pace],
        "__keepalived_probe": "/usr/bin/true",
    }
    return rendered(TEMPLATE, variables)


class Balancer:
    """keepalived in a namespace of its own."""

    def __init__(self, name: str, folder: Path, pace: str, program: str) -> None:
        self.name, self.folder, self.program = name, folder, program
        folder.mkdir()
        for file in ("nginx", "away-1"):
            (folder / file).write_text("0\n")
        (folder / "keepalived.conf").write_text(configuration(name, folder, pace))
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it could take the address."""
        files = {f"--{kind}": self.folder / kind for kind in ("pid", "vrrp_pid")}
        for file in files.values():
            file.unlink(missing_ok=True)  # of one that was killed
        command = ["ip", "netns", "exec", self.name, self.program, "--dont-fork", "--log-console", "--vrrp"]
        command += [f"--use-file={self.folder}/keepalived.conf"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *(f"{option}={file}" for option, file in files.items())],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=debian.environment(self.program),
            )
        wait_for(lambda: "Entering BACKUP STATE" in self.said(), LONGEST_S, "keepalived listens", self.log)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def kill(self) -> float:
        """End it with all that it started, without a word to the other one, and return when."""
        assert self.process
        parent, self.process = self.process, None
        children = self.pids() - {parent.pid}
        # It would start its child again, which in turn takes leave when its parent dies.
        parent.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        parent.kill()
        parent.wait()
        wait_for(lambda: not self.pids(), LONGEST_S, "its processes have ended")
        return began

    def pids(self) -> set[int]:
        return set(map(int, ip("netns", "pids", self.name).split()))

    def remove_address(self) -> None:
        """As its unit does."""
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("-n", self.name, "address", "delete", f"{ADDRESS}/32", "dev", "eth0")

    def report(self, ended: bool) -> float:
        """Write what nginx's unit does, and return when."""
        began = time.monotonic()
        (self.folder / "nginx").write_text(f"{int(ended)}\n")
        return began

    def holds(self) -> bool:
        return f'"{ADDRESS}"' in ip("-n", self.name, "-json", "address")


class Balancers:
    """Both of them, and what joins them."""

    def __init__(self, folder: Path, pace: str) -> None:
        program = debian.program("keepalived", "usr/sbin/keepalived", *LIBRARIES)
        self.each = [Balancer(name, folder / name, pace, program) for name in OWN]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        made = [LINK, *OWN]
        try:
            for name in made:
                ip("netns", "add", name)
            ip("-n", LINK, "link", "add", "joined", "up", "type", "bridge")
            for name, own in OWN.items():
                ip("-n", LINK, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
                ip("-n", name, "address", "add", f"{own}/24", "dev", "eth0")
                for namespace, interface in ((name, "lo"), (name, "eth0"), (LINK, name)):
                    ip("-n", namespace, "link", "set", interface, "up")
            self.heal()
            for one in self.each:
                one.start()
            yield
        finally:
            for one in self.each:
                if one.process:
                    one.kill()
            for name in made:
                subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)

    def cut(self) -> None:
        """Let neither hear the other, while both interfaces stay up."""
        ip("-n", LINK, "link", "set", next(iter(OWN)), "nomaster")

    def heal(self) -> float:
        for name in OWN:
            ip("-n", LINK, "link", "set", name, "master", "joined")
        return time.monotonic()

    def holders(self) -> int:
        return sum(one.holds() for one in self.each)

    def roles(self) -> tuple[Balancer, Balancer]:
        """The holder and the other one."""
        wait_for(lambda: self.holders() == 1, LONGEST_S, "one has the address")
        first, second = self.each
        return (first, second) if first.holds() else (second, first)

    def moved(self, act: Callable[[Balancer], float]) -> float:
        """Seconds from what `act` does to the holder until the other one has the address."""
        holder, other = self.roles()
        watcher = subprocess.Popen(
            ["ip", "netns", "exec", other.name, sys.executable, REMOTE / "arrival.py", ADDRESS, str(LONGEST_S)],
            stdout=subprocess.PIPE,
            text=True,
        )
        time.sleep(0.5)  # until it watches
        began = act(holder)
        arrived, _ = watcher.communicate()
        assert arrived, f"{other.name} did not get {ADDRESS} within {LONGEST_S} s:\n{other.said()[-2000:]}"
        return float(arrived) - began


def killed(pair: Balancers) -> float:
    holder, _ = pair.roles()
    taken = pair.moved(Balancer.kill)
    holder.remove_address()
    holder.start()
    return taken


def ended(pair: Balancers) -> float:
    holder, _ = pair.roles()
    taken = pair.moved(lambda one: one.report(ended=True))
    holder.report(ended=False)
    time.sleep(1)  # for keepalived, to see it
    return taken


def healed(pair: Balancers) -> float:
    pair.roles()
    pair.cut()
    wait_for(lambda: pair.holders() == 2, LONGEST_S, "each has the address")
    began = pair.heal()
    while pair.holders() != 1:
        assert time.monotonic() < began + LONGEST_S, f"two have the address {LONGEST_S} s after the cut"
    return time.monotonic() - began


def saturated(pair: Balancers, minutes: float, processes: int) -> Row:
    """How often the address moved while nothing happened but that the processors were busy."""
    pair.roles()
    before = sum(masters(one.said()) for one in pair.each)
    with subprocess.Popen([sys.executable, REMOTE / "saturate.py", str(processes)]) as busy:
        time.sleep(minutes * 60)
        load = os.getloadavg()[1]
        busy.terminate()
    moves = sum(masters(one.said()) for one in pair.each) - before
    return Row("processors saturated: moves", moves, "", 0, f"in {minutes:g} minutes at a load average of {load:.0f}")


def measure(pair: Balancers, times: int, minutes: float, processes: int) -> list[Row]:
    note = f"of {times}; {'with' if real_time() else 'without'} real-time priority"
    rows = moved_rows("keepalived killed", [killed(pair) for _ in range(times)], note, reference=0.5)
    rows += moved_rows("nginx reported as ended", [ended(pair) for _ in range(times)], note, reference=0.1)
    rows += moved_rows("VRRP healed, to one holder", [healed(pair) for _ in range(CUTS)], f"of {CUTS}", reference=1)
    return [*rows, saturated(pair, minutes, processes)] if minutes else rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pace", choices=[*INTERVAL_S], default="fast", help="keepalived_pace, default: fast")
    parser.add_argument("--times", type=int, default=20, help="default: 20")
    parser.add_argument("--minutes", type=float, default=0, help="default: 0, so not measured")
    parser.add_argument("--processes", type=int, default=20 * (os.cpu_count() or 1), help="default: 20 a processor")
    options = parser.parse_args()
    if os.geteuid():
        parser.error("network namespaces are made by root alone: run it with sudo")
    init_plugin_loader()
    with tempfile.TemporaryDirectory() as folder:
        pair = Balancers(Path(folder), options.pace)
        with pair.running():
            rows = measure(pair, options.times, options.minutes, options.processes)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
