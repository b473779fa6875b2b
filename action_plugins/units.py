"""units: have systemd's units run now and at boot, or neither; where it is so, no module runs.

The module `systemd_service` takes a Python process on the host for each unit; systemctl answers for all at once.
"""

from __future__ import annotations

import shlex
from typing import Any

from ansible.plugins.action import ActionBase

SHOW = ["systemctl", "show", "--no-pager", "--property=Id,ActiveState,UnitFileState", "--"]
RUNNING = ("active", "activating", "reloading")
ENDED = ("inactive", "failed")
# A unit without an [Install] is started by others.
AT_BOOT = ("enabled", "static", "indirect", "generated", "alias")


def blocks(shown: str) -> list[dict[str, str]]:
    """What `systemctl show` prints of several units, in their order. Each block begins with what is asked for first."""
    found = list[dict[str, str]]()
    for line in shown.splitlines():
        key, equals, value = line.partition("=")
        if equals and (key == "Id" or not found):
            found.append({})
        if equals:
            found[-1][key] = value
    return found


def as_wanted(seen: dict[str, str], running: bool) -> bool:
    if running:
        return seen["ActiveState"] in RUNNING and seen["UnitFileState"] in AT_BOOT
    return seen["ActiveState"] in ENDED and seen["UnitFileState"] not in ("enabled", "enabled-runtime")


class ActionModule(ActionBase):  # type: ignore[misc]
    """Takes `name`, a list; `running`, false for units that are stopped and disabled, where they exist; and two more.

    changed: whether their files changed, so that systemd reads them again, and the units are restarted unless `restart`
    is false.
    """

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(
            {
                "name": {"type": "list", "elements": "str", "required": True},
                "running": {"type": "bool", "default": True},
                "changed": {"type": "bool", "default": False},
                "restart": {"type": "bool", "default": True},
            }
        )
        names, running, changed = options["name"], options["running"], options["changed"]
        if not names:
            return {**result, "changed": False}
        shown = self._ask([*SHOW, *names])
        if shown.get("failed"):
            return {**result, **shown}
        seen = dict(zip(names, blocks(shown["stdout"]), strict=True))
        again = changed and running and options["restart"]
        due = [name for name in names if again or not as_wanted(seen[name], running)]
        # In a dry run the units that a run would write are not there yet.
        if self._task.check_mode or not due:
            read = self._ask(["systemctl", "daemon-reload"]) if changed and not self._task.check_mode else {}
            return {**result, **({**read} if read.get("failed") else {"changed": bool(due)})}
        state = ("restarted" if again else "started") if running else "stopped"
        for name in due:
            arguments = {
                "name": name,
                "state": state,
                "enabled": running,
                "daemon_reload": changed and name == due[0],
            }
            answer = self._execute_module("ansible.legacy.systemd_service", module_args=arguments, task_vars=task_vars)
            if answer.get("failed"):
                return {**result, **answer}
        return {**result, "changed": True}

    def _ask(self, words: list[str]) -> dict[str, Any]:
        # With input the connection allots no terminal, which would join standard error to standard output.
        done: dict[str, Any] = self._low_level_execute_command(shlex.join(words), in_data=b"\n")
        if done["rc"]:
            return {"failed": True, "msg": done["stderr"].strip() or f"{shlex.join(words)} ended with {done['rc']}"}
        return done
