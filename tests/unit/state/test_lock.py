"""The fleet's lock."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from phoenix.state import lock as program
from tests.unit.shared import TOP

PROGRAM = [sys.executable, "-m", "phoenix", "lock"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(TOP / "src")}


@pytest.fixture(scope="module")
def lock() -> ModuleType:
    return program


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, "--folder", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)


def test_taken_once_and_again_after_its_release(lock: ModuleType, tmp_path: Path) -> None:
    token, other = lock.acquire(tmp_path, "ann", "deploy", 60)
    assert token
    assert other is None
    assert lock.acquire(tmp_path, "bob", "scale", 60)[1].holder == "ann"
    assert lock.release(tmp_path, token)
    assert lock.acquire(tmp_path, "bob", "scale", 60)[0]


def test_an_expired_lease_releases_it_and_invalidates_its_token(lock: ModuleType, tmp_path: Path) -> None:
    old, _ = lock.acquire(tmp_path, "ann", "deploy", 0)
    assert lock.holder(tmp_path) is None
    new, _ = lock.acquire(tmp_path, "bob", "scale", 60)
    assert not lock.release(tmp_path, old)
    assert not lock.renew(tmp_path, old, 60)
    assert lock.holder(tmp_path).token == new


def test_a_reboot_releases_it(lock: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock.acquire(tmp_path, "ann", "deploy", 3600)
    monkeypatch.setattr(lock.process, "boot", lambda: "another")
    assert lock.holder(tmp_path) is None


def test_renewed(lock: ModuleType, tmp_path: Path) -> None:
    token, _ = lock.acquire(tmp_path, "ann", "deploy", 1)
    before = lock.holder(tmp_path).expires
    assert lock.renew(tmp_path, token, 60)
    assert lock.holder(tmp_path).expires > before + 50


def test_waits_for_the_release(lock: ModuleType, tmp_path: Path) -> None:
    token, _ = lock.acquire(tmp_path, "ann", "deploy", 60)
    timer = threading.Timer(0.3, lock.release, (tmp_path, token))
    timer.start()
    assert lock.acquire(tmp_path, "bob", "scale", 60, wait=10)[0]
    timer.join()


def test_one_of_many_gets_it(tmp_path: Path) -> None:
    command = [*PROGRAM, "--folder", str(tmp_path), "acquire"]
    command += ["--holder", "x", "--purpose", "scale", "--lease", "60"]
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) for _ in range(8)
    ]
    assert sorted(one.wait() for one in runs) == [0] + [75] * 7
    for one in runs:
        one.communicate()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"token": "x"}', "null", '{"expires": "soon"}'])
def test_a_corrupt_file_is_moved_aside(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock").write_text(content)
    done = run(tmp_path, "acquire", "--holder", "ann", "--purpose", "scale", "--lease", "900")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "lock.corrupt").read_text() == content


def test_the_command_line(tmp_path: Path) -> None:
    assert run(tmp_path, "show").stdout == "free\n"
    token = run(tmp_path, "acquire", "--holder", "ann", "--purpose", "deploy", "--lease", "900").stdout.strip()
    busy = run(tmp_path, "acquire", "--holder", "bob", "--purpose", "scale", "--lease", "900")
    assert busy.returncode == 75
    assert "held by ann for deploy since 20" in busy.stderr
    shown = json.loads(run(tmp_path, "show", "--json").stdout)
    assert (shown["held"], shown["holder"], shown["purpose"]) == (True, "ann", "deploy")
    assert "token" not in shown
    assert run(tmp_path, "renew", "--token", "other", "--lease", "900").returncode == 76
    assert run(tmp_path, "release", "--token", "other").returncode == 0
    assert run(tmp_path, "release", "--token", token).returncode == 0
    assert json.loads(run(tmp_path, "show", "--json").stdout) == {"held": False}
    assert run(tmp_path / "absent", "acquire", "--holder", "a", "--purpose", "scale", "--lease", "900").returncode == 1


def test_a_lock_is_broken_after_asking_and_its_holder_named(
    lock: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--folder", str(tmp_path), "break"]
    assert lock.main(words) == 0  # free already
    token, _ = lock.acquire(tmp_path, "ann", "deploy", 60)
    monkeypatch.setattr("builtins.input", lambda prompt: "no")
    assert lock.main(words) == 1
    assert lock.holder(tmp_path) is not None
    assert lock.main([*words, "--yes"]) == 0
    assert "held by ann for deploy" in capsys.readouterr().out
    assert lock.holder(tmp_path) is None
    assert not lock.renew(tmp_path, token, 60)
