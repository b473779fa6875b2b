"""What a play sets, or is given, passes for no misspelt setting where the same run checks the inventory later."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from phoenix.fleet.inventory import known_variables, shared_variables
from tests.unit.shared import TOP, read_yaml

PLAYBOOKS, ROLES = TOP / "playbooks", TOP / "roles"
CHECKING = {PLAYBOOKS / name for name in ("site.yml", "deploy.yml", "provision.yml")}
# Neither filters, nor units and files.
NAME = re.compile(r"(?<![|/.\w-])(?<!\| )phoenix_[a-z_]+\b(?![-.@(])")


@pytest.fixture(scope="module")
def accepted() -> set[str]:
    """The names that the check knows."""
    specs = known_variables(ROLES, PLAYBOOKS)
    late = read_yaml(ROLES / "preflight" / "defaults" / "main.yml")["preflight_late_variables"]
    return {*late, *shared_variables(PLAYBOOKS), *(option for options in specs.values() for option in options)}


def facts(content: Any) -> Iterator[str]:
    """Yield the names that tasks set, wherever they are in what a file holds."""
    if isinstance(content, dict):
        yield from content.get("ansible.builtin.set_fact") or {}
        if "register" in content:
            yield content["register"]
    for each in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from facts(each)


def imports(path: Path) -> Iterator[Path]:
    """Yield the playbooks that a playbook imports, and those that these import."""
    for play in read_yaml(path):
        if "import_playbook" in play:
            yield (found := path.with_name(play["import_playbook"]))
            yield from imports(found)


def test_the_recorded_state(accepted: set[str]) -> None:
    """recover.yml reads it before site.yml checks the inventory, and a fact is a variable of its host."""
    files = [PLAYBOOKS / "tasks" / "read-state.yml", *(ROLES / "state" / "tasks").glob("*.yml")]
    found = {name for path in files for name in facts(read_yaml(path)) if name.startswith("state_")}
    assert {"state_capacity", "state_away", "state_lock_token"} <= found
    assert found - accepted == set()


def test_what_is_given_on_the_command_line(accepted: set[str]) -> None:
    """As -e phoenix_host=db2 to replace-host.yml, which comes to site.yml."""
    files = [path for path in PLAYBOOKS.glob("*.yml") if CHECKING & {*imports(path)}]
    assert {"replace-host.yml", "add-host.yml", "recover.yml"} <= {path.name for path in files}
    # Neither comments, nor what is handed to an imported one.
    lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    used = {name for line in lines if not re.match(r"\s*(#|phoenix_\w+:)", line) for name in NAME.findall(line)}
    assert {"phoenix_host", "phoenix_recover"} <= used
    assert used - accepted == set()
