"""What Git exports of a commit is the whole commit (phoenix.build.export), by each way that a source takes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from phoenix.build import export
from tests.harness.plays import PLAYBOOK
from tests.unit.shared import TOP, phoenixctl, read_yaml, run_ansible

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


def exported(repository: Repository, folder: Path, commit: str) -> dict[str, str]:
    """What the role's own task exports of the repository in the folder."""
    (task,) = [
        task
        for block in read_yaml(TOP / "roles" / "release" / "tasks" / "build.yml")
        for task in block.get("block", [])
        if task["name"] == "Export the source"
    ]
    given = {
        "/var/lib/phoenix/source": str(folder),
        "{{ __release_run.path }}": str(repository.top),
        "{{ __release_commit }}": commit,
    }
    words = "\0".join(task["ansible.builtin.command"]["argv"])
    for name, value in given.items():
        assert name in words
        words = words.replace(name, value)
    repository.run(words.split("\0"), repository.top)
    return content(repository.top / "source.tar")


def test_a_source_in_git_is_exported_whole(repository: Repository) -> None:
    assert exported(repository, repository.folder, repository.commit) == FILES


def test_submodules_are_fetched_and_exported_as_the_commit_names_them(repository: Repository) -> None:
    """By the role's own tasks, in the state of each commit, and with what one of them has in turn."""
    # Git itself refuses submodules from folders, which stand for a host's here.
    allowed = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "protocol.file.allow", "GIT_CONFIG_VALUE_0": "always"}
    inner, library = (Repository(repository.top / name) for name in ("inner", "library"))
    for outer, module, path in ((library, inner, "vendor/inner"), (repository, library, "lib/own")):
        outer.run(
            ["git", "-C", str(outer.folder), "submodule", "add", "-q", str(module.folder), path], outer.top, **allowed
        )
        outer.git("commit", "--quiet", "--message=module")
    first = repository.git("rev-parse", "HEAD")
    (library.folder / "lib/deep/a.js").write_text("2")
    library.git("commit", "--quiet", "--all", "--message=two")
    repository.run(["git", "-C", str(repository.folder / "lib/own"), "pull", "-q"], repository.top, **allowed)
    repository.git("commit", "--quiet", "--all", "--message=two")
    second = repository.git("rev-parse", "HEAD")

    (task,) = [
        task
        for task in read_yaml(TOP / "roles" / "release" / "tasks" / "source_git.yml")
        if task["name"] == "Check out the source"
    ]
    fetched = repository.top / "fetched"
    task["ansible.builtin.git"]["dest"] = str(fetched)
    (repository.top / "play.yml").write_text(
        json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [task]}])
    )
    given = {
        "__release_git_parts": [f"file://{repository.folder}"],
        "__release_key": {"stat": {"exists": False}},
        "__release_proxies": {},
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
    }
    words = ("-i", "localhost,", "-c", "local", "-e", json.dumps(given), repository.top / "play.yml")
    done = run_ansible(PLAYBOOK, *words, **allowed)
    assert done.returncode == 0, done.stdout + done.stderr
    for commit, text in ((first, "1"), (second, "2")):
        found = exported(repository, fetched, commit)
        own = {name: value for name, value in found.items() if not name.startswith("lib/own/")}
        assert own.pop(".gitmodules") and own == FILES
        below = {name.removeprefix("lib/own/"): found[name] for name in found.keys() - own.keys() - {".gitmodules"}}
        nested = {name: below.pop(name) for name in list(below) if name.startswith("vendor/inner/")}
        assert below.pop(".gitmodules") and below == {**FILES, "lib/deep/a.js": text}
        assert nested == {f"vendor/inner/{name}": value for name, value in FILES.items()}


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


@pytest.mark.parametrize("late", ["0", "0.3"])
def test_a_commit_without_files_is_an_empty_archive(tmp_path: Path, late: str) -> None:
    """Whether Git ends before it is read to its end or after it."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "--message=x"]):
        subprocess.run([*git, *words], check=True)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "git").write_text(f'#!/bin/sh\n/usr/bin/git "$@" || exit\n[ "$1" != archive ] || sleep {late}\n')
    (programs / "git").chmod(0o755)
    to = tmp_path / "out.tar"
    command = [f"{phoenixctl(tmp_path / 'bin')}/phoenixctl", "build", "export", "HEAD", "--output", str(to)]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PATH": f"{programs}:/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with tarfile.open(to) as archive:
        assert archive.getnames() == []
