"""A play refuses, before it changes anything, a host whose package is older than it is: of which plays, and how."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from phoenix import __version__
from phoenix.fleet import package
from tests.harness.plays import PLAYBOOK
from tests.unit.shared import TOP, read_yaml, run_ansible

PLAYBOOKS = TOP / "playbooks"
CHECK = "tasks/same-package.yml"
# Those that go on with an older package, and why.
EXEMPT = {
    **dict.fromkeys(("site", "recover", "join"), "brings the package itself"),
    **dict.fromkeys(
        ("reconcile", "scale", "failover", "certificates"), "control runs it: a host that is behind must not stop it"
    ),
    **dict.fromkeys(("status", "verify", "logs", "alert-test"), "changes nothing"),
    "build": "changes nothing that serves",
    **dict.fromkeys(("switch", "maintenance", "backup"), "for an emergency, by what every package knows since 0.11"),
}
# Parts of other plays, for which those check.
PARTS = ("configure-users", "restart-members", "rotate-database-tls-trust", "rotate-keys-authorize")
ROLE = ("ansible.builtin.include_role", "ansible.builtin.import_role")
KNOWN_LONG = ("state",)


def steps(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for task in tasks:
        yield task
        for part in ("block", "rescue", "always"):
            yield from steps(task.get(part, []))


def own_tasks(path: Path) -> list[dict[str, Any]]:
    """Of each play in order, roles among them, without those that other playbooks have."""
    found: list[dict[str, Any]] = []
    for play in read_yaml(path):
        if "hosts" in play:
            found += steps(play.get("pre_tasks", []))
            found += [
                {"name": f"The role {one['role']}", ROLE[0]: {"name": one["role"]}} for one in play.get("roles", [])
            ]
            found += [task for part in ("tasks", "post_tasks") for task in steps(play.get(part, []))]
    return found


def in_text(value: Any) -> bool:
    return bool(re.search(r"""["']phoenixctl["' ]""", json.dumps(value)))


@functools.cache
def role_asks(name: str) -> bool:
    """Whether any of a role's tasks does; a role that reads and locks alone is known to every package since 0.11."""
    if name in KNOWN_LONG:
        return False
    files = (TOP / "roles" / name / "tasks").glob("*.yml")
    return any(asks(task) for file in files for task in steps(read_yaml(file) or []))


def asks(task: dict[str, Any]) -> bool:
    """Whether it has the hosts' package do something: by itself, or by a role."""
    role = next((task[module]["name"] for module in ROLE if module in task), "")
    own = {name: value for name, value in task.items() if name not in ("block", "rescue", "always")}
    return in_text(own) or "phoenixctl" in task or bool(role and "{{" not in role and role_asks(role))


def checked_at(tasks: list[dict[str, Any]]) -> list[int]:
    return [number for number, task in enumerate(tasks) if task.get("ansible.builtin.include_tasks") == CHECK]


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_only_in_plays_that_check(name: str) -> None:
    found = {path.stem: path for path in PLAYBOOKS.glob("*.yml") if f"import_playbook: {name}.yml" in path.read_text()}
    assert found
    assert all(stem in EXEMPT or checked_at(own_tasks(path)) for stem, path in found.items()), list(found)


@pytest.mark.parametrize(
    "path", [path for path in sorted(PLAYBOOKS.glob("*.yml")) if path.stem not in PARTS], ids=lambda path: path.stem
)
def test_a_play_that_needs_the_hosts_package_refuses_an_older_one_first(path: Path) -> None:
    tasks = own_tasks(path)
    checked = checked_at(tasks)
    asking = [number for number, task in enumerate(tasks) if asks(task)]
    assert not (checked and path.stem in EXEMPT), "exempt, and checked"
    assert path.stem not in EXEMPT or asking, f"{path.stem} needs no exemption"
    if asking and path.stem not in EXEMPT:
        assert checked and checked[0] < asking[0], f"include {CHECK} before {tasks[asking[0]]['name']}"


@pytest.mark.parametrize(
    ("printed", "wanted", "found"),
    [
        (f"phoenixctl {__version__}-0123456789ab\n", "", ""),
        ("phoenixctl 0.9.7-0123456789ab", "", "0.9.7-0123456789ab"),
        ("phoenixctl 0.13.0-0123456789ab", "0.13.0-0123456789ab", ""),  # put back on purpose
        ("phoenixctl 0.9.7-99", "0.13.0-0123456789ab", "0.9.7-99"),
        ("phoenixctl 999.0.0-0123456789ab", "", ""),
        ("skipped, since /usr/local/bin/phoenixctl is not installed", "", ""),
        ("", "", ""),
    ],
)
def test_the_release_decides(printed: str, wanted: str, found: str) -> None:
    assert package.behind(printed, wanted) == found


SSH = """#!/bin/bash
# A host: db1 has the play's version, db2 an older one, db3 none, and lb1 does not answer.
printf '%s\\n' "$*" >> "${0%/*}/log"
case " $* " in
  *" lb1 "*) echo 'No route to host' >&2; exit 255;;
  *" db1 "*) echo 'phoenixctl VERSION-0123456789ab';;
  *" db2 "*) echo 'phoenixctl 0.13.0-ba9876543210';;
  *" db3 "*) echo 'not found' >&2; exit 127;;
esac
"""


@pytest.mark.parametrize(
    ("variables", "refused"),
    [
        ({}, True),
        ({"package_hosts": ["db1", "db3", "lb1"]}, False),
        ({"toolkit_version": "0.13.0-ba9876543210"}, False),
        ({"put_back": {"lb": "0.13.0-ba9876543210"}}, True),
        ({"put_back": {"db": "0.13.0-ba9876543210"}}, False),  # for a group alone
    ],
)
def test_each_host_with_an_older_one_is_named(tmp_path: Path, variables: dict[str, Any], refused: bool) -> None:
    """By a real run of the task file, in which one host does not answer."""
    (tmp_path / "ssh").write_text(SSH.replace("VERSION", __version__))
    (tmp_path / "ssh").chmod(0o755)
    common = {"ansible_connection": "ssh", "ansible_ssh_executable": str(tmp_path / "ssh"), "ansible_become": False}
    groups = {"db": ["db1", "db2", "db3"], "lb": ["lb1"], "control": ["control1"]}

    def own(group: str) -> dict[str, str]:
        version = variables.get("put_back", {}).get(group)
        return {"toolkit_version": version} if version else {}

    inventory = {
        "all": {
            "vars": {**common, "toolkit_version": "", **variables},
            "children": {name: {"hosts": dict.fromkeys(hosts), "vars": own(name)} for name, hosts in groups.items()},
        }
    }
    (tmp_path / "hosts.yml").write_text(json.dumps(inventory))
    check = {"ansible.builtin.include_tasks": str(PLAYBOOKS / CHECK)}
    after = {"ansible.builtin.debug": {"msg": "goes on"}}
    (tmp_path / "play.json").write_text(
        json.dumps([{"hosts": "control", "gather_facts": False, "tasks": [check]},
                    {"hosts": "db", "gather_facts": False, "tasks": [after]}])
    )  # fmt: skip
    done = run_ansible(PLAYBOOK, "-i", tmp_path / "hosts.yml", tmp_path / "play.json")
    assert (done.returncode == 0) is not refused, done.stdout + done.stderr
    assert ("goes on" in done.stdout) is not refused
    said = " ".join(done.stdout.split())
    assert ("db2 has 0.13.0-ba9876543210. Run playbooks/site.yml first" in said) is refused
    assert "lb1" in (tmp_path / "log").read_text(), "it was asked"
