"""What is done to a host on demand: made by its provider, prepared by a play where its image is old, then drained.

The record of hosts is what plays read (published.py), so a host is published by being recorded as such.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from phoenix.build import identity
from phoenix.provider import cli, contract, published
from phoenix.provider.client import Client
from phoenix.provider.contract import Host
from phoenix.provider.demand import NotDone
from phoenix.provider.settings import Settings
from phoenix.state import desired

KEY = Path("/var/lib/phoenix-runner/.ssh/id_ed25519")
USER = "phoenix-runner"
SSH_SECONDS = 20.0
PLAY_SECONDS = 180.0


class Result(Protocol):
    @property
    def good(self) -> bool: ...
    @property
    def text(self) -> str: ...
    @property
    def left_out(self) -> Mapping[str, str]: ...


class Plays(Protocol):
    """Runs the fleet's plays: phoenix.autoscaler.action.Playbooks."""

    def scale_to(self, count: int, timeout: float) -> Result: ...
    def run(self, playbook: str, variables: dict[str, str], timeout: float) -> Result: ...


def ssh(address: str, command: str) -> str:
    """Run a command on a host, by the key that its provider was given. Raises NotDone."""
    line = ["ssh", "-F", "none", "-i", str(KEY), "-o", f"UserKnownHostsFile={published.KNOWN_HOSTS}"]
    line += ["-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=3", "-o", "LogLevel=ERROR"]
    try:
        done = subprocess.run(
            [*line, f"{USER}@{address}", command], capture_output=True, text=True, check=False, timeout=SSH_SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NotDone(f"ssh to {address}: {error}") from error
    if done.returncode:
        raise NotDone(f"ssh to {address}: {' '.join(done.stderr.split())[-300:] or f'status {done.returncode}'}")
    return done.stdout


@dataclass(frozen=True)
class Target:
    """What a host has to have before it serves: Phoenix's version, the recorded release and configuration."""

    version: str
    release: str
    configuration: str


@dataclass
class FleetWorker:
    """A demand.Worker for this fleet. ssh runs a command at an address."""

    settings: Settings
    plays: Plays
    folder: Path = published.FOLDER
    state: Path = desired.FOLDER
    key: Path = KEY
    ssh: Callable[[str, str], str] = ssh
    version: Callable[[], str] = identity.version
    drained: set[str] = field(default_factory=set)  # names are never used twice

    @property
    def client(self) -> Client:
        return Client(self.settings.command, self.settings.fleet, self.settings.provider_settings)

    def create(self, name: str, address: str) -> Host:
        try:
            return contract.host(cli.ensure(self.order(name, address))["host"])
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise contract.Failed(str(error)) from error

    def order(self, name: str, address: str) -> cli.Order:
        """Raises OSError: control's own key can't be read."""
        return cli.Order(
            name=name,
            provider="exec",
            fleet=self.settings.fleet,
            settings={**self.settings.provider_settings, "command": list(self.settings.command)},
            known_hosts=str(self.folder / "known_hosts"),
            address=address,
            user=self.settings.user,
            authorized_keys=[*self.settings.authorized_keys, self.key.with_suffix(".pub").read_text().strip()],
            image=self.settings.image,
            size=self.settings.size,
            network=self.settings.network,
        )

    def prepare(self, name: str, address: str) -> None:
        if self.current(address):
            return
        variables = {"phoenix_join_name": name, "phoenix_join_address": address}
        result = self.plays.run("join", variables, PLAY_SECONDS)
        if not result.good:
            raise NotDone(f"join.yml: {result.text}")
        if not self.current(address):
            raise NotDone(f"{name} has not got what is recorded after join.yml: {self.target()}")

    def publish(self, name: str, address: str) -> None:
        """Nothing: it is published by being recorded as a host that stands by."""

    def drain(self, name: str, address: str) -> None:
        """Out of the load balancers, then its instances stopped; one that is gone is only taken out."""
        if name in self.drained:
            return
        hosts = published.read(self.folder / "hosts.json")
        leaving = {host["name"] for host in hosts if not host["accepts"]}
        accepting = sum(host["accepts"] for host in hosts)
        capacity = desired.read_capacity(self.state)
        if capacity is None:
            raise NotDone("the capacity is not recorded")
        room = self.settings.room + accepting * self.settings.instances_per_host
        result = self.plays.scale_to(min(capacity, room), PLAY_SECONDS)
        if not result.good:
            raise NotDone(f"scale.yml: {result.text}")
        balancers = [host for host in result.left_out if host in self.settings.balancers]
        if balancers:
            raise NotDone(f"{', '.join(balancers)} may still use it: {result.left_out[balancers[0]]}")
        self.drained |= leaving

    def delete(self, identity: str) -> bool:
        return self.client.delete(identity)

    def target(self) -> Target:
        """Raises NotDone when it is not recorded."""
        release = desired.read_release(self.state)
        configuration = (desired.read_configuration(self.state) or {}).get(self.settings.reference)
        if not release or not configuration:
            raise NotDone(f"no release or no configuration of {self.settings.reference} is recorded: deploy first")
        return Target(self.version(), release, configuration)

    def status(self, address: str) -> tuple[str, dict[str, Any]]:
        """Phoenix's version on the host and what its instances are. Raises NotDone."""
        text = self.ssh(address, "sudo phoenixctl --version && sudo phoenixctl instances status")
        first, _, rest = text.partition("\n")
        try:
            return first.split()[-1], dict(json.loads(rest))
        except (IndexError, ValueError) as error:
            raise NotDone(f"{address} answered {text[:100]!a}: is its image prepared?") from error

    def current(self, address: str) -> bool:
        """Whether it has what is recorded. Raises NotDone."""
        version, status = self.status(address)
        return Target(version, status["current"], status["configuration"]) == self.target()

    def serves(self, address: str) -> bool:
        """Whether instances run there, as far as it says."""
        try:
            return any(instance["active"] for instance in self.status(address)[1]["instances"])
        except NotDone:
            return False
