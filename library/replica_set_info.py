#!/usr/bin/python
"""Report the state of a MongoDB replica set, seen from this host's member."""

from __future__ import annotations

DOCUMENTATION = r"""
module: replica_set_info
short_description: State of a MongoDB replica set, seen from this host's member
description:
  - Queries every member without a login, and waits until the set reaches the goal.
  - Works in check mode. Without MongoDB's driver, as in a dry run on a bare host, every member counts as silent.
  - Needs Phoenix's package on the host (role C(toolkit)).
options:
  address: {description: This member's own address., type: str, required: true}
  port: {description: Port of every member., type: int, default: 27017}
  ca: {description: Path of the CAs by which connections are by TLS; empty without., type: str, default: ""}
  members: {description: Addresses of all members., type: list, elements: str, required: true}
  goal:
    description: >-
      Goal to wait for. C(answer): every member that a set needs answers. C(primary): there is one. C(member): this
      host's member is in the set. C(settled): every member is in the set and has caught up.
    type: str
    choices: [answer, primary, member, settled]
    default: answer
  timeout: {description: Seconds to wait., type: int, default: 0}
author: [Phoenix]
"""
EXAMPLES = r"""
- name: Wait for a primary
  replica_set_info:
    address: 192.0.2.31
    members: [192.0.2.31, 192.0.2.32, 192.0.2.33]
    goal: primary
    timeout: 60
"""
RETURN = r"""
state:
  description: >-
    silent (addresses that do not answer), fresh (this member was never part of a set), initiated (some member is in
    one), primary (its address, or empty), no_users (this primary has no user yet), member (this member is in the set),
    behind (addresses that answer and have not caught up).
  type: dict
  returned: always
"""

from dataclasses import asdict

from ansible.module_utils import phoenix_member
from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            **phoenix_member.CONNECTION,
            "members": {"type": "list", "elements": "str", "required": True},
            "goal": {"type": "str", "choices": ["answer", "primary", "member", "settled"], "default": "answer"},
            "timeout": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    options = module.params
    seconds = 0 if module.check_mode else options["timeout"]
    lacking = phoenix_member.lacking()
    if lacking and not module.check_mode:
        module.fail_json(msg=lacking)
    if lacking:
        state = {"silent": options["members"], "fresh": True, "initiated": False, "primary": "", "no_users": False}
        state |= {"member": False, "behind": []}
    else:
        from phoenix.database import replica_set  # noqa: PLC0415 - the package is on the managed host

        state = asdict(
            replica_set.wait(
                options["address"],
                options["port"],
                options["members"],
                options["goal"],
                seconds,
                **phoenix_member.trusting(module),
            )
        )
    module.exit_json(changed=False, state=state)


if __name__ == "__main__":
    main()
