"""What Git exports of a commit is the whole commit (phoenix.build.export), by each way that a source takes."""

from __future__ import annotations

import os
import shlex
import subprocess
import tarfile
from pathlib import Path

import pytest

from phoenix.build import export
from tests.unit.shared import TOP, phoenixctl, read_yaml

STAGE = TOP / "roles" / "ci" / "files" / "phoenix-stage"
FILES = {
    "package.json": '{"version": "1.2.3"}',
    "version.txt": "$Format:%H$",
    "fixtures/seed.json": "{}",
    "fixtures/.gitattributes": "* export-ignore\n",
    "lib/deep/a.js": "1",
    ".gitattributes": "[attr]hidden export-ignore\n/fixtures export-ignore\nlib/** hidden\nversion.txt export-subst\n",
}


class Repository:
    """A real repository, whose commit would keep files from an export, and `phoenixctl` as a program."""

    def __init__(self, top: Path) -> None:
        self.top, self.folder = top, top / "source"
        for name, text in FILES.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        self.git("init", "--quiet")
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--message=x")
        self.commit = self.git("rev-parse", "HEAD")
        self.bin = phoenixctl(top / "bin")

    def git(self, *words: str) -> str:
        command = ["git", "-C", str(self.folder), "-c", "user.name=x", "-c", "user.email=x@example.org", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def run(self, words: list[str], folder: Path, **environment: str) -> None:
        own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        own |= {"PATH": f"{self.bin}:/usr/bin:/bin", **environment}
        done = subprocess.run(words, cwd=folder, env=own, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def content(archive: Path) -> dict[str, str]:
    with tarfile.open(archive) as tar:
        files = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
        return {name: file.read().decode() for name, file in files.items() if file}


def test_git_itself_leaves_files_out(repository: Repository) -> None:
    """The control of the tests below."""
    repository.git("archive", "--format=tar", f"--output={repository.top / 'a.tar'}", "HEAD")
    found = content(repository.top / "a.tar")
    assert set(found) == {"package.json", "version.txt", ".gitattributes"}
    assert found["version.txt"] == repository.commit


def test_a_source_in_git_is_exported_whole(repository: Repository) -> None:
    """By the task of the role itself."""
    (task,) = [
        task
        for block in read_yaml(TOP / "roles" / "release" / "tasks" / "build.yml")
        for task in block.get("block", [])
        if task["name"] == "Export the source"
    ]
    given = {
        "/var/lib/phoenix/source": str(repository.folder),
        "{{ __release_run.path }}": str(repository.top),
        "{{ __release_commit }}": repository.commit,
    }
    words = "\0".join(task["ansible.builtin.command"]["argv"])
    for name, value in given.items():
        assert name in words
        words = words.replace(name, value)
    repository.run(words.split("\0"), repository.top)
    assert content(repository.top / "source.tar") == FILES


@pytest.mark.parametrize("bare", [True, False])
def test_the_pipeline_packs_the_source_whole(repository: Repository, bare: bool) -> None:
    """From the repository beside it, as phoenix-deliver does, and in a checkout, as Jenkins' agent does."""
    work = repository.folder
    environment = {"PHOENIX_DEPLOY": str(repository.bin / "control"), "PHOENIX_COMMIT": repository.commit}
    if bare:
        environment["GIT_DIR"] = str(repository.top / "application.git")
        repository.git("clone", "--quiet", "--bare", ".", environment["GIT_DIR"])
        work = repository.top / "work"
        work.mkdir()
    sent = repository.top / "sent.tar"
    (repository.bin / "control").write_text(f"#!/bin/sh\ncat >{shlex.quote(str(sent))}; echo 1.2.3-x\n")
    (repository.bin / "control").chmod(0o755)
    repository.run([str(STAGE), "package"], work, **environment)
    assert content(sent) == FILES


@pytest.mark.parametrize("before", [b"", b"*.js diff\n", b"*.js diff", b"fixtures export-ignore\n"])
def test_attributes_of_the_repository_stay_and_are_written_once(repository: Repository, before: bytes) -> None:
    path = repository.folder / ".git" / "info" / "attributes"
    path.write_bytes(before)
    export.keep_whole(repository.folder)
    after = path.read_bytes()
    assert after.splitlines() == [*before.splitlines(), export.WHOLE.strip()]
    written = path.stat().st_ino
    export.keep_whole(repository.folder)
    assert (path.read_bytes(), path.stat().st_ino) == (after, written)
    assert (
        export.main([repository.commit, f"--repository={repository.folder}", f"--output={repository.top}/a.tar"]) == 0
    )
    assert content(repository.top / "a.tar") == FILES


def test_in_a_further_work_tree_it_is_whole_as_well(repository: Repository) -> None:
    """Git reads the attributes of the repository that it belongs to."""
    repository.git("worktree", "add", "--quiet", str(repository.top / "further"))
    words = [f"--repository={repository.top / 'further'}", f"--output={repository.top / 'a.tar'}"]
    assert export.main(["HEAD", *words]) == 0
    assert content(repository.top / "a.tar") == FILES


def test_what_is_no_repository_or_no_commit_is_an_error(
    repository: Repository, capfd: pytest.CaptureFixture[str]
) -> None:
    outside = repository.top / "outside"
    outside.mkdir()
    assert export.main(["HEAD", f"--repository={outside}"]) == 1
    assert "not a git repository" in capfd.readouterr().err
    assert export.main(["0" * 40, f"--repository={repository.folder}"]) != 0
    assert "0" * 40 in capfd.readouterr().err
