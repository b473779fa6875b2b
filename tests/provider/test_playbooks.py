"""provision.yml and deprovision.yml, with a real container as the one host of an inventory."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.provider.conftest import FLEET, NETWORK, TOP, Docker

HOST, ADDRESS = "vm7", "10.187.77.7"
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}


class Checkout:
    """The inventory `single`, with its one host made by the provider, and the keys of the user who runs Ansible."""

    def __init__(self, folder: Path) -> None:
        self.inventory = folder / "inventories" / "own"
        self.state = folder / ".lab"
        self.state.mkdir(mode=0o700)
        (folder / ".cache").symlink_to(TOP / ".cache")
        (folder / "app").symlink_to(TOP / "app")
        shutil.copytree(TOP / "inventories" / "single", self.inventory, ignore=shutil.ignore_patterns(".secrets"))
        self.write()
        key = str(self.state / "id_ed25519")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)

    def write(self, **variables: Any) -> None:
        host = {
            "ansible_host": ADDRESS,
            "ansible_user": "debian",
            "phoenix_provider": "docker",
            "phoenix_provider_image": Docker.image,
            "phoenix_provider_network": NETWORK,
            "phoenix_provider_fleet": FLEET,
            "phoenix_provider_known_hosts": str(self.known_hosts),
            **variables,
        }
        groups: dict[str, Any] = {group: {"hosts": {HOST: {}}} for group in ("lb", "app", "db", "control", "receivers")}
        hosts = {"all": {"hosts": {HOST: host}, "children": groups}}
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")

    @property
    def known_hosts(self) -> Path:
        return self.state / "known_hosts"

    def run(self, program: str, *arguments: str) -> tuple[int, str]:
        command = [str(Path(sys.executable).with_name(program)), "-i", str(self.inventory), *arguments]
        done = subprocess.run(
            command, cwd=TOP, env=CLEAN, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        return done.returncode, done.stdout + done.stderr

    def play(self, name: str, *arguments: str) -> tuple[int, str]:
        return self.run("ansible-playbook", f"playbooks/{name}.yml", *arguments)


def changed(output: str) -> int:
    found = re.search(rf"^{HOST} .*changed=(\d+)", output, re.MULTILINE)
    assert found, output
    return int(found[1])


@pytest.fixture
def checkout(docker_backend: Docker, tmp_path: Path) -> Iterator[Checkout]:
    yield Checkout(tmp_path)
    for host in docker_backend.client().list():
        docker_backend.client().delete(host.id)


def test_a_host_is_made_reached_left_alone_and_deleted(checkout: Checkout, docker_backend: Docker) -> None:
    hosts = docker_backend.client().list

    status, output = checkout.play("provision", "--check")
    assert (status, changed(output), hosts()) == (0, 1, []), output

    status, output = checkout.play("provision")
    assert (status, changed(output)) == (0, 1), output
    (made,) = hosts()
    assert (made.name, made.address) == (HOST, ADDRESS)
    # The key that Ansible checked is the one that was written before the host was there.
    assert checkout.known_hosts.read_text() == f"{ADDRESS} {made.host_key}\n"
    status, output = checkout.run("ansible", HOST, "-m", "command", "-a", "sudo cat /etc/ssh/ssh_host_ed25519_key.pub")
    assert status == 0, output
    assert made.host_key in output

    status, output = checkout.play("provision")
    assert (status, changed(output)) == (0, 0), output
    assert hosts() == [made]

    # Another operator's machine learns the key from the provider, not from the host's first answer.
    checkout.known_hosts.unlink()
    status, output = checkout.play("provision")
    assert (status, changed(output)) == (0, 1), output
    assert checkout.known_hosts.read_text() == f"{ADDRESS} {made.host_key}\n"

    status, output = checkout.play("deprovision", "-e", f"phoenix_hosts={HOST}")
    assert status != 0
    assert "Nothing was touched. Unattended, give -e phoenix_confirm=yes." in output
    assert hosts() == [made]

    status, output = checkout.play("deprovision", "-e", f"phoenix_hosts={HOST}", "-e", "phoenix_confirm=yes")
    assert (status, changed(output), hosts()) == (0, 1, []), output
    assert f"{HOST} (app, control, db, lb, receivers): {ADDRESS}, {made.id}, with its disk" in " ".join(output.split())
    assert checkout.known_hosts.read_text() == ""

    status, output = checkout.play("deprovision", "-e", f"phoenix_hosts={HOST}", "-e", "phoenix_confirm=yes")
    assert (status, changed(output)) == (0, 0), output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "phoenix_hosts is empty. Name the hosts to delete"),
        (("-e", "phoenix_hosts=vm8"), "the inventory has no host vm8. Correct the name. Nothing was touched."),
        (("-e", f"phoenix_hosts={HOST}", "-e", "phoenix_provider="), f"{HOST} has no phoenix_provider"),
    ],
)
def test_what_is_not_deleted(checkout: Checkout, arguments: tuple[str, ...], message: str) -> None:
    status, output = checkout.play("deprovision", *arguments)
    assert status != 0
    assert message in " ".join(output.split())


def test_nothing_is_created_for_an_inventory_with_errors(checkout: Checkout, docker_backend: Docker) -> None:
    checkout.write(phoenix_provider_image="", phoenix_provider_settings={"colour": "red"})
    status, output = checkout.play("provision")
    assert status != 0
    assert "phoenix_provider_image: empty" in output
    assert "docker has no colour" in output
    assert docker_backend.client().list() == []


def test_a_provider_that_refuses_is_named_with_its_reason(checkout: Checkout) -> None:
    checkout.write(phoenix_provider_network="no-such-network")
    status, output = checkout.play("provision")
    assert status != 0
    assert "no-such-network" in output
    assert "docker: invalid" in output
    assert json.dumps("PRIVATE KEY")[1:-1] not in output
