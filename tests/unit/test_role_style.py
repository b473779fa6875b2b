"""The form that every role shares: the skeleton's files, tags, and how inputs are checked."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.unit.shared import ROLES, TOP, inputs, read_yaml, trusted

YAML = sorted(
    path for top in ("roles", "playbooks", "molecule") for path in (TOP / top).glob("**/*.yml") if not path.is_symlink()
)
SUM = "sha256:" + "0a" * 32
# What the samples of the templates lack.
SOUND: dict[str, dict[str, Any]] = {
    "alerting": {
        "alerting_channels": {"mail": {"type": "email", "host": "h", "port": 25, "sender": "s", "to": ["t"]}},
        "alerting_recipients": {"default": ["mail"]},
    },
    "archive": {"archive_name": "x", "archive_checksum": SUM},
    "backup": {"__backup_dumps": False, "backup_store_host_key": "ssh-ed25519 AAAA"},
    "base": {"ansible_facts": {"env": {"SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22", "SUDO_USER": "operator"}}},
    "deploy": {
        "deploy_version": "1.0.0",
        "deploy_hosts": [{"name": "app1", "address": "192.0.2.21"}],
        "deploy_load_balancers": ["lb1"],
    },
    "firewall": {"__firewall_state": {"stdout_lines": ["SSH_CONNECTION=192.0.2.41 50000 192.0.2.21 22"]}},
    "jenkins": {"jenkins_archive_checksum": SUM, "jenkins_plugin_manager_archive_checksum": SUM},
    "mongodb": {
        **{f"mongodb_{user}_password": "p" for user in ("admin", "app", "backup", "monitor")},
        "mongodb_keyfile_content": "abcdefgh",
    },
    "phoenix": {"phoenix_release_checksum": SUM},
    "release": {"release_source": "app", "release_npm_archive_checksum": SUM},
    "runner": {"runner_project": str(TOP)},
}
BLOCKS = ("block", "rescue", "always")


def name(path: Path) -> str:
    return str(path.relative_to(TOP))


def tasks(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each task of a list, also those within blocks."""
    for entry in entries:
        yield entry
        for part in BLOCKS:
            yield from tasks(entry.get(part) or [])


def included(task: dict[str, Any]) -> str:
    """The task file that a task includes, or an empty text."""
    for action in ("ansible.builtin.import_tasks", "ansible.builtin.include_tasks"):
        if action in task:
            return str(task[action]["file"] if isinstance(task[action], dict) else task[action])
    return ""


def tags(entry: Any) -> set[str]:
    found = entry.get("tags", []) if isinstance(entry, dict) else []
    return {found} if isinstance(found, str) else set(found)


@pytest.mark.parametrize("path", YAML, ids=name)
def test_every_file_begins_with_the_document_mark_and_holds_something(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("---\n")
    assert read_yaml(path), "an empty file: remove it"


@pytest.mark.parametrize("role", ROLES)
def test_a_role_runs_its_preflight_first(role: str) -> None:
    """Before it changes anything, and named as in every other role."""
    folder = TOP / "roles" / role / "tasks"
    first = read_yaml(folder / "main.yml")[0]
    if (folder / "preflight.yml").exists():
        assert (first["name"], included(first)) == ("Check the inputs", "preflight.yml")


@pytest.mark.parametrize("role", ROLES)
def test_a_file_called_service_handles_a_service(role: str) -> None:
    path = TOP / "roles" / role / "tasks" / "service.yml"
    modules = {"units", "ansible.builtin.systemd_service"}
    assert not path.exists() or any(modules & set(task) for task in tasks(read_yaml(path)))


@pytest.mark.parametrize("role", ROLES)
def test_every_task_file_is_used(role: str) -> None:
    """By a task file of the role, or as an entry point that its README names."""
    folder = TOP / "roles" / role
    entry_points = read_yaml(folder / "meta" / "argument_specs.yml")["argument_specs"]
    readme = (folder / "README.md").read_text(encoding="utf-8")
    files = sorted((folder / "tasks").glob("*.yml"))
    used = {included(task) for path in files for task in tasks(read_yaml(path))}
    for path in files:
        documented = path.stem in entry_points or f"`{path.stem}`" in readme or f"tasks_from: {path.stem}" in readme
        assert path.name in used or documented, f"{name(path)} is included by nothing"


@pytest.mark.parametrize("role", ROLES)
def test_roles_carry_no_tags(role: str) -> None:
    """A tag is a role's name, and the playbook gives it."""
    tagged = [
        f"{name(path)}: {task.get('name')}"
        for path in (TOP / "roles" / role / "tasks").glob("*.yml")
        for task in tasks(read_yaml(path))
        if "tags" in task or "apply" in (task.get("ansible.builtin.include_tasks") or ())
    ]
    assert tagged == []


def test_no_folder_is_handed_over_with_what_a_link_in_it_leads_to() -> None:
    """Ansible follows links unless it is not to: whoever owns the folder would be given any file of the host."""
    recursive = [
        task["ansible.builtin.file"]
        for path in (TOP / "roles").glob("*/tasks/*.yml")
        for task in tasks(read_yaml(path))
        if isinstance(task.get("ansible.builtin.file"), dict) and task["ansible.builtin.file"].get("recurse")
    ]
    assert recursive and [one for one in recursive if one.get("follow") is not False] == []


def test_no_playbook_reads_what_is_private_to_a_role() -> None:
    """A name with two underscores may change with the role's tasks; what plays need has one without, in its README."""

    def private(top: str) -> set[str]:
        files = [path for kind in ("*.yml", "*.j2") for path in (TOP / top).rglob(kind) if path.is_file()]
        return {found for path in files for found in re.findall(r"(?<!\w)__[a-z]\w*", path.read_text(encoding="utf-8"))}

    assert private("playbooks") and private("playbooks") & private("roles") == set()


def test_a_role_runs_by_the_tag_of_its_name() -> None:
    for path in (TOP / "playbooks" / "site.yml", TOP / "playbooks" / "build.yml"):
        for play in read_yaml(path):
            if "import_playbook" in play or "ansible.builtin.import_playbook" in play:
                continue
            here = tags(play)
            entries = play.get("roles", [])
            assert here | {tag for entry in entries for tag in tags(entry)} <= {*ROLES, "always"}, play["name"]
            assert here or all(map(tags, entries)), f"{play['name']}: runs whatever tags are given; say so with always"
            for entry in entries:
                wanted = {entry["role"], "always"}
                assert wanted & (here | tags(entry)), f"{play['name']}: --tags {entry['role']} leaves the role out"


def assertions(role: str) -> list[dict[str, Any]]:
    path = TOP / "roles" / role / "tasks" / "preflight.yml"
    return [task for task in tasks(read_yaml(path) or []) if "ansible.builtin.assert" in task]


@pytest.mark.parametrize("role", ROLES)
def test_a_preflight_checks_each_input_with_a_message_of_its_own(role: str) -> None:
    """One form in every role, so that an operator reads the one variable that is wrong, its value, and the fix."""
    for task in assertions(role):
        form = {"that": "item.that", "fail_msg": "{{ item.message }}", "quiet": True}
        assert task["ansible.builtin.assert"] == form, task["name"]
        assert task["loop_control"] == {"label": "{{ item.message | truncate(40) }}"}, task["name"]
        for item in task["loop"]:
            assert set(item) == {"that", "message"}, task["name"]
            assert item["that"].startswith("{{ "), item["that"]
            computed = re.fullmatch(r"\{\{ (\w+)( \| join\('; '\))? \}\}", item["message"])
            # A rule that other checks share brings its own message.
            assert computed or re.search(rf"\b({role}_|inventory_hostname\b|{role}: )", item["message"]), item[
                "message"
            ]
            assert computed or re.search(r"[.:;] [A-Z][^.]*[.\]]?", item["message"]), f"no fix: {item['message']}"


@pytest.mark.usefixtures("ansible_plugins")
@pytest.mark.parametrize("role", [role for role in ROLES if assertions(role)])
def test_a_preflight_accepts_sound_inputs(role: str) -> None:
    """Every message is rendered even when its check holds: an expression that fails would end a sound run."""
    for task in assertions(role):
        variables = inputs(role) | SOUND.get(role, {}) | task.get("vars", {})
        loop = Templar(loader=DataLoader(), variables=trusted(variables)).template(trusted(task["loop"]))
        assert [item["message"] for item in loop if item["that"] is not True] == []
        assert all(isinstance(item["message"], str) for item in loop)
