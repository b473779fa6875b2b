"""The hosts of a running fleet, over SSH and as root, and the programs of remote/ that run on them."""

from __future__ import annotations

import re
import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import testinfra

from lab import fleet

REMOTE = Path(__file__).resolve().with_name("remote")
TOP = Path(__file__).resolve().parents[2]
# Where programs are copied to on a host.
ON_HOST = "/run/phoenix-test"
IMPORTED = re.compile(r"^from tests\.harness\.remote import (\w+)$", re.MULTILINE)
PYTHON = "python3"
# For programs that import pymongo; every database host and control has it there.
PYTHON_WITH_DRIVER = "PYTHONPATH=/opt/pymongo/current python3"

Hosts = dict[str, Any]


def ssh_config(inventory: str) -> Path:
    """Return the SSH configuration in which the hosts have their inventory names."""
    return Path(inventory).parents[1] / ".lab" / "ssh_config"


@cache
def _fleet(inventory: str) -> fleet.Fleet:
    """Read an inventory once: it takes Ansible a second or more."""
    return fleet.read(Path(inventory))


def reread() -> None:
    """Forget what was read of inventories, as one has changed."""
    _fleet.cache_clear()


def hosts_of(group: str, inventory: str) -> Hosts:
    """Return inventory name -> testinfra host as root, for every host of a group of the lab's fleet."""
    return {
        host.name: testinfra.get_host(f"ssh://{host.name}", ssh_config=str(ssh_config(inventory)), sudo=True)
        for host in _fleet(inventory).hosts
        if group in ("all", *host.groups)
    }


def addresses_of(group: str, inventory: str) -> list[str]:
    """Return the addresses by which the hosts of a group are reached, by each other as well."""
    return [host.address for host in _fleet(inventory).members(group)]


def first_of(group: str, inventory: str) -> Any:
    """Return the first host of a group."""
    return next(iter(hosts_of(group, inventory).values()))


def control_of(inventory: str) -> Any:
    """Return the first control host, which has the state, the autoscaler and the backup's repository."""
    return first_of("control", inventory)


def secrets_of(inventory: str) -> list[str]:
    """List every secret that was generated for this inventory, of private keys one line."""
    folder = Path(inventory, ".secrets")
    found = []
    for path in folder.iterdir():
        if path.suffix not in (".lock", ".pub"):
            lines = path.read_text().strip().splitlines()
            # Frame and first line are those of any OpenSSH key, the public half follows, and the secret ends it.
            found.append(lines[-3] if lines[0].startswith("-----BEGIN ") else "\n".join(lines))
    assert found, f"no secrets in {folder}"
    return found


def ssh_command(inventory: str, host: str, command: str) -> list[str]:
    """Return the local command line that runs a shell command on a host as root."""
    return ["ssh", "-F", str(ssh_config(inventory)), host, f"sudo sh -c {shlex.quote(command)}"]


def ssh(inventory: str, host: str, command: str, text: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command as root with text on its standard input, which testinfra does not support."""
    return subprocess.run(
        ssh_command(inventory, host, command), input=text, capture_output=True, text=True, check=False
    )


def remote(name: str, *words: object, runner: str = PYTHON) -> str:
    """Return a shell command that copies a program of remote/ to the host and runs it there.

    With it goes what it imports of that folder. A secret belongs on its standard input, not among the words.
    """
    target = f"{ON_HOST}/{name}.py"
    text = (REMOTE / f"{name}.py").read_text(encoding="utf-8")
    below = f"{ON_HOST}/{REMOTE.relative_to(TOP)}"
    copies = {target: text}
    for imported in IMPORTED.findall(text):
        copies[f"{below}/{imported}.py"] = (REMOTE / f"{imported}.py").read_text(encoding="utf-8")
    written = " && ".join(f"printf %s {shlex.quote(content)} >{shlex.quote(path)}" for path, content in copies.items())
    return f"mkdir -p {shlex.quote(below)} && {written} && {runner} {shlex.join([target, *map(str, words)])}"


def output_of(host: Any, command: str) -> str:
    """Return the output of a command on a host, or "" while the host cannot be reached."""
    try:
        return str(host.run(command).stdout.strip())
    except RuntimeError:
        return ""


def pid_of(host: Any, unit: str) -> int:
    """Return the main process of a unit, or 0 if it does not run."""
    return int(host.check_output("systemctl show -p MainPID --value %s", unit))
