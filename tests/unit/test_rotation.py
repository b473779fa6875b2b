"""What the plays that replace secrets make sure of before they change anything."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.harness.plays import PLAYBOOK
from tests.unit.shared import TOP, inputs, read_yaml, run_ansible, trusted

pytestmark = pytest.mark.usefixtures("ansible_plugins")
PLAYBOOKS = TOP / "playbooks"


def named(tasks: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (task,) = (task for task in tasks if task["name"] == name)
    return task


def value(text: Any, variables: dict[str, Any]) -> Any:
    return Templar(loader=DataLoader(), variables=trusted(variables)).template(trusted(text))


# --- the operator's key


@pytest.mark.parametrize(
    ("configured", "others"),
    [("", []), ("IdentityFile ~/.ssh/present", ["~/.ssh/present"]), ("IdentityFile ~/.ssh/new", ["~/.ssh/new"])],
)
def test_the_operators_key_is_tried_alone_or_not_at_all(tmp_path: Path, configured: str, others: list[str]) -> None:
    """With the present key in ssh's configuration every trial of the new one succeeds, whether it is let in or not."""
    _, play = read_yaml(PLAYBOOKS / "rotate-operator-key.yml")
    tasks = play["tasks"]
    names = [task["name"] for task in tasks]
    check = named(tasks, "Check that it is the only one")
    assert names.index(check["name"]) < names.index("Check whether the new key is accepted already")
    configuration = tmp_path / "config"
    configuration.write_text(f"Host lb1\n  {configured}\n")
    variables = {
        "rotate_alone": play["vars"]["rotate_alone"],
        "rotate_new": str(tmp_path / "new key"),
        "ansible_user": "debian",
        "ansible_ssh_common_args": f"-F {configuration}",
        "inventory_hostname": "lb1",
    }
    command = value(named(tasks, "Read which keys are offered with it")["ansible.builtin.command"]["cmd"], variables)
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True)
    variables |= {"__rotate_offered": {"stdout_lines": done.stdout.splitlines()}, **check["vars"]}
    assert value("{{ __rotate_others }}", variables) == others
    assert value("{{ " + check["ansible.builtin.assert"]["that"] + " }}", variables) is (others == [])


SSH = """#!/bin/bash
# A host that lets one key in: the command runs here.
cd "${0%/*}" || exit
for word; do
  case $word in IdentityFile=*) key=${word#IdentityFile=}; key=${key//\\"/};; esac
done
printf '%s\\n' "${key##*/}" >> log
grep -qxF "${key##*/}" accepted || { echo 'Permission denied (publickey).' >&2; exit 255; }
case ${!#} in *phoenixctl*) exec cat state.json;; esac
exec sh -c "${!#}"
"""


@pytest.mark.parametrize(
    ("accepted", "made_with", "state", "refusal"),
    [
        ("present", ["new"], "serving", ""),
        ("new", ["new"], "draining", ""),  # a run that was cut had come as far as control
        ("present", ["present", "new"], "serving", "would accept the former key"),
        ("present", ["new"], "booting", "extra-7 may have been begun with the former key"),
    ],
)
def test_hosts_on_demand_get_the_operators_key_as_well(
    tmp_path: Path, accepted: str, made_with: list[str], state: str, refusal: str
) -> None:
    """Control has their list, and is reached by the key that it accepts."""
    play, replace = read_yaml(PLAYBOOKS / "rotate-operator-key.yml")
    assert replace["hosts"] == "all", "those of the list too"
    for name in ("present", "new"):
        (tmp_path / name).touch()
        (tmp_path / f"{name}.pub").write_text(f"ssh-ed25519 {name.upper()} me@here\n")
    files = {
        "demand.json": {"authorized_keys": [f"ssh-ed25519 {name.upper()}" for name in made_with]},
        "status.json": {"hosts": [{"name": "extra-7", "state": state}]},
        "state.json": {"demand": [{"name": "extra-7", "address": "192.0.2.7", "key": ""}], "lost": []},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "accepted").write_text(f"{accepted}\n")
    (tmp_path / "ssh").write_text(SSH)
    (tmp_path / "ssh").chmod(0o755)
    add = named(play["tasks"], "Add them")["block"][1]["block"]
    add[0]["loop"] = [str(tmp_path / "demand.json"), str(tmp_path / "status.json")]
    (tmp_path / "play.json").write_text(
        json.dumps([play, {"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.debug": {}}]}])
    )
    variables = {
        "ansible_become": False,
        "ansible_connection": "ssh",
        "ansible_ssh_executable": str(tmp_path / "ssh"),
        "ansible_ssh_private_key_file": str(tmp_path / "present"),
        "phoenix_demand_hosts": 3,
        "phoenix_operator_key": str(tmp_path / "new"),
    }
    inventory = {"all": {"vars": variables, "children": {"control": {"hosts": {"control1": {}}}}}}
    (tmp_path / "hosts.yml").write_text(json.dumps(inventory))
    done = run_ansible(PLAYBOOK, "-i", tmp_path / "hosts.yml", tmp_path / "play.json")
    assert (done.returncode == 0) is (refusal == ""), done.stdout + done.stderr
    assert refusal in " ".join(done.stdout.split())
    assert ("ok: [extra-7]" in done.stdout) is (refusal == ""), "a refusal ends the run"
    assert set((tmp_path / "log").read_text().split()) == {"new", accepted}


# --- certificates

OTHER = {"names": ["*.shop.example.org", "shop.example.org"], "certificate": "other chain", "key": "other key"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, []),
        ({"nginx_tls_certificate": "chain", "nginx_tls_key": "key"}, [["", "chain"]]),
        ({"nginx_certificates": [OTHER]}, [["*.shop.example.org", "other chain"]]),
        (
            {"nginx_tls_certificate": "c", "nginx_certificates": [OTHER]},
            [["", "c"], ["*.shop.example.org", "other chain"]],
        ),
    ],
)
def test_every_certificate_of_the_inventory_is_put_in_place(given: dict[str, Any], expected: list[Any]) -> None:
    """Those of other names too where the default one is generated, or by ACME."""
    variables = {"nginx_tls_enabled": True, **read_yaml(PLAYBOOKS / "rotate-certificate.yml")[0]["vars"], **given}
    assert value("{{ rotate_certificates | map('list') | list }}", variables) == expected
    assert value("{{ rotate_certificate }}", variables) is bool(expected)
    assert value("{{ rotate_certificate }}", variables | {"nginx_tls_enabled": False}) is False


def test_each_is_asked_for_by_a_name_of_its_own() -> None:
    """By the site's first name, a certificate that only this name has would pass for the default one."""
    (block,) = read_yaml(PLAYBOOKS / "rotate-certificate.yml")[1]["tasks"]
    task = named(block["block"], "Read what is served, and what the inventory has")

    def asked(name: str) -> str:
        variables = {"item": [name, "chain"], "nginx_https_port": 443}
        (line,) = (
            line for line in value(task["ansible.builtin.shell"]["cmd"], variables).splitlines() if "s_client" in line
        )
        return str(line).partition("127.0.0.1:443 ")[2].rstrip(" \\")

    assert asked("") == "-noservername"
    assert asked("*.shop.example.org") == "-servername any.shop.example.org"
    check = named(block["block"], "Check that it is served")
    results = [{"failed": True, "item": ["", "chain"]}, {"failed": False, "item": ["a.example", "chain"]}]
    variables = {"__rotate_served": {"results": results}, **check["vars"]}
    assert value("{{ __rotate_former }}", variables) == ["the default one"]
    results[1]["failed"] = True
    assert value("{{ __rotate_former }}", variables) == ["the default one", "a.example"]
    assert value("{{ __rotate_former }}", {"__rotate_served": {"skipped": True}, **check["vars"]}) == []


def test_certificates_are_checked_before_one_is_written(tmp_path: Path) -> None:
    """nginx goes on with what it has read, and would not start again."""
    check, *others = read_yaml(TOP / "roles" / "nginx" / "tasks" / "certificate.yml")
    assert "ansible.builtin.assert" in check and others

    def refusals(**given: Any) -> Any:
        return value("{{ __nginx_refusals }}", inputs("nginx") | given | check["vars"])

    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for name in "ab":
        paths = ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.crt")]
        alternative = ["-subj", "/CN=x", "-addext", "subjectAltName=DNS:x.example"]
        subprocess.run([*command, *paths, *alternative], check=True, capture_output=True)
    chain, key, other = ((tmp_path / name).read_text() for name in ("a.crt", "a.key", "b.key"))
    assert refusals() == []
    assert refusals(nginx_tls_certificate=chain, nginx_tls_key=key) == []
    assert "does not belong" in refusals(nginx_tls_certificate=chain, nginx_tls_key=other)[0]
    assert "nginx_tls_key" in refusals(nginx_tls_certificate=chain, nginx_tls_key="")[0]
    pair = {"names": ["x.example"], "certificate": chain}
    assert refusals(nginx_certificates=[{**pair, "key": key}]) == []
    assert "nginx_certificates[0].key" in refusals(nginx_certificates=[{**pair, "key": other}])[0]


# --- what builds read


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["npmrc", "deploy-key", "deploy-known-hosts"]),
        ({"release_npmrc": "registry=https://registry.example"}, ["deploy-key", "deploy-known-hosts"]),
        ({"release_deploy_key": "key", "release_known_hosts": "git.example ssh-ed25519 A"}, ["npmrc"]),
    ],
)
def test_an_emptied_credential_leaves_the_build_host(given: dict[str, str], expected: list[str], known: bool) -> None:
    """Unless the play is one that control runs itself: its inventory has no secrets, whatever the fleet has."""
    task = read_yaml(TOP / "roles" / "release" / "tasks" / "install.yml")[-1]
    assert task["ansible.builtin.file"] == {"path": "{{ item }}", "state": "absent"} and "when" not in task
    found = value(task["loop"], inputs("release") | given | {"release_secrets_known": known})
    assert found == ([f"/etc/phoenix/{name}" for name in expected] if known else [])


# --- the database


def test_a_key_is_judged_on_every_member_before_it_is_written_on_one() -> None:
    (play,) = (
        play
        for play in read_yaml(PLAYBOOKS / "rotate-database.yml")
        if play["name"] == "Add the new key beside the present one on every member"
    )
    names = [task["name"] for task in play["tasks"]]
    check = named(play["tasks"], "Check that the new key may be put beside it")
    assert names.index(check["name"]) < names.index("Add the new key") and play["any_errors_fatal"]
    present = {"content": base64.b64encode(b"- a2V5b2xk\n- bmV3a2V5\n").decode()}
    variables = {"rotate_key": present, "inventory_hostname": "db1", **check["vars"]}

    def unfit(key: str) -> str:
        return str(value("{{ __rotate_unfit }}", {**variables, "mongodb_keyfile_content": key}))

    assert unfit("bmV3a2V5") == ""
    assert "db1 has two keys" in unfit("dGhpcmQ=")


def test_the_admins_password_comes_first() -> None:
    """A primary is stepped down by it before its restart, and the other users are changed by it."""
    plays = read_yaml(PLAYBOOKS / "rotate-database.yml")
    of_role = [
        task["ansible.builtin.include_role"]["tasks_from"]
        for play in plays
        for task in play.get("tasks", [])
        if task.get("ansible.builtin.include_role", {}).get("name") == "mongodb"
    ]
    assert of_role[0] == "users-admin"
    names = [play.get("import_playbook", play["name"]) for play in plays]
    assert names.index("Change the admin's password") < names.index("restart-members.yml")


@pytest.mark.parametrize("play", ["rotate-database", "rotate-metrics", "rotate-keys"])
def test_hosts_on_demand_take_part(play: str) -> None:
    """No inventory has them: left out, their instances would be refused once a password is changed."""
    first, *others = read_yaml(PLAYBOOKS / f"{play}.yml")
    assert first["import_playbook"] == "demand-hosts.yml" and others


@pytest.mark.parametrize(
    ("given", "mode", "internal", "said"),
    [
        ("", "disabled", False, ""),
        ("all", "disabled", False, ""),
        ("runner", "disabled", False, ""),
        ("runner,database-ca", "disabled", False, "phoenix_rotate = runner,database-ca, and mongodb_tls = disabled"),
        ("database-ca,database-certificates", "disabled", False, "Leave database-ca and database-certificates out"),
        ("database-certificates", "requireTLS", False, "mongodb_tls_certificate is your own"),
        ("database-ca", "allowTLS", True, ""),
    ],
)
def test_certificates_that_the_fleet_does_not_issue_are_refused_by_name(
    given: str, mode: str, internal: bool, said: str
) -> None:
    """Before anything is changed, by either play; without a name they are left out, and the play says so."""
    first = read_yaml(PLAYBOOKS / "rotate-secrets.yml")[0]
    own = read_yaml(PLAYBOOKS / "rotate-database-tls.yml")[1]
    assert [play["tasks"][0]["ansible.builtin.include_tasks"] for play in (first, own)] == [
        "tasks/refuse-rotation.yml"
    ] * 2
    (task,) = read_yaml(PLAYBOOKS / "tasks" / "refuse-rotation.yml")
    known = {"mongodb_tls": mode, "mongodb_tls_internal": internal, **({"phoenix_rotate": given} if given else {})}
    variables = {**known, **task["vars"]}
    refused = all(value("{{ " + condition + " }}", variables) for condition in task["when"])
    assert refused is bool(said) and said in (value(task["ansible.builtin.fail"]["msg"], variables) if refused else "")
    report = named(own["tasks"], "Report that there is nothing to replace")
    assert value("{{ " + report["when"] + " }}", known) is not internal
    assert "are left out" in value(report["ansible.builtin.debug"]["msg"], known)
