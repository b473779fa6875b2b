"""Hosts of a fleet at their provider: docs/providers.md.

phoenixctl provider ensure       creates a host unless it exists, and records its SSH host key before that
phoenixctl provider find         prints the host of a name, if there is one
phoenixctl provider remove       deletes the host of a name, if there is one, and forgets its key
phoenixctl provider serve NAME   is the provider of this name

Each reads JSON from stdin and prints JSON. Exit status: 0 done; 1 refused or failed, with the reason on stderr
(`serve`: in its answer).
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phoenix.provider import cloud_config, contract, libvirt, serve
from phoenix.provider.client import Client
from phoenix.provider.contract import Host, Invalid, Spec

SERVED = {"libvirt": libvirt.Libvirt}
# The provider of the lab is the lab's own, and needs its libraries.
COMMANDS = {"docker": ["-m", "lab.provider"], "libvirt": ["-m", "phoenix", "provider", "serve", "libvirt"]}
TOP = Path(__file__).resolve().parents[3]
USAGE = 64


@dataclass(frozen=True)
class Order:
    """What a play says of one host."""

    name: str
    provider: str
    fleet: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    known_hosts: str = "~/.ssh/known_hosts"
    address: str = ""
    port: int = 22
    user: str = ""
    authorized_keys: list[str] = field(default_factory=list)
    image: str = ""
    size: Mapping[str, Any] = field(default_factory=dict)
    network: str = ""
    check: bool = False

    def client(self) -> Client:
        """The client of this host's provider.

        Raises:
            Invalid: there is no such provider, or `exec` lacks its command.
        """
        settings = dict(self.settings)
        if self.provider == "exec":
            command = settings.pop("command", None)
            if not isinstance(command, list) or not command or not all(isinstance(one, str) for one in command):
                raise Invalid(f"command = {command!r}: give the provider's command and its arguments as a list")
            return Client([str(Path(command[0]).expanduser()), *command[1:]], self.fleet, settings)
        if self.provider not in COMMANDS:
            raise Invalid(f"no provider is called {self.provider!r}: use {', '.join([*COMMANDS, 'exec'])}")
        paths = {"PYTHONPATH": f"{TOP / 'src'}:{TOP}"}
        return Client([sys.executable, *COMMANDS[self.provider]], self.fleet, settings, environment=paths)

    @property
    def trusted(self) -> Path:
        return Path(self.known_hosts).expanduser()

    @property
    def pattern(self) -> str:
        """The host in known_hosts."""
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"


def order(value: Any) -> Order:
    """Read an order. Raises Invalid."""
    try:
        return Order(**value)
    except TypeError as error:
        raise Invalid(f"not an order: {error}") from error


def find(wanted: Order) -> Host | None:
    """The host of this name at its provider. Raises contract.Error."""
    return next((host for host in wanted.client().list() if host.name == wanted.name), None)


def ensure(wanted: Order) -> dict[str, Any]:
    """Create the host unless it exists, start it where it does not run. Raises contract.Error.

    Its key is recorded before it is created: who is killed in between leaves a line in known_hosts, and no host whose
    key nobody knows.
    """
    client = wanted.client()
    found = next((host for host in client.list() if host.name == wanted.name), None)
    if found is not None and found.state == "running":
        _check_address(wanted, found)
        learned = _trust(wanted, found.host_key) if found.host_key and not wanted.check else False
        return {"changed": learned, "host": dataclasses.asdict(found)}
    if wanted.check:
        return {"changed": True, "host": dataclasses.asdict(found) if found else None}
    key = cloud_config.host_key()
    if found is None and wanted.address:
        _trust(wanted, key["public"])
    made = client.create(
        wanted.name,
        Spec(
            image=wanted.image,
            user=wanted.user,
            authorized_keys=wanted.authorized_keys,
            host_key=key,
            user_data=cloud_config.user_data(wanted.name, wanted.user, wanted.authorized_keys, key),
            size=wanted.size,
            network=wanted.network,
            address=wanted.address,
        ),
    )
    # The key may be that of another run's creation, and the address another one than was asked for.
    trusted = made.host_key or (key["public"] if found is None else "")
    learned = _trust(dataclasses.replace(wanted, address=made.address), trusted) if made.address and trusted else False
    _check_address(wanted, made)
    changed = learned or found is None or found.state != made.state
    return {"changed": changed, "host": dataclasses.asdict(made)}


def remove(wanted: Order) -> dict[str, Any]:
    """Delete the host, and its key from known_hosts. Raises contract.Error."""
    client = wanted.client()
    found = next((host for host in client.list() if host.name == wanted.name), None)
    if found is None or wanted.check:
        return {"changed": found is not None}
    client.delete(found.id)
    with _guarded(wanted.trusted):
        _forget(wanted)
    return {"changed": True}


def _check_address(wanted: Order, host: Host) -> None:
    if wanted.address and host.address and host.address != wanted.address:
        raise Invalid(
            f"{host.name} has the address {host.address} at its provider, and {wanted.address} in the inventory: "
            "correct ansible_host, or remove the host and create it again"
        )


@contextlib.contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Hosts are created side by side, and ssh-keygen replaces the file."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def _keygen(*arguments: str) -> str:
    done = subprocess.run(["ssh-keygen", *arguments], capture_output=True, text=True, check=False)
    return done.stdout


def _forget(wanted: Order) -> None:
    if wanted.trusted.exists() and _keygen("-F", wanted.pattern, "-f", str(wanted.trusted)):
        _keygen("-R", wanted.pattern, "-f", str(wanted.trusted))


def _trust(wanted: Order, key: str) -> bool:
    """Make this the one key of the host's address, which another host may have had before; False: it was already."""
    path = wanted.trusted
    with _guarded(path):
        if path.exists():
            known = [line for line in _keygen("-F", wanted.pattern, "-f", str(path)).splitlines() if line[:1] != "#"]
            if [line.split()[1:3] for line in known] == [key.split()[:2]]:
                return False
            _forget(wanted)
        with path.open("a") as file:
            file.write(f"{wanted.pattern} {key}\n")
    return True


VERBS = {
    "ensure": ensure,
    "find": lambda wanted: {"host": dataclasses.asdict(host) if (host := find(wanted)) else None},
    "remove": remove,
}


def main(arguments: list[str]) -> int:
    if len(arguments) == 2 and arguments[0] == "serve" and arguments[1] in SERVED:
        return serve.serve(SERVED[arguments[1]])
    if len(arguments) != 1 or arguments[0] not in VERBS:
        print(__doc__, file=sys.stderr)
        return USAGE
    try:
        print(json.dumps(VERBS[arguments[0]](order(json.load(sys.stdin)))))
        return 0
    except contract.Error as error:
        print(f"{error.kind}: {error}", file=sys.stderr)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        print(f"failed: {error}", file=sys.stderr)
    return 1
