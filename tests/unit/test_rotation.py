"""What the plays that replace secrets make sure of before they change anything."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.unit.shared import TOP, read_yaml, trusted

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
    (play,) = read_yaml(PLAYBOOKS / "rotate-operator-key.yml")
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
