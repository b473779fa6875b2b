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

import sys

from ansible.module_utils.basic import AnsibleModule

PACKAGES = ["/opt/phoenix/tools/current/phoenix.pyz", "/opt/pymongo/current"]
AUTHENTICATION_FAILED = 18


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "port": {"type": "int", "default": 27017},
            "user": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "database": {"type": "str", "default": "admin"},
        },
        supports_check_mode=True,
    )
    sys.path[:0] = PACKAGES
    options = module.params
    try:
        from pymongo.errors import OperationFailure, PyMongoError  # noqa: PLC0415

        from phoenix.database import replica_set  # noqa: PLC0415 - the package is on the managed host
    except ImportError as error:
        module.fail_json(msg=f"{error}: the roles toolkit and mongodb install it; run site.yml for this host")
    client = replica_set.client(
        "127.0.0.1",
        options["port"],
        username=options["user"],
        password=options["password"],
        authSource=options["database"],
        serverSelectionTimeoutMS=10000,
    )
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
