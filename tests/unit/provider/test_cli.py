"""What a play asks of a host's provider: once created, its key known before, and nothing in a rehearsal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from phoenix.provider import cli
from phoenix.provider.contract import Conflict, Invalid, Unavailable
from tests.harness.provider import AUTHORIZED
from tests.unit.shared import TOP

ADDRESS = "192.0.2.9"


@pytest.fixture
def order(tmp_path: Path) -> dict[str, Any]:
    return {
        "name": "app9",
        "provider": "exec",
        "fleet": "acme",
        "settings": {
            "command": [sys.executable, str(TOP / "tests/fixtures/provider")],
            "file": str(tmp_path / "hosts.json"),
        },
        "known_hosts": str(tmp_path / "ssh" / "known_hosts"),
        "address": ADDRESS,
        "user": "debian",
        "authorized_keys": AUTHORIZED,
        "image": "debian-12",
    }


def known(order: dict[str, Any]) -> list[str]:
    path = Path(order["known_hosts"])
    return path.read_text().splitlines() if path.exists() else []


def test_created_once_with_a_key_that_is_known(order: dict[str, Any]) -> None:
    made = cli.ensure(cli.order(order))
    assert made["changed"]
    assert known(order) == [f"{ADDRESS} {made['host']['host_key']}"]
    assert cli.ensure(cli.order(order)) == {"changed": False, "host": made["host"]}


def test_the_key_is_known_before_the_host_is_there(order: dict[str, Any]) -> None:
    """Killed while the provider works: the host's key is on this machine already."""
    seen = Path(order["settings"]["file"]).with_name("seen")
    program = (
        "import json, os, shutil, signal, sys\n"
        "if json.load(sys.stdin)['action'] == 'list': print(json.dumps({'hosts': []})); sys.exit()\n"
        f"shutil.copy({order['known_hosts']!r}, {str(seen)!r})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    order["settings"]["command"] = [sys.executable, "-c", program]
    with pytest.raises(Unavailable):
        cli.ensure(cli.order(order))
    assert seen.read_text().splitlines() == known(order)
    assert len(known(order)) == 1


def test_an_address_that_had_another_host_gets_the_new_key(order: dict[str, Any]) -> None:
    path = Path(order["known_hosts"])
    path.parent.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path.with_name("old"))], check=True)
    old = " ".join(path.with_name("old.pub").read_text().split()[:2])
    path.write_text(f"{ADDRESS} {old}\n192.0.2.8 {old}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(path)], check=True, capture_output=True)  # names hidden
    made = cli.ensure(cli.order(order))
    found = subprocess.run(["ssh-keygen", "-F", ADDRESS, "-f", str(path)], capture_output=True, text=True, check=True)
    keys = [line.split()[1:] for line in found.stdout.splitlines() if not line.startswith("#")]
    assert keys == [made["host"]["host_key"].split()]
    assert len(known(order)) == 2


def test_a_host_that_is_stopped_is_started_with_the_key_that_it_has(order: dict[str, Any]) -> None:
    made = cli.ensure(cli.order(order))["host"]
    path = Path(order["settings"]["file"])
    for state in ("stopped", "creating"):
        path.write_text(path.read_text().replace('"running"', f'"{state}"'))
        assert cli.ensure(cli.order({**order, "check": True}))["changed"]
        assert cli.ensure(cli.order(order)) == {"changed": True, "host": made}
        assert known(order) == [f"{ADDRESS} {made['host_key']}"]
    assert not cli.ensure(cli.order(order))["changed"]


def test_another_port_is_another_name(order: dict[str, Any]) -> None:
    made = cli.ensure(cli.order({**order, "port": 2222}))
    assert known(order) == [f"[{ADDRESS}]:2222 {made['host']['host_key']}"]


def test_a_rehearsal_changes_nothing(order: dict[str, Any]) -> None:
    rehearsal = cli.order({**order, "check": True})
    assert cli.ensure(rehearsal) == {"changed": True, "host": None}
    assert cli.find(rehearsal) is None
    assert known(order) == []
    made = cli.ensure(cli.order(order))["host"]
    assert cli.ensure(rehearsal) == {"changed": False, "host": made}
    assert cli.remove(rehearsal) == {"changed": True}
    assert cli.find(rehearsal) is not None


def test_removed_once_and_its_key_forgotten(order: dict[str, Any]) -> None:
    cli.ensure(cli.order(order))
    assert cli.remove(cli.order(order)) == {"changed": True}
    assert known(order) == []
    assert cli.remove(cli.order(order)) == {"changed": False}


def test_another_address_than_the_inventorys_is_an_error(order: dict[str, Any]) -> None:
    cli.ensure(cli.order(order))
    with pytest.raises(Invalid, match=r"192\.0\.2\.9 at its provider, and 192\.0\.2\.10 in the inventory"):
        cli.ensure(cli.order({**order, "address": "192.0.2.10"}))


def test_a_name_that_is_taken(order: dict[str, Any]) -> None:
    cli.ensure(cli.order(order))
    with pytest.raises(Conflict):
        cli.ensure(cli.order({**order, "fleet": "other"}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"provider": "aws"}, "no provider is called 'aws': use docker, libvirt, exec"),
        ({"settings": {}}, "command = None: give the provider's command"),
        ({"settings": {"command": "a string"}}, "command = 'a string': give the provider's command"),
        ({"colour": "red"}, "not an order: .*colour"),
    ],
)
def test_a_wrong_order(order: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        cli.ensure(cli.order({**order, **change}))


def test_as_a_command(order: dict[str, Any]) -> None:
    def run(verb: str, text: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "phoenix", "provider", verb],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(TOP / "src")},
        )
        return done.returncode, done.stdout, done.stderr

    status, output, _ = run("ensure", json.dumps(order))
    assert (status, json.loads(output)["changed"]) == (0, True)
    status, output, _ = run("find", json.dumps(order))
    assert (status, json.loads(output)["host"]["name"]) == (0, "app9")
    status, output, error = run("ensure", json.dumps({**order, "fleet": "other"}))
    assert (status, output) == (1, "")
    assert error == "conflict: app9 is somebody else's\n"
    status, _, error = run("ensure", "no JSON")
    assert status == 1
    assert error.startswith("failed: ")
    assert run("dance", "")[0] == cli.USAGE
