"""phoenixctl: run Phoenix's own program on a host, as `ansible.builtin.command` does, without a module there.

A module is copied to the host and takes a Python process of its own, three times what phoenixctl itself takes; plays in
which seconds count run their commands by this.
"""

from __future__ import annotations

import shlex
from typing import Any

from ansible.plugins.action import ActionBase

PROGRAM = "/usr/local/bin/phoenixctl"
NOT_FOUND = 127  # the shell's


class ActionModule(ActionBase):  # type: ignore[misc]
    """Takes `argv` (the words after phoenixctl), `stdin`, and `if_installed`: a host without the program is skipped.

    Returns what `command` does. In the background it runs by `phoenixctl job`.
    """

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(
            {
                "argv": {"type": "list", "elements": "str", "required": True},
                "stdin": {"type": "str"},
                "if_installed": {"type": "bool", "default": False},
            }
        )
        words = [PROGRAM, *options["argv"]]
        if self._task.check_mode:
            return {**result, "changed": False, "skipped": True, "msg": "Command would have run if not in check mode"}
        # With input the connection allots no terminal, which would join standard error to standard output.
        done = self._low_level_execute_command(shlex.join(words), in_data=(options["stdin"] or "\n").encode())
        if done["rc"] == NOT_FOUND and options["if_installed"]:
            return {**result, "changed": False, "rc": 0, "stdout": f"skipped, since {PROGRAM} is not installed"}
        answer = {name: done[name].rstrip("\r\n") for name in ("stdout", "stderr")}
        if done["rc"]:
            result.update(failed=True, msg=answer["stderr"] or f"{shlex.join(words[:3])} ended with {done['rc']}")
        lines = {f"{name}_lines": text.splitlines() for name, text in answer.items()}
        return {**result, "changed": True, "rc": done["rc"], **answer, **lines}
