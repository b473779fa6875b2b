"""What a host's key is, and what it may do at the store."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment

from phoenix.backup import frames, store
from phoenix.backup.serve import serve
from phoenix.fleet import wiring
from tests.unit.backup.builders import config
from tests.unit.shared import TOP

GOOD = ["ssh-ed25519 AAAAC3Nza+/= db1", "ssh-ed25519 AAAAC3Nza", "ssh-ed25519 AAAA db-1.example.org", ""]
BAD = [
    "ssh-ed25519 AAAA db1\nssh-ed25519 BBBB",
    "ssh-ed25519 AAAA db1\n",
    'command="/bin/sh" ssh-ed25519 AAAA',
    "ssh-rsa AAAA db1",
    "ssh-ed25519 AAAA db1 # and more",
    "ssh-ed25519",
]


def hosts(key: str) -> dict[str, dict[str, Any]]:
    return {
        "db1": {"phoenix_address": "192.0.2.31", "backup_public_key": key},
        "app1": {"phoenix_address": "192.0.2.21"},
    }


@pytest.mark.parametrize("key", GOOD)
def test_one_key_is_wired(key: str) -> None:
    found = wiring.senders(["db1", "app1"], hosts(key), ["192.0.2.31"])
    assert [(one["host"], one["key"], one["dumps"]) for one in found] == [("db1", key, True), ("app1", "", False)]


@pytest.mark.parametrize("key", BAD)
def test_what_is_more_or_less_than_one_key_is_refused_by_the_hosts_name(key: str) -> None:
    with pytest.raises(ValueError, match="The backup key of db1 is not one line"):
        wiring.senders(["db1", "app1"], hosts(key), ["192.0.2.31"])


def test_the_role_refuses_the_same_keys() -> None:
    """The role takes its senders from anybody, and checks them itself."""
    tasks = yaml.safe_load((TOP / "roles/backup/tasks/store.yml").read_text(encoding="utf-8"))
    (task,) = [one for one in tasks if one["name"].startswith("Check that every sender's key is one key")]
    condition = task["ansible.builtin.assert"]["that"]
    assert wiring.PUBLIC_KEY.pattern in condition.replace("\\\\", "\\"), condition


def test_only_members_send_dumps() -> None:
    template = (TOP / "roles/backup/templates/authorized_keys.j2").read_text(encoding="utf-8").split("\n", 1)[1]
    senders = wiring.senders(["db1", "app1"], hosts(GOOD[0]), ["192.0.2.31"])
    senders[1]["key"] = "ssh-ed25519 BBBB app1"
    lines = Environment(autoescape=True).from_string(template).render(backup_senders=senders).splitlines()
    assert [("--dumps" in line, line.rsplit(" ", 1)[1]) for line in lines if line.startswith("restrict")] == [
        (True, "db1"),
        (False, "app1"),
    ]


@pytest.mark.parametrize(
    "command", ['dump \'{"kind": "nightly", "ready": true}\'', "await 20261124T010000Z-db2", "prove"]
)
def test_other_hosts_add_logs_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert serve(store.Store(config(tmp_path)), "app1", command) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"answer": "refused", "reason": "this key may only add logs"}


def test_a_sender_that_only_shows_signs_of_life_is_given_up() -> None:
    read, write = os.pipe()
    with os.fdopen(write, "wb", buffering=0) as stream:
        lively = frames.Sender(stream, interval=0.02)
        with pytest.raises(frames.Broken, match="longer than"):
            next(frames.receive(read, silence=30, limit=0.3))
        lively.close()


def with_host_key(key: str) -> dict[str, dict[str, Any]]:
    facts = {"ansible_facts": {"ssh_host_key_ed25519_public": key}}
    return {"app1": {"phoenix_address": "192.0.2.21", **facts}, "db1": {"phoenix_address": "192.0.2.31"}}


def test_the_host_keys_that_were_read_are_wired_by_address() -> None:
    assert wiring.host_keys(["app1", "db1"], with_host_key("AAAAC3Nza+/=")) == {"192.0.2.21": "AAAAC3Nza+/="}


@pytest.mark.parametrize("key", ["AAAA\n192.0.2.31 ssh-ed25519 BBBB", "AAAA\n", "AAAA app1", "@cert-authority * AAAA"])
def test_a_host_names_no_other_host_by_its_key(key: str) -> None:
    """Control's known_hosts takes it as it is."""
    with pytest.raises(ValueError, match="The SSH host key of app1 is not one ed25519 key"):
        wiring.host_keys(["app1", "db1"], with_host_key(key))
