"""What the lab removes and what it refuses, with a Docker engine that is played."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker
import pytest
from docker.errors import APIError, DockerException

from lab import __main__ as command
from lab import containers, image, proxy
from tests.unit.shared import TOP, read_yaml

ACCOUNT = "user:word"
OTHER = "/home/ann/phoenix"


class Thing:
    """A container, network or image, which can be removed once."""

    def __init__(self, collection: Collection, name: str, labels: dict[str, str]) -> None:
        self.collection, self.name, self.labels = collection, name, labels
        self.attrs = {"Labels": labels}

    def remove(self, **_: Any) -> None:
        self.collection.things.remove(self)


class Collection:
    """Containers or networks of an engine, filtered by label as an engine does."""

    def __init__(self, *named: tuple[str, dict[str, str]]) -> None:
        self.things = [Thing(self, name, labels) for name, labels in named]

    def list(self, *, filters: dict[str, Any], **_: Any) -> list[Thing]:
        assert filters.keys() == {"label"}
        wanted = [filters["label"]] if isinstance(filters["label"], str) else filters["label"]
        pairs = [label.partition("=") for label in wanted]
        return [t for t in self.things if all(t.labels.get(k) == v if eq else k in t.labels for k, eq, v in pairs)]


def names(collection: Collection) -> list[str]:
    return [thing.name for thing in collection.things]


def labels(checkout: str, inventory: str = "lab") -> dict[str, str]:
    return {containers.LABEL: inventory, containers.CHECKOUT_LABEL: checkout}


def engine(*hosts: tuple[str, dict[str, str]], networks: tuple[tuple[str, dict[str, str]], ...] = ()) -> Any:
    return SimpleNamespace(containers=Collection(*hosts), networks=Collection(*networks))


def test_down_removes_only_this_checkouts_containers_and_networks() -> None:
    scenario = {containers.CHECKOUT_LABEL: containers.CHECKOUT, "org.phoenix.scenario": "hosts"}
    client = engine(
        ("phoenix-app1", labels(containers.CHECKOUT)),
        ("phoenix-hosts-bookworm", scenario),
        ("phoenix-db1", labels(OTHER)),
        ("somebody's", {}),
        networks=(
            ("phoenix-lab", labels(containers.CHECKOUT)),
            ("phoenix-single", labels(OTHER, "single")),
            ("bridge", {}),
        ),
    )
    said: list[str] = []
    containers.down(client, [], said.append)
    assert names(client.containers) == ["phoenix-db1", "somebody's"]
    assert names(client.networks) == ["phoenix-single", "bridge"]
    assert said == ["removing phoenix-app1", "removing phoenix-hosts-bookworm"]


def test_down_removes_only_the_secrets_of_the_labs_inventories(tmp_path: Path) -> None:
    shutil.copytree(TOP / "inventories", tmp_path / "inventories", symlinks=True, ignore=lambda *_: [".secrets"])
    # As the inventory says itself, for a VM of one's own.
    shutil.copytree(tmp_path / "inventories/single", tmp_path / "inventories/acme", symlinks=True)
    secrets = {path.parent.name: path.parent / ".secrets" for path in (tmp_path / "inventories").glob("*/hosts.yml")}
    for folder in (tmp_path / ".lab", *secrets.values()):
        folder.mkdir()
        (folder / "mongodb-admin").write_text("secret")
    containers.down(engine(), command.generated(tmp_path), print)
    assert not (tmp_path / ".lab").exists()
    kept = {name for name, folder in secrets.items() if (folder / "mongodb-admin").exists()}
    assert kept == secrets.keys() - set(command.PROFILES.values())
    assert {"acme", "production"} <= kept


def test_every_profile_is_an_inventory_of_the_lab() -> None:
    for name in command.PROFILES.values():
        assert "lab_network" in (TOP / "inventories" / name / "hosts.yml").read_text()


def test_unknown_profile_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LAB_PROFILE", "production")
    monkeypatch.setattr(sys, "argv", ["lab", "inventory"])
    assert command.main() == 2
    assert capsys.readouterr().err == (
        "lab: inventory failed: LAB_PROFILE is 'production': "
        "set it to one of default, single, mongodb-5.0, demand, networks\n"
    )


@pytest.mark.parametrize("kind", ["containers", "networks"])
def test_second_fleet_is_refused_with_the_way_to_end_the_first(tmp_path: Path, kind: str) -> None:
    theirs = ("phoenix-app1", labels(str(tmp_path)))
    client = engine(theirs) if kind == "containers" else engine(networks=(theirs,))
    with pytest.raises(RuntimeError, match=rf"^the fleet of {tmp_path} .* \(make -C {tmp_path} down\)$"):
        containers.refuse_others(client, "lab")


def test_fleet_of_a_deleted_checkout_can_be_removed() -> None:
    client = engine(("phoenix-app1", labels(OTHER)))
    with pytest.raises(RuntimeError, match=r"docker rm -fv \$\(docker ps -aqf label=org\.phoenix\.checkout=/home/ann/"):
        containers.refuse_others(client, "lab")


def test_second_profile_is_refused() -> None:
    client = engine(("phoenix-vm1", labels(containers.CHECKOUT, "single")))
    with pytest.raises(RuntimeError, match=r"^the fleet of inventories/single is there, .* \(make down\)$"):
        containers.refuse_others(client, "lab")
    containers.refuse_others(client, "single")


def test_only_this_checkouts_hosts_count_as_its_fleet() -> None:
    client = engine(
        ("phoenix-app1", labels(containers.CHECKOUT)),
        ("phoenix-app2", labels(OTHER)),
        ("phoenix-hosts-trixie", {containers.CHECKOUT_LABEL: containers.CHECKOUT}),
    )
    assert [container.name for container in containers.hosts(client)] == ["phoenix-app1"]


@pytest.mark.parametrize(
    ("config", "gateway"),
    [
        ({"Subnet": "172.17.0.0/16"}, "172.17.0.1"),
        ({"Subnet": "192.0.2.0/24", "Gateway": "192.0.2.9"}, "192.0.2.9"),
    ],
)
def test_gateway_of_the_default_network(config: dict[str, str], gateway: str) -> None:
    bridge = SimpleNamespace(attrs={"IPAM": {"Config": [config]}})
    client = SimpleNamespace(networks=SimpleNamespace(get={"bridge": bridge}.__getitem__))
    assert containers.default_gateway(client) == gateway


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("('Connection aborted.', PermissionError(13, 'Permission denied'))", "put lab/with-docker before the command"),
        ("('Connection aborted.', FileNotFoundError(2, 'No such file'))", "start it (lab/bootstrap)"),
    ],
)
def test_an_engine_out_of_reach_is_one_sentence(
    error: str, remedy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise DockerException(error)

    monkeypatch.setattr(docker, "from_env", refuse)
    monkeypatch.setattr(sys, "argv", ["lab", "down"])
    assert command.main() == 2
    said = capsys.readouterr().err
    assert said.startswith("lab: down failed: ")
    assert remedy in said
    assert said.count("\n") == 1


def test_a_missing_program_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing(components: object) -> None:
        subprocess.run(["/nonexistent/npm"], check=True)

    monkeypatch.setattr(command, "_fetch_archives", missing)
    monkeypatch.setattr(sys, "argv", ["lab", "archives"])
    assert command.main() == 2
    said = capsys.readouterr().err
    assert said.startswith("lab: archives failed: ")
    assert said.count("\n") == 1


@pytest.fixture
def sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user other than root, with a sudo that records its arguments and proxy variables; yields the record's file."""
    calls = tmp_path / "calls"
    program = tmp_path / "bin/sudo"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s|" "$@" "$http_proxy" >>{calls}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return calls


def test_root_is_gained_by_sudo_with_the_mirrors_proxy(
    sudo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(proxy, "of_mirror", lambda _: f"http://{ACCOUNT}@proxy:3128")
    image.as_root(["debootstrap", "bookworm"], image._download_environment("http://mirror/debian"))
    asked = "[sudo] password for %p, to run debootstrap: "
    # By name: an argument is for everybody to see.
    keep = "--preserve-env=http_proxy,https_proxy"
    seen = f"--prompt|{asked}|{keep}|debootstrap|bookworm|http://{ACCOUNT}@proxy:3128|"
    assert sudo.read_text() == seen


def test_root_runs_it_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert image.root_command(["debootstrap"], ["http_proxy"]) == ["debootstrap"]


def test_without_sudo_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(RuntimeError, match="debootstrap needs root, and sudo is not installed"):
        image.root_command(["debootstrap"])


def test_images_in_use_are_kept(tmp_path: Path) -> None:
    removed: list[str] = []

    def remove(tag: str) -> None:
        if tag == "phoenix-base:trixie":
            raise APIError("conflict", explanation="image is being used by running container")
        removed.append(tag)

    found = {
        "phoenix-base": [
            SimpleNamespace(tags=["phoenix-base:bookworm"]),
            SimpleNamespace(tags=["phoenix-base:trixie"]),
        ],
        "phoenix-debootstrap": [SimpleNamespace(tags=["phoenix-debootstrap:bookworm"])],
    }
    client = SimpleNamespace(images=SimpleNamespace(list=lambda name: found.get(name, []), remove=remove))
    said: list[str] = []
    image.remove(client, tmp_path, said.append)
    assert removed == ["phoenix-base:bookworm", "phoenix-debootstrap:bookworm"]
    assert said == ["keeping phoenix-base:trixie: image is being used by running container"]


def test_scenarios_containers_carry_their_checkout() -> None:
    for path in (TOP / "molecule").glob("*/molecule.yml"):
        scenario = read_yaml(path)
        for platform in scenario["platforms"]:
            assert platform["name"].endswith("-${PHOENIX_CHECKOUT:-by-hand}"), path
            assert platform["labels"] == {
                containers.CHECKOUT_LABEL: "${MOLECULE_PROJECT_DIRECTORY}",
                "org.phoenix.scenario": path.parent.name,
            }
            assert platform["volumes"] == ["${PHOENIX_APT_CONF:-/dev/null}:/etc/apt/apt.conf.d/90lab:ro"]


@pytest.mark.parametrize(
    ("route", "there"),
    [
        ({"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"}, ""),
        ({"dst": "172.17.0.0/16", "dev": "docker0", "scope": "link"}, ""),
        ({"dst": "10.0.0.0/8", "gateway": "10.8.0.1", "dev": "tun0"}, ""),
        ({"dst": "10.186.0.0/16", "dev": "eth1", "scope": "link"}, "10.186.0.0/16 on eth1"),
        ({"dst": "10.186.0.0/24", "gateway": "10.8.0.1", "dev": "tun0"}, "10.186.0.0/24 on tun0"),
        ({"dst": "10.186.0.7", "dev": "tun0", "scope": "link"}, "10.186.0.7/32 on tun0"),
    ],
)
def test_a_network_that_the_labs_would_hide_is_found(route: dict[str, str], there: str) -> None:
    assert containers.in_the_way(ipaddress.IPv4Network("10.186.0.0/24"), json.dumps([route])) == there
