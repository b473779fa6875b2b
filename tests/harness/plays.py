"""Whole plays, for the tests and the benchmark, run as an operator does: from the top, where ansible.cfg is."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
PLAYBOOK = str(Path(sys.executable).with_name("ansible-playbook"))
# Of what a play printed, characters to show: of each task that failed, and of its end.
TASK_CHARACTERS, END_CHARACTERS = 1200, 1500


def command(inventory: str, name: str, *options: str, **variables: Any) -> list[str]:
    """Return the command line of playbooks/<name>.yml with these variables."""
    return [PLAYBOOK, "-i", inventory, f"playbooks/{name}.yml", "-e", json.dumps(variables), *options]


def environment() -> dict[str, str]:
    """Return the environment without molecule's settings, which would replace ansible.cfg by its own configuration."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}


def run(inventory: str, name: str, *options: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run it to its end, successful or not; stdout holds Ansible's output."""
    words = command(inventory, name, *options, **variables)
    return subprocess.run(words, cwd=TOP, env=environment(), capture_output=True, text=True, check=False)


def excerpt(output: str) -> str:
    """The tasks that failed, rescued ones included, and the end: the reason may be hundreds of lines before it."""
    sections = re.split(r"^(?=TASK \[|RUNNING HANDLER \[|PLAY )", output, flags=re.MULTILINE)
    failed = [
        f"{one.partition(' *')[0]}\n{one[error.start() :][:TASK_CHARACTERS]}"
        for one in sections
        if (error := re.search(r"^(\[ERROR\]|fatal: \[|failed: \[)", one, re.MULTILINE))
    ]
    return "\n".join([*failed, f"…{output[-END_CHARACTERS:]}"])


def _children() -> dict[int, list[int]]:
    """Process -> the processes that it has started."""
    found: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            # The name, in parentheses, may hold anything.
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            found.setdefault(parent, []).append(int(path.parent.name))
    return found


def kill(running: subprocess.Popen[str]) -> None:
    """End it and its workers, which have sessions of their own, in the middle of what they do.

    What keeps the fleet's lock for it is no child of it, and releases the lock once it finds it gone.
    """
    children = _children()
    doomed = [running.pid]
    for process in doomed:
        doomed += children.get(process, [])
    for process in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    running.communicate()


def start(inventory: str, name: str, *options: str, **variables: Any) -> subprocess.Popen[str]:
    """Start it in a process group of its own, with stdout and stderr together."""
    words = command(inventory, name, *options, **variables)
    return subprocess.Popen(
        words,
        cwd=TOP,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
