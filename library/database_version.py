#!/usr/bin/python
"""Report the version of this host's MongoDB member, and read or set the set's feature compatibility version."""

from __future__ import annotations

DOCUMENTATION = r"""
module: database_version
short_description: Version of a MongoDB member, and the set's feature compatibility version
description:
  - Reads both from this host's member. With C(compatibility), which needs the primary, brings the set to it.
  - Needs Phoenix's package on the host (role C(toolkit)).
options:
  port: {description: Port of this host's member., type: int, default: 27017}
  ca: {description: Path of the CAs by which the connection is by TLS; empty without., type: str, default: ""}
  login_user: {description: User with the role root., type: str, required: true}
  login_password: {description: Its password., type: str, required: true}
  compatibility: {description: Feature compatibility version such as 6.0; empty to read it., type: str, default: ""}
author: [Phoenix]
"""
EXAMPLES = r"""
- name: Read the version
  database_version:
    login_user: admin
    login_password: "{{ mongodb_admin_password }}"
"""
RETURN = r"""
version: {description: Version of the running server., type: str, returned: always}
compatibility: {description: The feature compatibility version before., type: str, returned: always}
"""

from ansible.module_utils import phoenix_member
from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **phoenix_member.LOGIN,
            "compatibility": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    options = module.params
    phoenix_member.require(module)
    from pymongo.errors import PyMongoError  # noqa: PLC0415 - only the managed host has them

    try:
        client = phoenix_member.connect_as_login(module)
        version = client.admin.command("buildInfo")["version"]
        shown = client.admin.command({"getParameter": 1, "featureCompatibilityVersion": 1})
        # Between the two, after a change that was cut: {version, targetVersion}.
        present = shown["featureCompatibilityVersion"]
        compatibility = present["version"] if "targetVersion" not in present else ""
        changed = options["compatibility"] not in ("", compatibility)
        if changed and not module.check_mode:
            order = {"setFeatureCompatibilityVersion": options["compatibility"], "writeConcern": {"wtimeout": 60000}}
            if int(version.split(".")[0]) >= 7:
                order["confirm"] = True
            client.admin.command(order)
    except PyMongoError as error:
        module.fail_json(msg=f"The member refused: {error}")
    module.exit_json(changed=changed, version=version, compatibility=compatibility or present["version"])


if __name__ == "__main__":
    main()
