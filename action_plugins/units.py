"""units: have systemd's units run now and at boot, or neither; where it is so, no module runs.

The module `systemd_service` takes a Python process on the host for each unit; systemctl answers for all at once.
"""

from __future__ import annotations

import shlex
from typing import Any

from ansible.plugins.action import ActionBase

PROPERTIES = ("LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload")
SHOW = ["systemctl", "show", f"--property={','.join(PROPERTIES)}", "--"]
RUNNING = ("active", "activating", "reloading")
# A unit without an [Install] is started by others.
AT_BOOT = ("enabled", "static", "indirect", "generated", "alias")


def blocks(shown: str) -> list[dict[str, str]]:
    """What `systemctl show` prints of several units, in their order."""
    return [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.strip().split("\n\n")]


def as_wanted(seen: dict[str, str], running: bool) -> bool:
    if running:
        return seen["ActiveState"] in RUNNING and seen["UnitFileState"] in AT_BOOT
    return seen["ActiveState"] not in RUNNING and seen["UnitFileState"] not in ("enabled", "enabled-runtime")


class ActionModule(ActionBase):  # type: ignore[misc]
    """Takes `name`, a list; `running`, false for units that are stopped and disabled, where they exist; and two more.

    changed: whether their files changed, so that systemd reads them again, and the units are restarted unless `restart`
    is false. It does so as well where systemd has read former files only: the run before was cut. Without it, units are
    started alone.
    """

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(
            {
                "name": {"type": "list", "elements": "str", "required": True},
                "running": {"type": "bool", "default": True},
                "changed": {"type": "bool"},
                "restart": {"type": "bool", "default": True},
            }
        )
        names = options["name"]
        if not names:
            return {**result, "changed": False}
        done = self._low_level_execute_command(shlex.join([*SHOW, *names]))
        if done["rc"]:
            return {**result, "failed": True, "msg": done["stderr"] or f"systemctl ended with {done['rc']}"}
        seen = dict(zip(names, blocks(done["stdout"]), strict=True))
        former = options["changed"] is not None and any(one["NeedDaemonReload"] == "yes" for one in seen.values())
        changed = bool(options["changed"]) or former
        again = changed and options["running"] and options["restart"]
        due = [name for name in names if again or not as_wanted(seen[name], options["running"])]
        if self._task.check_mode or not due:
            # Units that a run would write are not there yet.
            if changed and not self._task.check_mode:
                self._low_level_execute_command("systemctl daemon-reload")
            return {**result, "changed": bool(due)}
        state = ("restarted" if again else "started") if options["running"] else "stopped"
        for name in due:
            arguments = {
                "name": name,
                "state": state,
                "enabled": options["running"],
                "daemon_reload": changed and name == due[0],
            }
            answer = self._execute_module("ansible.legacy.systemd_service", module_args=arguments, task_vars=task_vars)
            if answer.get("failed"):
                return {**result, **answer}
        return {**result, "changed": True}
