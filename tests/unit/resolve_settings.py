"""What each role of the plays gets for its options: python resolve_settings.py PLAYBOOK[,PLAYBOOK…] INVENTORY…

Run from the top of the project, so that its ansible.cfg counts. Ansible itself loads the plays and resolves the
variables; nothing is run. Prints one object by inventory: by role, by option, every value that arrives (templates
unread), with the play and the host.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.playbook import Playbook
from ansible.playbook.block import Block
from ansible.playbook.role_include import IncludeRole
from ansible.playbook.task import Task
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar
from ansible.vars.manager import VariableManager

from phoenix.fleet.inventory import known_variables
from tests.tools import copies

TOP = Path.cwd()


def tasks_of(blocks: list[Any]) -> Iterator[Task]:
    for entry in blocks:
        if isinstance(entry, Block):
            yield from tasks_of([*entry.block, *entry.rescue, *entry.always])
        else:
            yield entry


def role_tasks(play: Any, variables: VariableManager, loader: DataLoader) -> Iterator[Task]:
    """One task of each role in the play, whether listed, imported or included."""
    seen = set()
    for task in tasks_of(play.compile()):
        found = tasks_of(task.get_block_list(play, variables, loader)[0]) if isinstance(task, IncludeRole) else [task]
        for inner in found:
            key = (inner._role and inner._role.get_name(), task if isinstance(task, IncludeRole) else None)
            if key[0] and key not in seen:
                seen.add(key)
                yield inner


def used(playbooks: list[str], variables: VariableManager, loader: DataLoader) -> Iterator[tuple[str, Any, Task]]:
    """Each role's use in each play, as one task of it."""
    for name in playbooks:
        plays = Playbook.load(str(TOP / "playbooks" / name), variable_manager=variables, loader=loader).get_plays()
        for play in plays:
            for task in role_tasks(play, variables, loader):
                yield name, play, task


def resolve(
    inventory_dir: str, uses: list[tuple[str, Any, Task]], options: dict[str, set[str]], loader: DataLoader
) -> dict[str, Any]:
    inventory = InventoryManager(loader=loader, sources=[inventory_dir])
    variables = VariableManager(loader=loader, inventory=inventory)
    arrived: dict[str, dict[str, list[Any]]] = {}
    for name, play, task in uses:
        role = task._role.get_name()
        pattern = Templar(loader=loader, variables=variables.get_vars(play=play)).template(play.hosts)
        for host in inventory.get_hosts(pattern):
            values = variables.get_vars(play=play, host=host, task=task)
            for part in (role, "playbooks"):
                for option in options.get(part, ()):
                    seen = [values.get(option), f"{name}: {play.name}", host.name]
                    arrived.setdefault(part, {}).setdefault(option, []).append(seen)
    return arrived


def main(playbooks: str, *inventories: str) -> None:
    init_plugin_loader()
    copies.patch()
    loader = DataLoader()
    options = {role: set(listed) for role, listed in known_variables(TOP / "roles", TOP / "playbooks").items()}
    first = InventoryManager(loader=loader, sources=[inventories[0]])
    uses = list(used(playbooks.split(","), VariableManager(loader=loader, inventory=first), loader))
    loader.set_basedir(str(TOP / "playbooks"))  # as ansible-playbook does before it runs a play
    json.dump({path: resolve(path, uses, options, loader) for path in inventories}, sys.stdout, default=str)


if __name__ == "__main__":
    main(*sys.argv[1:])
