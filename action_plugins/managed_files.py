"""managed_files: the module of this name runs only where a file or folder differs; one command finds that out."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.action import ActionBase

FOLDER = "directory"


def look(files: Sequence[Mapping[str, Any]], unapplied: str = "") -> str:
    """Return the command that shows owner, group, mode, kind and path of each, the files' checksums, and the note."""
    paths = shlex.join([one["path"] for one in files])
    contents = shlex.join([one["path"] for one in files if one.get("content") is not None])
    commands = [f"LC_ALL=C stat --dereference --format='%u %G %a %F/%n' -- {paths}"]
    if contents:
        commands.append(f"sha256sum -- {contents}")
    if unapplied:
        commands.append(f"cat -- {shlex.quote(unapplied)}")
    # A file that is missing is an error of both, and differs; a note that is missing names nothing.
    return f"({'; '.join(commands)}) 2>/dev/null || true"


def lines(files: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the command prints where nothing differs."""
    expected, sums = [], []
    for one in files:
        path, content = one["path"], one.get("content")
        mode = f"{int(str(one.get('mode') or '0644'), 8):o}"
        kind = FOLDER if content is None else "regular file" if content else "regular empty file"
        expected.append(f"0 {one.get('group') or 'root'} {mode} {kind}/{path}")
        if content is not None:
            sums.append(f"{hashlib.sha256(str(content).encode()).hexdigest()}  {path}")
    return expected + sums


class ActionModule(ActionBase):  # type: ignore[misc]
    """Takes what the module takes, and returns what it does."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        files = self._task.args.get("files")
        if isinstance(files, list) and all(isinstance(one, dict) and one.get("path") for one in files):
            # With input the connection allots no terminal, which would end its lines otherwise.
            asked = look(files, self._task.args.get("unapplied") or "")
            seen = self._low_level_execute_command(asked, in_data=b"\n")["stdout"] if files else ""
            if seen.splitlines() == lines(files):
                return {**result, "changed": False, "changed_paths": [], "diff": []}
        return {**result, **self._execute_module("managed_files", module_args=self._task.args, task_vars=task_vars)}
