"""The programs that pack folders every night, for the transfer to the store."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.shared import TOP

# The program, its arguments, and its archives: folder and the beginning of their names.
PROGRAMS = {
    "jenkins/files/phoenix-jenkins-backup": (["2"], "jenkins", "jenkins-home"),
    "phoenix/files/phoenix-files-backup": (["/srv/uploads", "/var/lib/my app"], "phoenix", "files"),
}


def run(program: str, root: Path, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(TOP / "roles" / program), *PROGRAMS[program][0]],
        env={"PHOENIX_ROOT": str(root), "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_packing_that_fails_leaves_nothing_on_the_disk(program: str, tmp_path: Path) -> None:
    _, place, name = PROGRAMS[program]
    folder = tmp_path / "root" / "var" / "backups" / place
    folder.mkdir(parents=True)
    (folder / f"{name}-20260101.tar.gz").write_text("good")
    (folder / f"{name}-20260102.tar.gz.new").write_text("of a night that was cut")
    tar = tmp_path / "tar"
    tar.write_text('#!/bin/sh\necho part >"$4"\necho "tar: no space left on device" >&2\nexit 2\n')
    tar.chmod(0o755)
    done = run(program, tmp_path / "root", f"{tmp_path}:/usr/bin:/bin")
    assert done.returncode != 0
    assert "no space left" in done.stderr
    assert [path.name for path in folder.iterdir()] == [f"{name}-20260101.tar.gz"]


def test_what_an_application_wrote_is_unpacked_as_it_was(tmp_path: Path) -> None:
    for number, place in enumerate(("srv/uploads/a", "var/lib/my app")):
        (tmp_path / "root" / place).mkdir(parents=True)
        (tmp_path / "root" / place / "file").write_text(f"content {number}")
    folder = tmp_path / "root" / "var" / "backups" / "phoenix"
    folder.mkdir(parents=True)
    for day in (1, 2):
        (folder / f"files-2026010{day}.tar.gz").write_text("earlier")
        os.utime(folder / f"files-2026010{day}.tar.gz", (day, day))
    done = run("phoenix/files/phoenix-files-backup", tmp_path / "root")
    assert done.returncode == 0, done.stderr
    assert (folder / "files-20260102.tar.gz").exists() and not (folder / "files-20260101.tar.gz").exists()
    (newest,) = [path for path in folder.iterdir() if path.name != "files-20260102.tar.gz"]
    (tmp_path / "new").mkdir()
    subprocess.run(["tar", "-xzf", newest, "-C", tmp_path / "new"], check=True)
    assert (tmp_path / "new/srv/uploads/a/file").read_text() == "content 0"
    assert (tmp_path / "new/var/lib/my app/file").read_text() == "content 1"
    assert newest.stat().st_mode & 0o077 == 0
