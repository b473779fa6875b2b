#!/usr/bin/python
"""Check whether the parent of this host's Netdata accepts a streaming key."""

from __future__ import annotations

DOCUMENTATION = r"""
module: netdata_stream_key
short_description: Whether a Netdata parent accepts a key for streams
description:
  - Asks for one more connection of this host, which streams to the parent already, so that nothing begins.
  - Works in check mode.
  - Needs Phoenix's package on the host (role C(toolkit)).
options:
  parent: {description: Address of the parent., type: str, required: true}
  port: {description: Its port., type: int, default: 19999}
  key: {description: The key., type: str, required: true}
author: [Phoenix]
"""
EXAMPLES = r"""
- name: Check whether the key is in force
  netdata_stream_key:
    parent: 192.0.2.41
    key: "{{ netdata_stream_key }}"
"""
RETURN = r"""
accepted: {description: Whether the parent accepts it., type: bool, returned: always}
"""

import platform
import sys
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

PACKAGE = "/opt/phoenix/tools/current/phoenix.pyz"
GUID = Path("/var/lib/netdata/registry/netdata.public.unique.id")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "parent": {"type": "str", "required": True},
            "port": {"type": "int", "default": 19999},
            "key": {"type": "str", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    sys.path[:0] = [PACKAGE]
    options = module.params
    try:
        from phoenix.monitoring import streaming  # noqa: PLC0415 - the package is on the managed host

        guid = GUID.read_text(encoding="ascii").strip()
        answer = streaming.ask(options["parent"], options["port"], options["key"], platform.node(), guid)
        module.exit_json(changed=False, accepted=streaming.verdict(answer))
    except ImportError as error:
        module.fail_json(msg=f"{error}: the role toolkit installs it; run site.yml for this host")
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"{options['parent']} could not be asked: {error}")


if __name__ == "__main__":
    main()
