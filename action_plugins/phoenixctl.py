"""phoenixctl: run Phoenix's own program on a host, as `ansible.builtin.command` does, without a module there.

A module is copied to the host and takes a Python process of its own, three times what phoenixctl itself takes; plays in
which seconds count run their commands by this.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

# Ansible loads this file by its path, wherever it was started, and does not find the package by itself.
_SOURCES = str(Path(__file__).resolve().parent.parent / "src")
if _SOURCES not in sys.path:
    sys.path.insert(0, _SOURCES)

from ansible.plugins.action import ActionBase  # noqa: E402

from phoenix.fleet import package  # noqa: E402

PROGRAM = "/usr/local/bin/phoenixctl"
NOT_FOUND = 127  # the shell's
UNKNOWN = (2, 64)  # an option or a verb, by argparse, or an area: perhaps of a newer package


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
            message = answer["stderr"] or f"{shlex.join(words[:3])} ended with {done['rc']}"
            older = self._older(task_vars or {}) if done["rc"] in UNKNOWN else ""
            result.update(failed=True, msg=f"{message}\n{older}" if older else message)
        lines = {f"{name}_lines": text.splitlines() for name, text in answer.items()}
        return {**result, "changed": True, "rc": done["rc"], **answer, **lines}

    def _older(self, task_vars: dict[str, Any]) -> str:
        """Where the host's package is older than the play, that it is; "" where it is not."""
        shown = self._low_level_execute_command(shlex.join([PROGRAM, "--version"]), in_data=b"\n")
        return package.hint(str(self._task.delegate_to or task_vars.get("inventory_hostname", "the host")), shown["stdout"])
