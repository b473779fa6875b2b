"""packages: install Debian's packages, without a module where they are all there.

The module `apt` reads its whole cache to find that out, about a second on each host; dpkg answers at once.
"""

from __future__ import annotations

import shlex
from typing import Any

from ansible.plugins.action import ActionBase

SHOW = ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${Package}\\n"]

# On a bare host: a run installs what apt's cache is read by, and has apt read its lists.
ONLY_A_RUN = ("python3-apt must be installed", "No package matching")


class ActionModule(ActionBase):  # type: ignore[misc]
    """Takes `name`, a list, and `start`: whether what is installed may start its services before it is configured.

    Returns what `apt` does. A dry run on a bare host, of which apt knows nothing yet, reports a change.
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
        # One that is not known is an error to dpkg-query, which lists the others. With input the connection allots no
        # terminal, which would join that to the list.
        shown = self._low_level_execute_command(shlex.join([*SHOW, *options["name"]]), in_data=b"\n")["stdout"]
        # Also what is on hold.
        installed = {line[3:] for line in shown.splitlines() if line[1:3] == "i "}
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
        if self._task.check_mode:
            if any(reason in str(done.get("msg")) for reason in ONLY_A_RUN):
                done = {"changed": True}
            if done.get("changed"):
                host = self._task.delegate_to or (task_vars or {}).get("inventory_hostname", "the host")
                self._display.display(f"{host}: would install {', '.join(missing)}")
        return {**result, **done}
