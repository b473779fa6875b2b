"""keep_fleet_lock: start the process that keeps the fleet's lock while this run of Ansible lives.

A shim over phoenix.state.keeper: it lends that process Ansible's own connection to control.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

_SOURCES = str(Path(__file__).resolve().parents[1] / "src")
if _SOURCES not in sys.path:
    sys.path.insert(0, _SOURCES)

from phoenix.state import keeper  # noqa: E402


class ActionModule(ActionBase):  # type: ignore[misc]
    """Takes `token` and `lease` (s)."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        token, lease = str(self._task.args["token"]), float(self._task.args["lease"])
        # This process is a task's worker; its parent is the run.
        play = keeper.Play.of(os.getppid())
        if os.fork() == 0:
            try:
                self._detach()
                keeper.keep(play, lease, lambda verb, *words: self._lock(verb, "--token", token, *words))
            finally:
                os._exit(0)
        return {**result, "changed": False}

    def _detach(self) -> None:
        """Leave the run's terminal, and its pipes, which are read until their last writer has closed them."""
        os.setsid()
        kept = getattr(self._play_context, "connection_lockfd", None)
        for descriptor in range(3, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") < 65536 else 65536):
            if descriptor != kept:
                try:
                    os.close(descriptor)
                except OSError:
                    continue

    def _lock(self, *words: str) -> int:
        done = self._low_level_execute_command(shlex.join(["/usr/local/bin/phoenixctl", "lock", *words]))
        return int(done["rc"])
