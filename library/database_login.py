#!/usr/bin/python
"""Check whether a user of this host's MongoDB member may log in with a password."""

from __future__ import annotations

DOCUMENTATION = r"""
module: database_login
short_description: Whether a MongoDB user may log in with a password
description:
  - Tries it on this host's member, and changes nothing. Works in check mode.
  - The members' own user C(__system) of the database C(local) has the shared keys as its passwords.
  - Needs Phoenix's package on the host (role C(toolkit)).
options:
  port: {description: Port of this host's member., type: int, default: 27017}
  ca: {description: Path of the CAs by which the connection is by TLS; empty without., type: str, default: ""}
  user: {description: The user., type: str, required: true}
  password: {description: The password to try., type: str, required: true}
  database: {description: Database that holds the user., type: str, default: admin}
author: [Phoenix]
"""
EXAMPLES = r"""
- name: Check whether the password is in force
  database_login:
    user: phoenix
    password: "{{ mongodb_app_password }}"
"""
RETURN = r"""
accepted: {description: Whether the member accepted the login., type: bool, returned: always}
"""

from ansible.module_utils import phoenix_member
from ansible.module_utils.basic import AnsibleModule

AUTHENTICATION_FAILED = 18


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **phoenix_member.CONNECTION,
            "user": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "database": {"type": "str", "default": "admin"},
        },
        supports_check_mode=True,
    )
    options = module.params
    phoenix_member.require(module)
    from pymongo.errors import OperationFailure, PyMongoError  # noqa: PLC0415 - only the managed host has them

    client = phoenix_member.connect(module, options["user"], options["password"], authSource=options["database"])
    try:
        client.admin.command("ping")
    except OperationFailure as error:
        if error.code != AUTHENTICATION_FAILED:
            module.fail_json(msg=f"{options['user']} could not be tried: {error}")
        module.exit_json(changed=False, accepted=False)
    except PyMongoError as error:
        module.fail_json(msg=f"{options['user']} could not be tried: {error}")
    module.exit_json(changed=False, accepted=True)


if __name__ == "__main__":
    main()
