#!/usr/bin/python
"""Bring a MongoDB replica set's own configuration to the wanted one."""

from __future__ import annotations

DOCUMENTATION = r"""
module: replica_set_config
short_description: Members, votes, priorities and settings of a MongoDB replica set
description:
  - Changes one voting member in each step, as the server demands, additions first. Run it on the primary.
  - Check mode reports the steps. If the server refuses one, those before it stay and the next run continues there.
  - Needs Phoenix's package on the host (role C(toolkit)).
options:
  port: {description: Port of this host's member., type: int, default: 27017}
  ca: {description: Path of the CAs by which the connection is by TLS; empty without., type: str, default: ""}
  login_user: {description: User with the role clusterAdmin or root., type: str, required: true}
  login_password: {description: Its password., type: str, required: true}
  members:
    description: The members, each with C(host) (address:port), C(priority) and C(votes).
    type: list
    elements: dict
    required: true
  former:
    description: By a member's C(host), what the set may know it as from before; it is renamed, and goes on meanwhile.
    type: dict
    default: {}
  settings: {description: Values of replSetConfig's C(settings)., type: dict, default: {}}
author: [Phoenix]
"""
EXAMPLES = r"""
- name: Fail over within seconds
  replica_set_config:
    login_user: admin
    login_password: "{{ mongodb_admin_password }}"
    members: [{host: "192.0.2.31:27017", priority: 2, votes: 1}]
    settings: {electionTimeoutMillis: 2000}
  no_log: true
"""
RETURN = r"""
steps: {description: The changes made (or, in check mode, needed)., type: list, returned: always}
"""

from ansible.module_utils import phoenix_member
from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **phoenix_member.LOGIN,
            "members": {"type": "list", "elements": "dict", "required": True},
            "former": {"type": "dict", "default": {}},
            "settings": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    options = module.params
    phoenix_member.require(module)
    from pymongo.errors import PyMongoError  # noqa: PLC0415 - only the managed host has them

    from phoenix.database import reconfigure  # noqa: PLC0415

    try:
        client = phoenix_member.connect_as_login(module)
        members = [
            {"host": m["host"], "priority": float(m["priority"]), "votes": int(m["votes"])} for m in options["members"]
        ]
        steps = reconfigure.reconfigure(
            client, members, options["settings"], options["former"], check=module.check_mode
        )
    except (reconfigure.Refused, PyMongoError) as error:
        module.fail_json(msg=f"The replica set refused a change of its configuration: {error}")
    module.exit_json(changed=bool(steps), steps=steps)


if __name__ == "__main__":
    main()
