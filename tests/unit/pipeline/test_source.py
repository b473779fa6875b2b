"""A Git host that is asked (phoenix.pipeline.source): none of its heads is lost, and its silence is told."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import threading
from pathlib import Path

import pytest

from phoenix.pipeline import cli, source
from tests.unit.shared import TOP, Clock, rendered

TEMPLATES = TOP / "roles" / "ci" / "templates"


class Host:
    """A Git host's repository, and the pipeline's folder with its own."""

    def __init__(self, top: Path) -> None:
        self.work, self.url, self.top = top / "work", top / "host.git", top / "ci"
        (self.top / "queue").mkdir(parents=True)
        for words in (["--bare", str(self.url)], ["--bare", str(self.top / "application.git")], [str(self.work)]):
            subprocess.run(["git", "init", "--quiet", "--initial-branch=main", *words], check=True)
        self.number = 0
        self.source = source.Source(str(self.url), "main", self.top)

    def git(self, *words: str) -> str:
        command = ["git", "-C", str(self.work), "-c", "user.name=x", "-c", "user.email=x@example.org", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def push(self, branch: str = "main") -> str:
        self.number += 1
        self.git("commit", "--quiet", "--allow-empty", f"--message={self.number}")
        self.git("push", "--quiet", "--force", str(self.url), f"HEAD:refs/heads/{branch}")
        return self.git("rev-parse", "HEAD")

    def waiting(self) -> set[str]:
        return {path.name for path in (self.top / "queue").iterdir()}

    def own(self, *words: str) -> str:
        command = ["git", "-C", str(self.top / "application.git"), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """With a first head that is known."""
    host = Host(tmp_path)
    host.push()
    assert source.ask(host.source) == 0
    return host


def test_the_first_head_is_fetched_and_the_next_one_waits(host: Host) -> None:
    """Nobody has pushed the first one to this pipeline."""
    assert host.waiting() == set()
    assert host.own("rev-parse", "main") == host.git("rev-parse", "HEAD")
    head = host.push()
    assert source.ask(host.source) == 0
    assert host.waiting() == {head}
    # Where the run takes it from.
    assert host.own("rev-parse", "main") == head


def test_a_head_waits_once_and_an_unchanged_answer_writes_nothing(host: Host) -> None:
    head = host.push()
    assert source.ask(host.source) == 0
    (host.top / "queue" / head).unlink()
    before = host.source.record.stat()
    assert source.ask(host.source) == 0
    assert host.waiting() == set()
    assert host.source.record.stat().st_ino == before.st_ino


def test_a_head_that_is_forced_back_waits_again(host: Host) -> None:
    good = host.push()
    assert source.ask(host.source) == 0
    host.push()
    assert source.ask(host.source) == 0
    for path in (host.top / "queue").iterdir():
        path.unlink()
    host.git("push", "--quiet", "--force", str(host.url), f"{good}:main")
    assert source.ask(host.source) == 0
    assert (host.waiting(), host.own("rev-parse", "main")) == ({good}, good)


def test_of_pushes_at_any_moment_the_last_one_waits(host: Host) -> None:
    pushed: list[str] = []
    pushing = threading.Thread(target=lambda: pushed.extend(host.push() for _ in range(8)))
    pushing.start()
    while pushing.is_alive():
        assert source.ask(host.source) == 0
    assert source.ask(host.source) == 0
    assert pushed[-1] in host.waiting() <= set(pushed)


@pytest.mark.parametrize("step", ["fetch", "queue", "note"])
def test_a_cut_between_two_steps_loses_no_head(host: Host, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    head = host.push()

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(source.Source, step, cut)
        with pytest.raises(KeyboardInterrupt):
            source.ask(host.source)
    assert source.ask(host.source) == 0
    assert host.waiting() == {head}


@pytest.mark.parametrize("taken", [Path.touch, Path.mkdir, lambda path: path.symlink_to("/etc/passwd")])
def test_what_has_the_heads_name_in_the_queue_stands_for_it(host: Host, taken: object) -> None:
    """The checks may write there."""
    before = Path("/etc/passwd").stat().st_mtime_ns
    taken(host.top / "queue" / host.push())  # type: ignore[operator]
    assert source.ask(host.source) == 0
    assert len(host.waiting()) == 1
    assert Path("/etc/passwd").stat().st_mtime_ns == before


def test_a_host_that_does_not_answer_is_an_error_after_a_while(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(1000.0)
    host.url.rename(tmp_path / "away")
    assert source.ask(host.source, clock) == source.LATER
    clock.now += source.PATIENCE_S
    assert source.ask(host.source, clock) == source.LATER
    clock.now += 1
    assert source.ask(host.source, clock) == source.FAILED
    assert str(host.url) in capsys.readouterr().out
    (tmp_path / "away").rename(host.url)
    head = host.push()
    assert source.ask(host.source, clock) == 0
    assert host.waiting() == {head}
    # The patience begins anew.
    host.url.rename(tmp_path / "away")
    assert source.ask(host.source, clock) == source.LATER


def test_another_source_begins_anew(host: Host) -> None:
    host.push("next/main")
    other = source.Source(str(host.url), "next/main", host.top)
    assert source.ask(other) == 0
    assert host.waiting() == set()
    assert source.ask(host.source) == 0
    assert host.waiting() == set()


def test_a_branch_is_known_by_its_whole_name(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """`git ls-remote` matches the end of names."""
    host.push("refs/heads/other")
    assert source.ask(source.Source(str(host.url), "other", host.top)) == source.LATER
    assert "there is no branch other" in capsys.readouterr().out


def test_a_damaged_record_is_as_none(host: Host) -> None:
    for text in ("", "[]", "{}", '{"of": 1}'):
        host.source.record.write_text(text)
        assert source.ask(host.source) == 0
        assert json.loads(host.source.record.read_text())["queued"] == host.own("rev-parse", "main")


def test_git_takes_the_units_key_and_known_hosts_alone(tmp_path: Path) -> None:
    outer = {"PATH": "/bin", "GIT_DIR": "/elsewhere", "GIT_SSH_COMMAND": "other"}
    without = source.environment(outer, "")
    assert "GIT_DIR" not in without
    assert without["GIT_TERMINAL_PROMPT"] == "0"
    assert "-i" not in shlex.split(without["GIT_SSH_COMMAND"])
    (tmp_path / "source-key").touch()
    words = shlex.split(source.environment(outer, str(tmp_path))["GIT_SSH_COMMAND"])
    assert words[words.index("-i") + 1] == f"{tmp_path}/source-key"
    assert {
        "IdentitiesOnly=yes",
        "StrictHostKeyChecking=yes",
        f"UserKnownHostsFile={tmp_path}/source-known-hosts",
    } <= set(words)


def test_over_ssh_the_key_is_what_git_hands_on(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a program that stands for SSH: it notes its options, and asks the host on this machine."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ssh").write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/words\nfor word; do :; done\nexec sh -c "$word"\n'
    )
    (tmp_path / "bin" / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=":")
    credentials = tmp_path / "with a space"
    credentials.mkdir()
    (credentials / "source-key").touch()
    over = source.Source(f"git@git.example.org:{host.url}", "main", host.top, str(credentials))
    assert source.ask(over) == 0
    head = host.push()
    assert source.ask(over) == 0
    assert host.waiting() == {head}
    words = (tmp_path / "words").read_text().splitlines()
    assert words[words.index("-i") + 1] == f"{credentials}/source-key"
    assert "git@git.example.org" in words


def test_the_units_line_is_what_the_program_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://git.example.org/acme/a%20shop$x.git"
    text = rendered(TEMPLATES / "phoenix-ci-source.service.j2", {"ci_source": url})
    (line,) = re.findall(r"(?m)^ExecStart=(.+)$", text)
    asked: list[source.Source] = []

    def ask(one: source.Source) -> int:
        asked.append(one)
        return 0

    monkeypatch.setattr(source, "ask", ask)
    words = shlex.split(line.replace("%%", "%").replace("$$", "$"))
    assert words[:2] == ["/usr/local/bin/phoenixctl", "pipeline"]
    assert cli.main(words[2:]) == 0
    assert [(one.url, one.branch) for one in asked] == [(url, "main")]
    assert cli.main(["fetch", url]) == 64


@pytest.mark.parametrize(
    ("url", "ssh"),
    [
        ("git@git.example.org:acme/shop.git", True),
        ("ssh://git@git.example.org:2222/acme/shop.git", True),
        ("https://git.example.org/acme/shop.git", False),
        ("", False),
    ],
)
def test_the_key_is_the_credential_of_one_unit(url: str, ssh: bool) -> None:
    asks = rendered(TEMPLATES / "phoenix-ci-source.service.j2", {"ci_source": url})
    assert ("LoadCredential=source-key:" in asks) == ssh
    assert "/var/lib/phoenix-deliver" in re.findall(r"(?m)^InaccessiblePaths=(.+)$", asks)[0]
    for unit in ("phoenix-ci.service.j2", "phoenix-ci-hook@.service.j2"):
        assert "source-key" not in rendered(TEMPLATES / unit, {"ci_source": url})
