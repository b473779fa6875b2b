"""packages: install Debian's packages, without a module where they are all there.

The module `apt` reads its whole cache to find that out, about a second on each host; dpkg answers at once.
"""

from __future__ import annotations

import shlex
from typing import Any

from ansible.plugins.action import ActionBase

SHOW = ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${Package}\\n"]


class ActionModule(ActionBase):  # type: ignore[misc]
    """Takes `name`, a list, and `start`: whether what is installed may start its services before it is configured.

    Returns what `apt` does. A dry run on a bare host, where only a run would install python3-apt, reports a change.
    """

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(
            {
                "name": {"type": "list", "elements": "str", "required": True},
                "start": {"type": "bool", "default": True},
            }
        )
        # One that is not known is an error to dpkg-query, which lists the others.
        shown = self._low_level_execute_command(shlex.join([*SHOW, *options["name"]]))["stdout"]
        installed = {line[3:] for line in shown.splitlines() if line.startswith("ii ")}
        missing = [name for name in options["name"] if name not in installed]
        if not missing:
            return {**result, "changed": False}
        arguments = {
            "name": missing,
            "install_recommends": False,
            "update_cache": True,
            "cache_valid_time": 3600,
            **({} if options["start"] else {"policy_rc_d": 101}),
        }
        done = self._execute_module("ansible.legacy.apt", module_args=arguments, task_vars=task_vars)
        if self._task.check_mode and (not done.get("failed") or "python3-apt" in str(done.get("msg"))):
            done = {"changed": True, "msg": f"would install {', '.join(missing)}"}
            host = self._task.delegate_to or (task_vars or {}).get("inventory_hostname", "the host")
            self._display.display(f"{host}: {done['msg']}")
        return {**result, **done}
