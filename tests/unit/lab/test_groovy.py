"""tests/groovy/run installs its checker once, whole, whatever runs beside it or ends it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness.waiting import wait_for
from tests.unit.shared import TOP

NPM = """#!/bin/sh
echo run >>"$ROOT/installed"
mkdir -p node_modules/.bin
[ "$WAIT" = "" ] || { : >"$ROOT/begun"; read -r _ <"$ROOT/go"; }
[ "$FAIL" = "" ] || exit 1
printf '#!/bin/sh\\necho checked $(ls)\\n' >node_modules/.bin/npm-groovy-lint
chmod +x node_modules/.bin/npm-groovy-lint
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the program reads of the repository, with stand-ins for java and npm."""
    for name in ("run", "package.json", "package-lock.json"):
        (tmp_path / "tests" / "groovy").mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / "tests" / "groovy" / name, tmp_path / "tests" / "groovy")
    for name in ("Jenkinsfile", "roles/jenkins/files/job.groovy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "bin").mkdir()
    for name, text in {"java": "#!/bin/sh\n", "npm": NPM}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    os.mkfifo(tmp_path / "go")
    return tmp_path


def start(checkout: Path, **variables: str) -> subprocess.Popen[str]:
    environment = {"PATH": f"{checkout}/bin:/usr/bin:/bin", "ROOT": str(checkout), **variables}
    return subprocess.Popen(
        [checkout / "tests" / "groovy" / "run"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def outcome(process: subprocess.Popen[str]) -> tuple[int, str]:
    shown = process.communicate()[0]
    return process.returncode, shown


def installed(checkout: Path) -> int:
    return len((checkout / "installed").read_text().splitlines())


CHECKED = (0, "checked Jenkinsfile job.groovy\n")


def test_of_two_runs_at_once_both_use_a_whole_checker(checkout: Path) -> None:
    """One installs from beginning to end while the other has half of it."""
    slow = start(checkout, WAIT="yes")
    try:
        wait_for((checkout / "begun").exists, 60, "half of an installation")
        assert outcome(start(checkout)) == CHECKED
        (checkout / "go").write_text("go\n")
        assert outcome(slow) == CHECKED
    finally:
        slow.kill()
    assert installed(checkout) == 2
    assert outcome(start(checkout, FAIL="yes")) == CHECKED, "what is installed needs no npm"
    assert installed(checkout) == 2
    assert len(list((checkout / ".cache" / "groovy-lint").iterdir())) == 1


def test_a_failed_installation_is_no_checker(checkout: Path) -> None:
    status, _ = outcome(start(checkout, FAIL="yes"))
    assert status != 0
    assert not list((checkout / ".cache" / "groovy-lint").iterdir())
    assert outcome(start(checkout)) == CHECKED


def test_another_lock_file_is_installed_again(checkout: Path) -> None:
    assert outcome(start(checkout)) == CHECKED
    with (checkout / "tests" / "groovy" / "package-lock.json").open("a") as lock:
        lock.write("\n")
    assert outcome(start(checkout)) == CHECKED
    assert installed(checkout) == 2
