#!/usr/bin/python
"""Find files that a unit's process has not read: a run that was cut has written them, and not restarted it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: unread_files
short_description: Files that are newer than the process that reads them
description:
  - The next run finds such files as they have to be, so that nothing would notify their handler.
  - Changes nothing; reports C(changed) where there are any, for C(notify).
  - A process that was never started will read all of them, so that none is reported.
options:
  unit: {description: The process's unit., type: str, required: true}
  files: {description: What it reads; what is not there is left out., type: list, elements: path, required: true}
  reload: {description: A reload reads them as well., type: bool, default: false}
author: [Phoenix]
"""
EXAMPLES = r"""
- name: Find what the running nginx has not read
  unread_files:
    unit: nginx.service
    files: [/etc/systemd/system/nginx.service.d/phoenix.conf]
  notify: Restart nginx
"""
RETURN = r"""
changed_paths: {description: Files that it has not read., type: list, returned: always}
"""

import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

STARTED = "ExecMainStartTimestampMonotonic"
# A reload is a change of state, and so is its end.
CHANGED = "StateChangeTimestampMonotonic"


def moment(shown: str, *, reload: bool) -> float:
    """When the process read its files last, as the clock of the files now has it; 0 where it was never started."""
    values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    found = [int(values.get(name) or 0) for name in (STARTED, CHANGED)]
    if not found[0]:
        return 0.0
    return time.time() - time.monotonic() + max(found if reload else found[:1]) / 1e6


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "files": {"type": "list", "elements": "path", "required": True},
            "reload": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    command = ["systemctl", "show", f"--property={STARTED},{CHANGED}", module.params["unit"]]
    _, shown, _ = module.run_command(command, check_rc=True)
    read = moment(shown, reload=module.params["reload"])
    files = [Path(name) for name in module.params["files"]]
    unread = [str(path) for path in files if read and path.exists() and path.stat().st_mtime > read]
    module.exit_json(changed=bool(unread), changed_paths=unread)


if __name__ == "__main__":
    main()
