#!/usr/bin/python
"""Have the members that are left of a MongoDB replica set serve, after a majority is lost for good."""

from __future__ import annotations

DOCUMENTATION = r"""
module: replica_set_shrink
short_description: Continue a MongoDB replica set without its lost majority
description:
  - Run it on one member that is left. It refuses while there is a primary, while a majority answers, while a member
    that is named as lost answers, and while one that is not named does not.
  - What a majority of lost members alone had acknowledged is gone.
  - Check mode refuses as a real run, and changes nothing. Needs Phoenix's package on the host (role C(toolkit)).
options:
  port: {description: Port of this host's member., type: int, default: 27017}
  ca: {description: Path of the CAs by which the connection is by TLS; empty without., type: str, default: ""}
  login_user: {description: User with the role clusterAdmin or root., type: str, required: true}
  login_password: {description: Its password., type: str, required: true}
  lost: {description: The lost members (address:port)., type: list, elements: str, required: true}
author: [Phoenix]
"""
EXAMPLES = r"""
- name: Go on without two of three
  replica_set_shrink:
    login_user: admin
    login_password: "{{ mongodb_admin_password }}"
    lost: ["192.0.2.32:27017", "192.0.2.33:27017"]
  no_log: true
"""
RETURN = r""" """

from ansible.module_utils import phoenix_member
from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **phoenix_member.LOGIN,
            "lost": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    options = module.params
    phoenix_member.require(module)
    from pymongo.errors import PyMongoError  # noqa: PLC0415 - only the managed host has them

    from phoenix.database import reconfigure  # noqa: PLC0415

    try:
        client = phoenix_member.connect_as_login(module)
        reconfigure.shrink(client, options["lost"], check=module.check_mode, **phoenix_member.trusting(module))
    except (reconfigure.Refused, PyMongoError) as error:
        module.fail_json(msg=f"The replica set was not changed: {error}.")
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
