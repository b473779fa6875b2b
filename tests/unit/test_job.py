"""Commands of phoenixctl in the background, as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.shared import TOP

# Stands for phoenixctl: it starts jobs in a folder of the test, whose command is a Python expression.
PROGRAM = """
import sys, pathlib
from phoenix import cli
from phoenix.common import job
job.FOLDER = pathlib.Path(sys.argv[1])
cli.main = lambda words: eval(words[0], {"sys": sys, "words": words, "time": __import__("time")})
sys.exit(job.main(sys.argv[2:]))
"""


def job(folder: Path, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), *words],
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(TOP / "src")},
    )


def start(folder: Path, expression: str, *words: str, given: str = "") -> str:
    """Start a job. Its outputs are not this process's: otherwise `run` would wait for its end."""
    began = job(folder, "start", expression, *words, given=given)
    assert began.returncode == 0, began.stderr
    return began.stdout.strip()


def test_a_job_reads_what_it_was_given_and_ends_as_its_command_does(tmp_path: Path) -> None:
    name = start(
        tmp_path, "(print(sys.stdin.read(), words[1:]), print('careful', file=sys.stderr), 7)[-1]", "a b", given="{}"
    )
    ended = job(tmp_path, "wait", name)
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "{} ['a b']\n", "careful\n")
    again = job(tmp_path, "wait", name)
    assert again.returncode == 1 and f"There is no job {name}" in again.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("expression", "status", "said"),
    [
        ("sys.exit('not valid')", 1, "not valid"),
        ("sys.exit(64)", 64, ""),
        ("sys.exit()", 0, ""),
        ("1 / 0", 1, "ZeroDivisionError"),
    ],
)
def test_however_a_command_ends_there_is_a_result(tmp_path: Path, expression: str, status: int, said: str) -> None:
    ended = job(tmp_path, "wait", start(tmp_path, expression))
    assert ended.returncode == status and said in ended.stderr


def test_start_does_not_wait_and_wait_has_a_limit(tmp_path: Path) -> None:
    release = tmp_path / "release"
    held = f"[time.sleep(0.02) for _ in iter(lambda: __import__('os').path.exists({str(release)!r}), True)] and 0 or 0"
    jobs = tmp_path / "jobs"
    name = start(jobs, held)
    late = job(jobs, "wait", name, "--timeout", "0.2")
    assert late.returncode == 1 and "did not end within 0.2 s" in late.stderr
    release.touch()
    assert job(jobs, "wait", name, "--timeout", "30").returncode == 0


def test_a_job_that_was_killed_is_no_success(tmp_path: Path) -> None:
    name = start(tmp_path, "time.sleep(60)")
    os.kill(int((tmp_path / name / "process").read_text()), signal.SIGKILL)
    ended = job(tmp_path, "wait", name)
    assert ended.returncode == 1 and "left no result" in ended.stderr


def test_jobs_that_nobody_waited_for_are_forgotten(tmp_path: Path) -> None:
    old = start(tmp_path, "0")
    while not (tmp_path / old / "status").exists():
        time.sleep(0.01)
    os.utime(tmp_path / old, (1.0, 1.0))
    new = start(tmp_path, "0")
    assert [one.name for one in tmp_path.iterdir()] == [new]


@pytest.mark.parametrize("words", [(), ("start",), ("wait",), ("wait", "job-1", "5"), ("wait", "../job-1")])
def test_what_is_not_understood_is_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert job(tmp_path, *words).returncode in (64, 1)
