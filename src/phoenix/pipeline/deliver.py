"""The second half of a run of phoenix-ci.service: what was checked is delivered by a user that runs none of it.

The checks run what was pushed, as phoenix-ci, which has no key. This ends whatever they left behind, and has
phoenix-deliver, whose key may deploy, send the commit from the repository, which the checks can't write to.
Exit status: 0 delivered, 1 failed, 75 nothing was to be done.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phoenix.pipeline import runs
from phoenix.pipeline.outcome import IDLE

TOP = runs.TOP
WORK = TOP / "deliver"
UNIT = "phoenix-ci.service"
CHECKS, USER = "phoenix-ci", "phoenix-deliver"
STAGE = "/usr/local/bin/phoenix-stage"
ROUNDS = 100  # of 50 ms, until what was killed has to be gone
FAILED = 1


def as_user(account: pwd.struct_passwd) -> dict[str, Any]:
    """Options of subprocess.run() for a process of another user, without root's groups."""
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def leftovers(user: int, processes: Path = Path("/proc")) -> list[int]:
    """Processes of the checks' user in the unit; a session of the same user elsewhere is not one of them."""
    found = []
    for entry in processes.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            unit = re.search(rf"/{re.escape(UNIT)}(/|$)", (entry / "cgroup").read_text(encoding="utf-8"), re.MULTILINE)
            if unit and entry.stat().st_uid == user:
                found.append(int(entry.name))
    return found


def end(user: int) -> bool:
    """Kill them; whether none is left."""
    for _ in range(ROUNDS):
        left = leftovers(user)
        if not left:
            return True
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    return False


def environment(commit: str, outer: Mapping[str, str]) -> dict[str, str]:
    """Where the stages find the source: in the repository itself, not in what the checks made of it."""
    repository = str(TOP / "application.git")
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": pwd.getpwnam(USER).pw_dir,
        "GIT_DIR": repository,
        "PHOENIX_COMMIT": commit,
        "PHOENIX_STAGE_TIMEOUT": outer.get("PHOENIX_STAGE_TIMEOUT", "0"),
    }


def main() -> int:
    if not end(pwd.getpwnam(CHECKS).pw_uid):
        print(f"phoenixctl pipeline: processes of {CHECKS} can't be ended")
        return FAILED
    commit = runs.commit(TOP / "runs" / ".running")
    if not commit:
        return int(IDLE)
    if runs.commit(TOP / "runs" / ".checked") != commit:
        return FAILED
    account = pwd.getpwnam(USER)
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(mode=0o755)
    (WORK / "commit").write_text(f"{commit}\n", encoding="ascii")
    log = WORK / "log"
    log.touch()
    for path in (WORK, log):
        os.chown(path, account.pw_uid, account.pw_gid)
    with log.open("ab") as output:
        done = subprocess.run(
            [STAGE, "deliver"],
            cwd=WORK,
            env=environment(commit, os.environ),
            **as_user(account),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return FAILED if done.returncode else 0
