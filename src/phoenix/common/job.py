"""Another command of phoenixctl in the background, over several connections: phoenixctl job VERB ...

  start AREA VERB ...    start it with this standard input, print the job's name, and return at once
  wait NAME [--timeout SECONDS]    wait for its end, print what it printed, and end as it did

A play starts one on each of several hosts, and then waits for them. Ansible's own `async` does the same by a module,
which costs a second for the start and up to one at the end. A job that is never waited for is forgotten at the next
boot, or by a start a day later.
Exit status of wait: the command's; 1 where it left none, or did not end in time.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from phoenix.common import files, process

FOLDER = Path("/run/phoenix-jobs")
OUT, ERROR, STATUS, PROCESS = "out", "error", "status", "process"
POLL_S = 0.05
DAY_S = 86400.0
USAGE = 64
Run = Callable[[list[str]], int]


def _forget(now: float) -> None:
    """Remove jobs that nobody waited for."""
    for folder in FOLDER.iterdir():
        with contextlib.suppress(OSError):
            if now - folder.stat().st_mtime > DAY_S and not _runs(folder):
                shutil.rmtree(folder)


def _carry_out(folder: Path, words: list[str], given: bytes, run: Run, ready: int) -> None:
    """As the process of a job, with a session, a standard input, and outputs of its own. It never returns.

    ready: a pipe that is closed once the end of the caller's session ends this process no more.
    """
    status = 1
    try:
        os.setsid()
        files.replace(folder / PROCESS, f"{os.getpid()}\n")
        os.close(ready)
        source = os.memfd_create("stdin")
        os.write(source, given)
        os.lseek(source, 0, os.SEEK_SET)
        os.dup2(source, 0)
        for number, name in ((1, OUT), (2, ERROR)):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
        try:
            status = run(words)
        except SystemExit as ended:
            if isinstance(ended.code, str):
                print(ended.code, file=sys.stderr)
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:  # noqa: BLE001 - whatever it was, it is the job's result
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        files.replace(folder / STATUS, f"{status}\n")
    finally:
        os._exit(status)


def start(words: list[str], run: Run) -> str:
    """Start the command, and return the job's name. Raises OSError."""
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    _forget(time.time())
    folder = Path(tempfile.mkdtemp(prefix="job-", dir=FOLDER))
    given = b"" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read()
    sys.stdout.flush()
    sys.stderr.flush()
    reading, ready = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        _carry_out(folder, words, given, run, ready)
    os.close(ready)
    os.read(reading, 1)
    os.close(reading)
    return folder.name


def _runs(folder: Path) -> bool:
    """Whether the job's process is there, and is no zombie."""
    try:
        return process.stat(int((folder / PROCESS).read_text(encoding="ascii")))[0] != "Z"
    except (OSError, ValueError, IndexError):
        return False


def wait(name: str, limit: float) -> int:
    """Wait for a job, print what it printed, and return its status. It is forgotten, unless it did not end in time."""
    folder = FOLDER / name
    if not re.fullmatch(r"job-\w+", name) or not folder.is_dir():
        print(f"There is no job {name}: this host was rebooted, or it was waited for already", file=sys.stderr)
        return 1
    end = time.monotonic() + limit
    ended = folder / STATUS
    while not ended.exists():
        alive = _runs(folder)
        if not alive and not ended.exists():
            print("It left no result: its process was killed", file=sys.stderr)
            shutil.rmtree(folder)
            return 1
        if time.monotonic() > end:
            print(f"It did not end within {limit:g} s, and goes on", file=sys.stderr)
            return 1
        time.sleep(POLL_S)
    status = int(ended.read_text(encoding="ascii"))
    for stream, part in ((sys.stdout, OUT), (sys.stderr, ERROR)):
        stream.write((folder / part).read_text(encoding="utf-8", errors="replace"))
    shutil.rmtree(folder)
    return status


def main(arguments: list[str]) -> int:
    from phoenix import cli  # noqa: PLC0415 - which imports this module

    if arguments[:1] == ["start"] and len(arguments) > 1:
        print(start(arguments[1:], cli.main))
        return 0
    if arguments[:1] == ["wait"] and len(arguments) in (2, 4) and arguments[2:3] in ([], ["--timeout"]):
        return wait(arguments[1], float(arguments[3]) if len(arguments) == 4 else 60.0)
    print(__doc__, file=sys.stderr)
    return USAGE
