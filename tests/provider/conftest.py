"""The providers that the contract's tests run against: docker, libvirt (its own stand-in `test`), and a script."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from lab import containers, image
from lab.provider import FLEET_LABEL
from phoenix.provider import cli, cloud_config
from phoenix.provider.client import Client
from phoenix.provider.contract import Spec
from tests.harness.waiting import wait_for
from tests.provider.report import Report

TOP = Path(__file__).resolve().parents[2]
# The same in every run of a checkout, so that one which was killed is cleaned up by the next.
FLEET = f"contract-{zlib.crc32(containers.CHECKOUT.encode()):08x}"
NETWORK = "phoenix-contract"
SUBNET = "10.187.77.0/24"
NOBODY = 65534
TEST_LABELS = {"org.phoenix.test": "contract", containers.CHECKOUT_LABEL: containers.CHECKOUT}


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Report())


class Backend(ABC):
    """A provider under test, and what stands next to it: hosts that others made, and hands that delete."""

    name: str
    image: str
    settings: Mapping[str, Any] = {}
    quota = "max_hosts"
    # Time limits, each of which ends the provider with SIGKILL at another point of what it does.
    kills: Sequence[float] = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
    addresses: str
    network = ""
    key = cloud_config.host_key()
    authorized: Sequence[str] = (cloud_config.host_key()["public"],)

    def client(self, fleet: str = FLEET, **settings: Any) -> Client:
        """A client; its settings are the backend's and these."""
        order = cli.Order("", self.name, fleet, {**self.settings, **settings})
        return order.client()

    def limited(self, number: int) -> Client:
        return self.client(FLEET, **{self.quota: number})

    def spec(self, number: int = 1) -> Spec:
        return Spec(
            image=self.image,
            user="debian",
            authorized_keys=[*self.authorized],
            host_key=self.key,
            user_data=cloud_config.user_data("x", "debian", self.authorized, self.key),
            network=self.network,
            address=f"{self.addresses}{100 + number}",
        )

    def killed(self, seconds: float) -> Client:
        """A client that kills the provider with -9 after this time."""
        return replace(self.client(), time_limits=dict.fromkeys(("list", "create", "delete", "quota"), seconds))

    @abstractmethod
    def foreign(self, name: str) -> str:
        """Make a host without any tag and return its ID."""

    @abstractmethod
    def exists(self, identity: str) -> bool: ...

    @abstractmethod
    def delete_by_hand(self, identity: str) -> None: ...

    def remnants(self) -> list[str]:
        """What is left of the provider's hosts besides the hosts themselves."""
        return []


class Docker(Backend):
    name = "docker"
    image = f"{image.REPOSITORY}:bookworm"
    addresses = "10.187.77."
    network = NETWORK
    kills = (0.5, 0.8, 1.2)  # systemd boots in each of them

    def __init__(self) -> None:
        self.engine = docker.from_env()
        image.ensure(self.engine, "bookworm", TOP / ".cache", print)
        self.remove_all()
        pool = docker.types.IPAMPool(subnet=SUBNET)
        self.engine.networks.create(NETWORK, ipam=docker.types.IPAMConfig(pool_configs=[pool]), labels=TEST_LABELS)

    def remove_all(self) -> None:
        for label in ("org.phoenix.test=contract", f"{FLEET_LABEL}={FLEET}", f"{FLEET_LABEL}={FLEET}-other"):
            for container in self.engine.containers.list(all=True, filters={"label": label}):
                container.remove(force=True, v=True)
        for network in self.engine.networks.list(filters={"label": "org.phoenix.test=contract"}):
            network.remove()

    def foreign(self, name: str) -> str:
        made = self.engine.containers.create(
            self.image, ["sleep", "600"], name=f"phoenix-{name}", hostname=name, labels=TEST_LABELS
        )
        return str(made.id)

    def exists(self, identity: str) -> bool:
        return identity in [one.id for one in self.engine.containers.list(all=True, ignore_removed=True)]

    def delete_by_hand(self, identity: str) -> None:
        self.engine.containers.get(identity).remove(force=True, v=True)


class Libvirt(Backend):
    """libvirt's daemon with its driver `test`, which keeps domains and volumes in memory and needs no privileges."""

    name = "libvirt"
    image = "debian-12.qcow2"
    addresses = "192.0.2."

    def __init__(self, folder: Path) -> None:
        if not (shutil.which("libvirtd", path=f"{os.environ['PATH']}:/usr/sbin") and shutil.which("xorriso")):
            pytest.fail("libvirtd, virsh or xorriso is not installed: run make provider-test, which installs them")
        self.folder = folder
        home = folder / "daemon"
        home.mkdir()
        command = ["/usr/sbin/libvirtd", "--timeout", "600"]
        if os.geteuid() == 0:
            # As root it would be the machine's own daemon, with its networks and firewall rules.
            os.chown(home, NOBODY, NOBODY)
            command = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", *command]
        folders = dict.fromkeys(("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), str(home))
        self.log = (folder / "libvirtd.log").open("w")
        self.daemon = subprocess.Popen(command, env={"PATH": os.environ["PATH"], **folders}, stderr=self.log)
        socket = home / "libvirt" / "libvirt-sock"
        self.uri = f"test+unix:///default?socket={socket}"
        wait_for(socket.exists, 30, "libvirtd listens")
        # The driver forgets everything when its last client leaves.
        self.keeper = subprocess.Popen(["virsh", "-c", self.uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.keeper.stdin and self.keeper.stdout
        self.keeper.stdin.write(b"uri\n")
        self.keeper.stdin.flush()
        while b"test" not in self.keeper.stdout.readline():
            pass
        self.settings = {
            "uri": self.uri,
            "pool": "default-pool",
            "seeds": str(folder / "seeds"),
            "gateway": "192.0.2.1/24",
        }
        self.virsh("vol-create-as", "default-pool", self.image, "1G", "--format", "qcow2")

    def close(self) -> None:
        self.keeper.communicate(b"quit\n", timeout=10)
        self.daemon.terminate()
        self.daemon.wait(10)
        self.log.close()

    def virsh(self, *arguments: str, text: str = "") -> str:
        command = ["virsh", "--quiet", "-c", self.uri, *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout.strip()

    def foreign(self, name: str) -> str:
        xml = f"<domain type='test'><name>{name}</name><memory>1024</memory><os><type>hvm</type></os></domain>"
        self.virsh("define", "/dev/stdin", text=xml)
        return self.virsh("domuuid", name)

    def exists(self, identity: str) -> bool:
        return identity in self.virsh("list", "--all", "--uuid").split()

    def delete_by_hand(self, identity: str) -> None:
        name = self.virsh("domname", identity)
        if identity in self.virsh("list", "--uuid").split():
            self.virsh("destroy", identity)
        self.virsh("undefine", identity)
        if f"phoenix-{name}" in self.volumes():
            self.virsh("vol-delete", "--pool", "default-pool", f"phoenix-{name}")

    def volumes(self) -> list[str]:
        return [line.split()[0] for line in self.virsh("vol-list", "default-pool").splitlines()]

    def remnants(self) -> list[str]:
        seeds = self.folder / "seeds"
        return [name for name in self.volumes() if name != self.image] + [
            path.name for path in (seeds.glob("*") if seeds.exists() else ())
        ]


class Script(Backend):
    name = "exec"
    image = "debian-12"
    addresses = "192.0.2."
    quota = "max"

    def __init__(self, folder: Path) -> None:
        self.file = folder / "hosts.json"
        script = str(TOP / "tests" / "fixtures" / "provider")
        self.settings = {"command": [sys.executable, script], "file": str(self.file)}

    def hosts(self) -> dict[str, Any]:
        return dict(json.loads(self.file.read_text())) if self.file.exists() else {}

    def foreign(self, name: str) -> str:
        host = {"name": name, "fleet": "", "address": "", "state": "running", "host_key": ""}
        self.file.write_text(json.dumps({**self.hosts(), f"i-{name}": host}))
        return f"i-{name}"

    def exists(self, identity: str) -> bool:
        return identity in self.hosts()

    def delete_by_hand(self, identity: str) -> None:
        hosts = self.hosts()
        del hosts[identity]
        self.file.write_text(json.dumps(hosts))


@pytest.fixture(scope="session")
def docker_backend() -> Iterator[Docker]:
    backend = Docker()
    yield backend
    backend.remove_all()


@pytest.fixture(scope="session", params=["docker", "libvirt", "exec"])
def at(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A provider that is running."""
    if request.param == "docker":
        yield request.getfixturevalue("docker_backend")
    elif request.param == "libvirt":
        # Not below pytest's folder, which nobody else may enter.
        folder = Path(tempfile.mkdtemp(prefix="phoenix-contract-"))
        folder.chmod(0o755)
        backend = Libvirt(folder)
        yield backend
        backend.close()
        shutil.rmtree(folder)
    else:
        yield Script(tmp_path_factory.mktemp("script"))


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test gives back what it made, and its provider's own actions leave nothing behind."""
    yield
    if "at" in request.fixturenames:
        backend = request.getfixturevalue("at")
        for fleet in (FLEET, f"{FLEET}-other"):
            for host in backend.client(fleet).list():
                backend.client(fleet).delete(host.id)
        assert backend.remnants() == []
