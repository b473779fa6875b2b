"""The inventory `single` on a machine with a kernel of its own: converged, verified, rebooted, and verified again.

`python -m lab.vm test` continues with the machine that an earlier run left, and removes it when all has passed;
`python -m lab.vm remove` removes it in any case. Elsewhere in the lab containers stand for machines, on the kernel of
the machine below: what they hide is recorded in reports/vm (docs/real-machine.md).
"""

from __future__ import annotations

import argparse
import http.client
import ipaddress
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lab import archives, fleet, machine
from lab.machine import Machine

TOP = Path(__file__).resolve().parents[1]
INVENTORY = TOP / "inventories" / "single"
STATE = TOP / ".vm"
REPORTS = TOP / "reports" / "vm"
SERVE_SECONDS = 900
AUDIT_SECONDS = 1800
# What is recorded of the machine, by file: read as root.
FACTS = {
    "analyze-time": "systemd-analyze time; systemd-analyze critical-chain --no-pager",
    "analyze-blame": "systemd-analyze blame --no-pager",
    "analyze-security": "systemd-analyze security --no-pager",
    "sysctl": "sysctl --all 2>/dev/null",
    "ss": "ss -tulpn",
    "nft": "nft list ruleset",
    "memory": "grep . /sys/kernel/mm/transparent_hugepage/* 2>/dev/null; free -m; swapon --show",
    "cgroup": "stat -fc %T /sys/fs/cgroup; grep cgroup /proc/mounts; systemd-cgls --no-pager",
    "limits": 'for p in $(pgrep "mongod|node|nginx"); do ps -o args= $p; cat /proc/$p/limits; done',
    "time": "timedatectl; timedatectl timesync-status; systemctl status --no-pager systemd-timesyncd",
    "timers": "systemctl list-timers --all --no-pager",
    "units": "systemctl list-units --all --no-pager; systemctl list-unit-files --no-pager",
    "journal": "journalctl --disk-usage; journalctl --list-boots; journalctl --boot --priority=warning --no-pager",
    "kernel": "uname -a; systemd-detect-virt; cat /proc/cmdline; lsmod; findmnt",
    "upgrades": "unattended-upgrade --dry-run --debug 2>&1 | tail -n 20; apt-config dump | grep Periodic",
}


def report(message: str) -> None:
    print(f"vm: {message}", file=sys.stderr, flush=True)


def the_machine() -> Machine:
    """The one host of the inventory. Raises RuntimeError."""
    found = fleet.read(INVENTORY)
    (host,) = found.hosts
    (network,) = found.networks
    return Machine(host, ipaddress.IPv4Network(network.subnets[0]), STATE)


class Steps:
    """Steps with their times, kept in reports/vm/times.json: a later run adds its own."""

    def __init__(self, record: Path) -> None:
        self.record = record
        self.times: list[dict[str, object]] = json.loads(record.read_text()) if record.exists() else []

    def run(self, name: str, action: Callable[[], object]) -> None:
        report(f"{name} …")
        begun = time.monotonic()
        result = "failed"
        try:
            action()
            result = "done"
        finally:
            took = round(time.monotonic() - begun, 1)
            self.times.append({"step": name, "seconds": took, "result": result})
            self.record.write_text(json.dumps(self.times, indent=1) + "\n")
            report(f"{name}: {result} after {took:.0f} s")


def play(name: str) -> None:
    """Run a playbook; its messages go on to the terminal. Raises RuntimeError."""
    variables = {"lab_state": str(STATE), "ansible_ssh_extra_args": f"-F {STATE / 'ssh_config'}"}
    words = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(INVENTORY), "-e", json.dumps(variables)]
    done = subprocess.run([*words, f"playbooks/{name}.yml"], cwd=TOP, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}.yml failed, see above: the machine goes on (ssh -F {STATE / 'ssh_config'} vm1)")


def check(*tests: str) -> None:
    """Run tests on the machine. Raises RuntimeError."""
    words = [sys.executable, "-m", "pytest", "-q", *(f"tests/machine/{name}" for name in tests)]
    if subprocess.run(words, cwd=TOP, check=False).returncode:
        raise RuntimeError(f"tests/machine failed, see above: the machine goes on (ssh -F {STATE / 'ssh_config'} vm1)")


def serves(port: int) -> bool:
    """Whether clients get an answer: the certificate is the lab's own."""
    connection = http.client.HTTPSConnection(
        machine.LOOPBACK, port, timeout=10, context=ssl._create_unverified_context()
    )
    try:
        connection.request("GET", "/", headers={"Host": "phoenix.lab"})
        return 200 <= connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def until_served(vm: Machine) -> None:
    """Wait until it serves by itself. Raises RuntimeError."""
    deadline = time.monotonic() + SERVE_SECONDS
    while not serves(vm.ports()["https"]):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{vm.host.name} did not serve in {SERVE_SECONDS} s: see {vm.console}")
        time.sleep(0.5)


def facts(vm: Machine, folder: Path) -> None:
    """Record what the machine says of itself."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, command in FACTS.items():
        done = vm.ssh(f"sudo sh -c '{command}'", 600)
        (folder / f"{name}.txt").write_text(done.stdout + done.stderr)


def lynis(vm: Machine, folder: Path) -> None:
    """Record how Debian's lynis judges the machine: tests/machine reads the report that it leaves there."""
    install = "DEBIAN_FRONTEND=noninteractive apt-get --quiet --quiet install --yes --no-install-recommends lynis"
    done = vm.ssh(f"sudo sh -c '{install} >/dev/null && lynis audit system --quick --no-colors'", AUDIT_SECONDS)
    (folder / "lynis.txt").write_text(done.stdout + done.stderr)


def test() -> None:
    vm = the_machine()
    REPORTS.mkdir(parents=True, exist_ok=True)
    steps = Steps(REPORTS / "times.json")
    for component in archives.COMPONENTS:
        archives.fetch(component, TOP / ".cache" / "archives", report)
    if not (vm.folder / "initrd.img").exists():
        machine.remove(vm)
        steps.run("make the disk", lambda: machine.make(vm, report))
    steps.run("power on to SSH", lambda: power_on(vm))
    steps.run("lab-receivers.yml", lambda: play("lab-receivers"))
    steps.run("site.yml", lambda: play("site"))
    steps.run("verify.yml", lambda: play("verify"))
    steps.run("record the machine", lambda: facts(vm, REPORTS / "converged"))
    steps.run("tests/machine", lambda: check("test_kernel.py"))
    boot = machine.wait(vm)
    vm.ssh("sudo systemctl reboot")
    steps.run("reboot to SSH", lambda: machine.wait(vm, after=boot))
    steps.run("SSH to serving", lambda: until_served(vm))
    steps.run("verify.yml after the reboot", lambda: play("verify"))
    steps.run("record the machine after the reboot", lambda: facts(vm, REPORTS / "rebooted"))
    steps.run("tests/machine after the reboot", lambda: check("test_kernel.py", "test_boot.py"))
    steps.run("lynis", lambda: lynis(vm, REPORTS / "rebooted"))
    steps.run("tests/machine of its index", lambda: check("test_hardening.py"))
    steps.run("power off", lambda: stop(vm))
    remove()


def power_on(vm: Machine) -> None:
    report(f"accelerated by {machine.start(vm)}")
    machine.wait(vm)


def stop(vm: Machine) -> None:
    if not machine.stop(vm):
        raise RuntimeError(f"{vm.host.name} did not shut down by itself in {machine.HALT_SECONDS} s: see {vm.console}")


def remove() -> None:
    vm = the_machine()
    machine.stop(vm)
    machine.remove(vm)


def main() -> int:
    """Run one command and return its exit status: 0, or 2 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m lab.vm", description=__doc__)
    parser.add_argument("command", choices=["test", "remove"])
    try:
        {"test": test, "remove": remove}[parser.parse_args().command]()
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        report(f"failed: {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
