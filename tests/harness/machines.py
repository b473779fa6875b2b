"""The lab's machines, which are its containers: without power, or without their network, for a while."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace as changed
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import docker

from lab import containers
from lab import fleet as lab
from tests.harness.hosts import output_of, reread, ssh_config
from tests.harness.plays import TOP
from tests.harness.waiting import wait_for

STOP_SECONDS = 30
BOOT_SECONDS = 90
# A host without power sends nothing. A killed container still refuses connections while its network is being removed.
SILENCE = (
    "nft 'table inet dead { chain i { type filter hook input priority -300; policy drop; }; "
    "chain o { type filter hook output priority -300; policy drop; }; }'"
)
# Before the fleet's own rules, in a table of its own. The operator's connection is not the network that is lost.
CUT_OFF = (
    "nft 'table inet cut { "
    'chain i { type filter hook input priority -300; policy drop; iif "lo" accept; tcp dport 22 accept; }; '
    'chain o { type filter hook output priority -300; policy drop; oif "lo" accept; tcp sport 22 accept; }; }\''
)
HEAL = "nft delete table inet cut"
# Ansible's kept connection to a host that is gone asks for a sign of life that often (ansible.cfg), and ends with the
# refusal by the host that has its address now. A play that begins before finds the host unreachable.
KEPT_SECONDS = 16
# A file of the inventory beside hosts.yml, read after it, so that the hosts there stay the first of their groups.
ADDED = "zz-added.yml"


def machines() -> dict[str, Any]:
    """Inventory name -> container, of every host of the fleet, running or not."""
    found = docker.from_env().containers.list(all=True, filters={"label": containers.LABEL})
    return {container.name.removeprefix("phoenix-"): container for container in found}


def settled(host: Any) -> bool:
    """Whether the host has booted, and no unit of it has failed."""
    return output_of(host, "systemctl is-system-running") == "running"


def power_off(machine: Any) -> float:
    """Take a host's power, and return when, by the monotonic clock."""
    code, output = machine.exec_run(["sh", "-c", SILENCE])
    assert code == 0, output
    began = time.monotonic()
    machine.kill()
    return began


@contextmanager
def without_power(machine: Any) -> Iterator[None]:
    """Take a host's power while the block runs."""
    try:
        power_off(machine)
        yield
    finally:
        machine.start()


def replace(inventory: str, name: str, debian: str = "") -> None:
    """Take a host away, with everything on it, and start an empty one with its name and address.

    debian: the suite of the new one, if it is not the inventory's.
    """
    client = docker.from_env()
    machine = client.containers.get(f"phoenix-{name}")
    power_off(machine)
    machine.remove(v=True)
    ours = lab.read(Path(inventory))
    hosts = tuple(changed(host, debian=debian) if debian and host.name == name else host for host in ours.hosts)
    containers.up(client, changed(ours, hosts=hosts), ssh_config(inventory).resolve().parent, TOP / ".cache", print)
    time.sleep(KEPT_SECONDS)


def add(inventory: str, group: str) -> str:
    """Put one more host into a group of the inventory, start it, empty, and return its name.

    It has the next number and the next address of the group. take_out() is for its end.
    """
    ours = lab.read(Path(inventory))
    alike = ours.members(group)
    name = f"{group}{len(alike) + 1}"
    address = str(max(ip_address(host.address) for host in alike) + 1)
    taken = [host.name for host in ours.hosts if host.name == name or address in host.addresses]
    assert not taken, f"{name} at {address} would be another host of {group}, but {', '.join(taken)} has that"
    described = {group: {"hosts": {name: {"ansible_host": address}}}}
    (Path(inventory) / ADDED).write_text(json.dumps({"all": {"children": described}}) + "\n", encoding="utf-8")
    _up(inventory)
    return name


def take_out(inventory: str) -> bool:
    """Take the host that add() has put there out of the inventory, and remove it; return whether there was one."""
    file = Path(inventory) / ADDED
    if not file.exists():
        return False
    ((added, *_),) = (group["hosts"] for group in json.loads(file.read_text())["all"]["children"].values())
    file.unlink()
    for machine in (one for name, one in machines().items() if name == added):
        machine.remove(force=True, v=True)
    _up(inventory)
    return True


def _up(inventory: str) -> None:
    """Start what the inventory has, and note the hosts' keys and addresses."""
    reread()
    state = ssh_config(inventory).resolve().parent
    containers.up(docker.from_env(), lab.read(Path(inventory)), state, TOP / ".cache", print)


@contextmanager
def stopped(machine: Any, host: Any) -> Iterator[None]:
    """Shut a host down while the block runs, and wait until it has booted afterwards."""
    try:
        machine.stop(timeout=STOP_SECONDS)
        yield
    finally:
        machine.start()
        wait_for(lambda: settled(host), BOOT_SECONDS, "the host runs again")


@contextmanager
def cut_off(host: Any) -> Iterator[None]:
    """Let nothing but SSH in or out of a host while the block runs."""
    try:
        host.check_output(CUT_OFF)
        yield
    finally:
        host.run(HEAL)
