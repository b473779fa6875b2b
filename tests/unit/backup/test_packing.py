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


PLACES = {"jenkins": ["var/lib/jenkins/jobs"], "phoenix": ["srv/uploads", "var/lib/my app"]}
MIB = 1024 * 1024


def crowded(program: str, top: Path, free: int, later: int) -> Path:
    """Two archives of 2 MiB beside more than 3 MiB to pack, and so much free space with the older, and without it.

    Returns the folder of the archives.
    """
    _, place, name = PROGRAMS[program]
    folder = top / "root" / "var" / "backups" / place
    folder.mkdir(parents=True)
    for day in (1, 2):
        (folder / f"{name}-2026010{day}.tar.gz").write_bytes(b"x" * 2 * MIB)
        os.utime(folder / f"{name}-2026010{day}.tar.gz", (day, day))
    for written in PLACES[place]:
        (top / "root" / written).mkdir(parents=True)
        (top / "root" / written / "photograph").write_bytes(b"x" * (3 * MIB // len(PLACES[place])))
    (top / "bin").mkdir()
    df = top / "bin" / "df"
    df.write_text(
        f"#!/bin/sh\necho Avail\n[ -e '{folder}/{name}-20260101.tar.gz' ] && echo ' {free}' || echo ' {later}'\n"
    )
    df.chmod(0o755)
    return folder


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_does_not_fit_is_not_packed(program: str, tmp_path: Path) -> None:
    """Though it compresses well. The older archive stays too, as the room would not suffice without it."""
    folder = crowded(program, tmp_path, free=512 * MIB, later=514 * MIB)
    before = sorted(folder.iterdir())
    done = run(program, tmp_path / "root", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert done.returncode == 1
    assert "nothing was packed" in done.stderr and str(folder) in done.stderr
    # 3 MiB, the folders themselves, and the reserve.
    assert "516 MiB (4 MiB that" in done.stderr and "512 MiB are free" in done.stderr
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_older_archive_makes_room_for_the_next(program: str, tmp_path: Path) -> None:
    folder = crowded(program, tmp_path, free=514 * MIB, later=516 * MIB)
    done = run(program, tmp_path / "root", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    name = PROGRAMS[program][2]
    kept = sorted(path.name for path in folder.iterdir())
    assert len(kept) == 2 and kept[0] == f"{name}-20260102.tar.gz"


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_newest_archive_is_never_let_go_for_room(program: str, tmp_path: Path) -> None:
    folder = crowded(program, tmp_path, free=0, later=514 * MIB)
    name = PROGRAMS[program][2]
    (folder / f"{name}-20260101.tar.gz").unlink()
    done = run(program, tmp_path / "root", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert done.returncode == 1 and "nothing was packed" in done.stderr
    assert [path.name for path in folder.iterdir()] == [f"{name}-20260102.tar.gz"]


def test_what_jenkins_makes_again_needs_no_room(tmp_path: Path) -> None:
    program = "jenkins/files/phoenix-jenkins-backup"
    crowded(program, tmp_path, free=517 * MIB, later=517 * MIB)
    workspace = tmp_path / "root/var/lib/jenkins/workspace/one"
    workspace.mkdir(parents=True)
    (workspace / "checkout").write_bytes(b"x" * 50 * MIB)
    done = run(program, tmp_path / "root", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
