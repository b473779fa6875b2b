#!/usr/bin/python
"""Have this host's MongoDB member read its certificate and the CAs that it trusts again, without a restart."""

from __future__ import annotations

DOCUMENTATION = r"""
module: database_certificates
short_description: Reload the certificate of a MongoDB member, and the CAs that it trusts
description:
  - Does nothing where the running server has read both, or runs without TLS. Connections that are open stay open.
  - Which files it has read is known by the times of C(/run/mongodb/started) and C(/run/mongodb/certificates).
  - Needs Phoenix's package on the host (role C(toolkit)), and a server of 5.0 or newer.
options:
  port: {description: Port of this host's member., type: int, default: 27017}
  ca: {description: Path of the CAs by which the connection is by TLS; empty without., type: str, default: ""}
  login_user: {description: User with the role hostManager or root., type: str, required: true}
  login_password: {description: Its password., type: str, required: true}
  files: {description: The files that the server reads., type: list, elements: path, required: true}
author: [Phoenix]
"""
EXAMPLES = r"""
- name: Have the server read them
  database_certificates:
    login_user: admin
    login_password: "{{ mongodb_admin_password }}"
    files: [/etc/mongod-tls.pem, /etc/ssl/phoenix/database-ca.pem]
"""
RETURN = r""" """

from pathlib import Path

from ansible.module_utils import phoenix_member
from ansible.module_utils.basic import AnsibleModule

RUN = Path("/run/mongodb")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **phoenix_member.LOGIN,
            "files": {"type": "list", "elements": "path", "required": True},
        },
        supports_check_mode=True,
    )
    # Only a server with TLS has this copy of its configuration.
    if not (RUN / "mongod.conf").exists():
        module.exit_json(changed=False)
    phoenix_member.require(module)
    from pymongo.errors import PyMongoError  # noqa: PLC0415 - only the managed host has them

    from phoenix.database import tls  # noqa: PLC0415

    marker = RUN / "certificates"
    if not tls.unread([Path(name) for name in module.params["files"]], [RUN / "started", marker]):
        module.exit_json(changed=False)
    if not module.check_mode:
        # Before the server reads them: what is written meanwhile is newer, and read by the next run.
        with marker.with_name("certificates.new").open("w"):
            pass
        try:
            phoenix_member.connect_as_login(module).admin.command("rotateCertificates")
        except PyMongoError as error:
            module.fail_json(msg=f"The member serves with what it had: it could not read its certificate: {error}")
        marker.with_name("certificates.new").replace(marker)
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
