"""Which files of a folder are the application's source."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from phoenix.build import npm, source
from tests.harness.plays import PLAYBOOK
from tests.unit.shared import TOP, read_yaml, run_ansible, trusted

FILES = {
    ".gitignore": "/dist/\n.env\n",
    ".npmignore": "notes/\n",
    "package.json": '{"version": "1.2.3"}',
    "server.js": "1",
    "lib/coverage/a.js": "1",
    "dist/forced.js": "1",
    "notes/tracked.md": "1",
}
LEFT_OVER = {
    ".env": "SECRET=1",
    "dist/made.js": "1",
    "notes/own.md": "1",
    "node_modules/ms/index.js": "1",
    "npm-debug.log": "1",
}


def write(folder: Path, contents: dict[str, str]) -> None:
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def git(folder: Path, *words: str) -> None:
    subprocess.run(
        ["git", "-C", str(folder), "-c", "protocol.file.allow=always", *words], check=True, capture_output=True
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "application"
    write(folder, FILES)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all", "--force")
    write(folder, LEFT_OVER)
    return folder


def names(folder: Path) -> set[str]:
    return {path.as_posix() for path in source.members(folder)}


def test_what_git_tracks_is_the_source_and_what_is_ignored_is_not(checkout: Path) -> None:
    assert names(checkout) == set(FILES)


def test_what_git_does_not_know_yet_belongs_to_it_and_what_is_deleted_does_not(checkout: Path) -> None:
    write(checkout, {"new.js": "1"})
    (checkout / "server.js").unlink()
    (checkout / "link").symlink_to("/nonexistent")
    assert names(checkout) == (set(FILES) | {"new.js", "link"}) - {"server.js"}


def test_ignored_files_do_not_change_the_name(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def digest() -> str:
        assert source.main([str(checkout), str(tmp_path / "packed")]) == 0
        return str(json.loads(capsys.readouterr().out)["sha256"])

    before = digest()
    write(checkout, {".env": "SECRET=2", "node_modules/ms/new.js": "1"})
    assert digest() == before
    write(checkout, {"server.js": "2"})
    assert digest() != before


def test_a_folder_within_a_checkout(checkout: Path) -> None:
    write(checkout, {"packages/web/package.json": "{}", "packages/web/.env": "SECRET=1"})
    assert names(checkout / "packages" / "web") == {"package.json"}


def test_a_submodule_is_part_of_the_source(checkout: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    write(library, {"index.js": "1"})
    git(library, "init", "--quiet")
    git(library, "add", "--all")
    git(library, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "--quiet", "--message=x")
    git(checkout, "submodule", "--quiet", "add", str(library), "library")
    assert "library/index.js" in names(checkout)
    assert not [name for name in names(checkout) if name.startswith("library/.git/")]


@pytest.mark.parametrize("outside", ["no checkout", "an ignored folder of one"])
def test_outside_git_the_same_rules_hold(tmp_path: Path, outside: str) -> None:
    folder = tmp_path / "application"
    write(folder, {**FILES, **LEFT_OVER})
    if outside != "no checkout":
        git(tmp_path, "init", "--quiet")
        write(tmp_path, {".gitignore": "application\n"})
    assert names(folder) == set(FILES) - {"dist/forced.js", "notes/tracked.md"}
    assert not (folder / ".git").exists()


def test_a_folder_that_git_exported_is_packed_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, {**FILES, "coverage/a.js": "1"})
    assert {path.as_posix() for path in source.everything(tmp_path)} == {*FILES, "coverage/a.js"}


def test_without_git_nothing_is_guessed(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert source.main([str(checkout), str(checkout)]) == 1


def test_where_ansible_runs_former_builds_do_not_pile_up(tmp_path: Path) -> None:
    """For the pipeline that is control, whose disk got a source and a release with each push."""
    former = ["source-0123456789abcdef.tar", "1.0.0-01234567.tar.gz", "1.0.0-beta.1-01234567-node20.1.0.tar.gz"]
    kept = ["2.0.0+a-89abcdef.tar.gz", "mongodb-6.0.5.tar.gz", "source-code.tar", "notes"]
    for name in (*former, *kept, "1.1.0-fedcba98.tar.gz"):
        (tmp_path / name).touch()
        if name != "1.1.0-fedcba98.tar.gz":  # of today
            os.utime(tmp_path / name, (0, 0))
    forget = str(TOP / "roles" / "release" / "tasks" / "forget.yml")
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"release_local_directory": str(tmp_path), "__release_name": "2.0.0+a-89abcdef"},
        "tasks": [{"ansible.builtin.include_tasks": forget}],
    }
    playbook = tmp_path / "play.yml"
    playbook.write_text(json.dumps([play]))
    done = run_ansible(PLAYBOOK, "-i", "localhost,", "-c", "local", "-e", "ansible_become=false", playbook)
    assert done.returncode == 0, done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "1.1.0-fedcba98.tar.gz", "play.yml"}


def named(folder: Path, version: str, places: Path, present: bool, built: list[str]) -> tuple[int, str]:
    """Take the source in the folder for the release of this name: status and output. The rest is the build host's."""
    role = {"name": str(TOP / "roles" / "release"), "tasks_from": "source"}
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [{"ansible.builtin.include_role": role}]}
    playbook = places / "play.yml"
    playbook.write_text(json.dumps([play]))
    given = {
        "release_source": str(folder),
        "release_version": version,
        "release_local_directory": str(places / "packed"),
        "__release_known": {"present": present, "built": built},
        "ansible_become": False,
    }
    done = run_ansible(PLAYBOOK, "-i", "localhost,", "-c", "local", "-e", json.dumps(given), playbook)
    return done.returncode, " ".join(done.stdout.split())


def test_what_a_source_holds_is_not_built_under_the_name_of_another_release(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert source.main([str(checkout), str(tmp_path / "packed")]) == 0
    own, other = "1.2.3-" + json.loads(capsys.readouterr().out)["sha256"][:8], "1.0.0-89abcdef"
    # Absent or damaged, which the build host reports alike.
    status, output = named(checkout, other, tmp_path, present=False, built=["1.0.0-01234567"])
    assert status != 0
    assert f"The release {other} is not on localhost, or its archive is damaged, and {checkout} is {own}." in output
    assert "Built there: 1.0.0-01234567. Name one of these" in output
    assert named(checkout, own, tmp_path, present=False, built=[])[0] == 0
    # One that is there needs no source.
    assert named(tmp_path / "gone", other, tmp_path, present=True, built=[other])[0] == 0


class Proxy(http.server.BaseHTTPRequestHandler):
    """Notes what it is asked for, as a proxy is: by whole addresses."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        pass


def test_a_source_in_git_is_fetched_through_the_builds_proxy_and_gets_nothing_else_of_it() -> None:
    tasks = {task["name"]: task for task in read_yaml(TOP / "roles" / "release" / "tasks" / "source_git.yml")}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        every = dict.fromkeys(npm.PROXIES, f"http://127.0.0.1:{server.server_port}")
        variables = {
            **{
                name: trusted(value)
                for name, value in read_yaml(TOP / "roles" / "release" / "vars" / "main.yml").items()
            },
            "release_environment": {**every, "no_proxy": "", "NO_PROXY": "", "GIT_DIR": "/elsewhere", "BRANCH": "main"},
        }
        own = Templar(loader=DataLoader(), variables=variables).template(
            trust_as_template(tasks["Check out the source"]["environment"])
        )
        assert set(own) == set(npm.PROXIES)
        words = ["git", "ls-remote", "http://git.example.org/application.git"]
        subprocess.run(words, env={"PATH": os.environ["PATH"], **own}, capture_output=True, check=False)
        server.shutdown()
    assert Proxy.asked == ["http://git.example.org/application.git/info/refs?service=git-upload-pack"]
