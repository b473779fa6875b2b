"""What a task of a play would see: python evaluate.py PLAYBOOKS INVENTORY, {host: expression} on standard input.

Run from the top of the project, so that its ansible.cfg counts. Ansible itself loads the inventory and resolves the
variables; nothing is run, as a process for each host and its output would cost more than all the rest.
"""

import json
import sys

from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play import Play
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager

# As the play has read them.
STATE = {"state_capacity": 2, "state_drained": {}, "state_maintenance": False}


def main(playbooks: str, source: str) -> None:
    wanted: dict[str, str] = json.load(sys.stdin)
    init_plugin_loader()
    loader = DataLoader()
    loader.set_basedir(playbooks)  # as ansible-playbook does before it runs a play
    inventory = InventoryManager(loader=loader, sources=[source])
    variables = VariableManager(loader=loader, inventory=inventory)
    variables._extra_vars = STATE
    HostVars(inventory=inventory, variable_manager=variables, loader=loader)  # which the variables keep
    play = Play.load(
        {"hosts": list(wanted), "gather_facts": False, "tasks": [{"ansible.builtin.debug": {}}]}, variables, loader
    )
    ((task, *_), *_) = play.get_tasks()
    values = {}
    for host, expression in wanted.items():
        seen = variables.get_vars(play=play, host=inventory.get_host(host), task=task)
        template = trust_as_template(f"{{{{ {expression} }}}}")
        values[host] = Templar(loader=loader, variables=seen).template(template)
    json.dump(values, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
