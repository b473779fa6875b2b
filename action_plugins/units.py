"""units: have systemd's units run now and at boot, or neither; where it is so, no module runs.

The module `systemd_service` takes a Python process on the host for each unit; systemctl answers for all at once.
"""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import Any

from ansible.plugins.action import ActionBase

SHOW = ["systemctl", "show", "--no-pager"]
PROPERTIES = "Id,ActiveState,UnitFileState"
# When a service's process was started; units of other kinds have only when they became active.
STARTS = ("ExecMainStartTimestamp", "ActiveEnterTimestamp")
MODIFIED = "Modified="
RUNNING = ("active", "activating", "reloading")
ENDED = ("inactive", "failed")
# A unit without an [Install] is started by others.
AT_BOOT = ("enabled", "static", "indirect", "generated", "alias")


def question(names: list[str], files: list[str]) -> str:
    """Return the command that shows the units and, with files, when these were written and the units were started."""
    if not files:
        return shlex.join([*SHOW, f"--property={PROPERTIES}", "--", *names])
    show = shlex.join([*SHOW, f"--property={PROPERTIES},{','.join(STARTS)}", "--", *names])
    # A link was made when what it leads to became another. What is not there was not written.
    written = shlex.join(["stat", f"--format={MODIFIED}%Y", "--", *files])
    return f"{written} 2>/dev/null; TZ=UTC LC_ALL=C {show}"


def blocks(shown: str) -> list[dict[str, str]]:
    """What `systemctl show` prints of several units, in their order, with an empty line between them."""
    found, begins = list[dict[str, str]](), True
    for line in shown.splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith(MODIFIED):
            if begins:
                found.append({})
            found[-1][key], begins = value, False
        begins = begins or not line
    return found


def written(shown: str) -> int:
    """When the newest of the files was written, in seconds since the epoch; 0 where there is none."""
    return max((int(line[len(MODIFIED) :]) for line in shown.splitlines() if line.startswith(MODIFIED)), default=0)


def started(seen: dict[str, str]) -> int | None:
    """When the unit was started, in the same seconds; None if it never was, so that it will read all."""
    shown = next((seen[name] for name in STARTS if seen.get(name)), "")
    try:
        moment = datetime.strptime(" ".join(shown.split()[1:3]), "%Y-%m-%d %H:%M:%S")
    except ValueError:
        return None
    return int(moment.replace(tzinfo=UTC).timestamp())


def as_wanted(seen: dict[str, str], running: bool) -> bool:
    if running:
        return seen["ActiveState"] in RUNNING and seen["UnitFileState"] in AT_BOOT
    return seen["ActiveState"] in ENDED and seen["UnitFileState"] not in ("enabled", "enabled-runtime")


class ActionModule(ActionBase):  # type: ignore[misc]
    """Takes `name`, a list; `running`, false for units that are stopped and disabled, where they exist; and three more.

    changed: whether their files changed, so that systemd reads them again, and the units are restarted unless `restart`
    is false. files: what they read when they are started, their own files included. A unit that was started before one
    of them was written is restarted, too: a run that was cut in between has left it so, and nothing has changed since.
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
                "files": {"type": "list", "elements": "path", "default": []},
            }
        )
        names, running, changed = options["name"], options["running"], options["changed"]
        if not names:
            return {**result, "changed": False}
        may_restart = running and options["restart"]
        shown = self._ask(question(names, options["files"] if may_restart else []))
        if shown.get("failed"):
            return {**result, **shown}
        seen = dict(zip(names, blocks(shown["stdout"]), strict=True))
        newest, starts = written(shown["stdout"]), {name: started(seen[name]) for name in names}
        # In whole seconds, which is what systemctl prints: a file of the second of the start is taken for read.
        unread = {name for name, start in starts.items() if start is not None and newest > start}
        again = set(names) if changed and may_restart else unread
        due = [name for name in names if name in again or not as_wanted(seen[name], running)]
        reload = changed or bool(unread)
        # In a dry run the units that a run would write are not there yet.
        if self._task.check_mode or not due:
            read = self._ask("systemctl daemon-reload") if changed and not self._task.check_mode else {}
            return {**result, **({**read} if read.get("failed") else {"changed": bool(due)})}
        for name in due:
            arguments = {
                "name": name,
                "state": ("restarted" if name in again else "started") if running else "stopped",
                "enabled": running,
                "daemon_reload": reload and name == due[0],
            }
            answer = self._execute_module("ansible.legacy.systemd_service", module_args=arguments, task_vars=task_vars)
            if answer.get("failed"):
                return {**result, **answer}
        return {**result, "changed": True}

    def _ask(self, command: str) -> dict[str, Any]:
        # With input the connection allots no terminal, which would join standard error to standard output.
        done: dict[str, Any] = self._low_level_execute_command(command, in_data=b"\n")
        if done["rc"]:
            return {"failed": True, "msg": done["stderr"].strip() or f"{command} ended with {done['rc']}"}
        return done
