"""The state of each run on the Git host: what is sent, once, and what happens when the host does not accept it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from phoenix.pipeline import runs, status
from phoenix.pipeline.status import HOSTS, Target
from tests.unit.shared import TOP, rendered

ONE, TWO, THREE = ("1" * 40, "2" * 40, "3" * 40)


class GitHost:
    """An HTTP server that records requests, and answers with `code`."""

    def __init__(self) -> None:
        self.code, self.got = 201, list[dict[str, Any]]()
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                host.got.append({"path": self.path, "headers": dict(self.headers), **body})
                self.send_response(host.code)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def do_GET(self) -> None:
                host.got.append({"path": self.path, "headers": dict(self.headers)})
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Keep the output to what failed."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api/v1/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def states(self) -> list[tuple[str, str]]:
        return [(one["path"].rpartition("/")[2][:1], one["state"]) for one in self.got]


@pytest.fixture
def git_host() -> Iterator[GitHost]:
    host = GitHost()
    yield host
    host.server.shutdown()
    host.server.server_close()


class Runs:
    """The folder of the pipeline, and what the Git host has of it."""

    def __init__(self, top: Path, host: GitHost, kind: str = "gitea") -> None:
        self.top, self.target = (
            top,
            Target(HOSTS[kind], host.url, "acme/shop", "of-the-vault", "https://ci.example.org/"),
        )
        self.now = 1000.0
        for name in ("queue", "runs"):
            (top / name).mkdir()

    def ended(self, commit: str, result: str, **stages: int) -> None:
        folder = self.top / "runs" / commit
        folder.mkdir(exist_ok=True)
        (folder / "result").write_text(f"{result}\n")
        (folder / "stages.json").write_text(json.dumps({name: {"status": code} for name, code in stages.items()}))
        (self.top / "queue" / commit).unlink(missing_ok=True)
        (self.top / "runs" / ".running").unlink(missing_ok=True)

    def waits(self, commit: str) -> None:
        (self.top / "queue" / commit).touch()

    def runs(self, commit: str) -> None:
        self.waits(commit)
        (self.top / "runs" / ".running").write_text(f"{commit}\n")

    def report(self) -> int:
        return status.report(self.target, self.top / "reported.json", self.top, now=lambda: self.now)


@pytest.mark.parametrize(
    ("kind", "expected", "path", "header"),
    [
        ("github", ["pending", "pending", "success"], f"/api/v1/repos/acme/shop/statuses/{ONE}", "Authorization"),
        ("gitlab", ["pending", "running", "success"], f"/api/v1/projects/acme%2Fshop/statuses/{ONE}", "Private-Token"),
        ("gitea", ["pending", "pending", "success"], f"/api/v1/repos/acme/shop/statuses/{ONE}", "Authorization"),
    ],
)
def test_each_state_is_sent_once(
    tmp_path: Path, git_host: GitHost, kind: str, expected: list[str], path: str, header: str
) -> None:
    folder = Runs(tmp_path, git_host, kind)
    folder.waits(ONE)
    assert folder.report() == folder.report() == 0
    folder.runs(ONE)
    assert folder.report() == folder.report() == 0
    folder.ended(ONE, "good", lint=0)
    assert folder.report() == folder.report() == 0
    assert [one["state"] for one in git_host.got] == expected
    assert {one["path"] for one in git_host.got} == {path}
    assert git_host.got[0]["target_url"] == "https://ci.example.org/"
    sent = {name.title(): value for name, value in git_host.got[0]["headers"].items()}
    assert sent[header].split()[-1] == "of-the-vault"


def test_three_pushes_show_what_became_of_each(tmp_path: Path, git_host: GitHost) -> None:
    folder = Runs(tmp_path, git_host)
    folder.runs(ONE)
    folder.waits(TWO)
    folder.waits(THREE)
    assert folder.report() == 0
    folder.ended(ONE, "failed", lint=0, test=1)
    folder.ended(TWO, "superseded")
    folder.runs(THREE)
    assert folder.report() == 0
    folder.ended(THREE, "good")
    assert folder.report() == 0
    of_one = [(one["state"], one["description"]) for one in git_host.got if one["path"].endswith(ONE)]
    assert of_one[-1] == ("failure", "Failed: test")
    assert git_host.states()[-1] == ("3", "success")
    assert ("2", "error") in git_host.states()


def test_a_host_that_is_away_is_asked_again_and_becomes_an_alarm(
    tmp_path: Path, git_host: GitHost, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Runs(tmp_path, git_host)
    folder.ended(ONE, "good")
    git_host.code = 503
    assert folder.report() == 75
    folder.now += status.PATIENCE_S + 1
    assert folder.report() == 1
    git_host.code = 201
    assert folder.report() == 0
    assert len(git_host.got) == 3
    folder.ended(TWO, "good")
    git_host.code = 422
    assert folder.report() == 75
    folder.now += status.GIVE_UP_S + 1
    assert folder.report() == 1
    assert "given up" in capsys.readouterr().out
    assert folder.report() == 0


def test_a_token_goes_nowhere_else(tmp_path: Path, git_host: GitHost) -> None:
    folder = Runs(tmp_path, git_host)
    folder.ended(ONE, "good")
    git_host.code = 302
    assert folder.report() == 75
    assert "/elsewhere" not in [one["path"] for one in git_host.got]


def test_what_was_pushed_can_neither_hold_up_nor_read_anything(tmp_path: Path, git_host: GitHost) -> None:
    """The folder is writable to it: links, pipes and other words are no states."""
    secret = tmp_path / "token"
    secret.write_text("good")
    folder = Runs(tmp_path, git_host)
    for commit, trick in (
        (ONE, f"ln -s {secret} result"),
        (TWO, "mkfifo result stages.json"),
        (THREE, "echo good; echo x >result"),
    ):
        (tmp_path / "runs" / commit).mkdir()
        subprocess.run(["sh", "-c", trick], cwd=tmp_path / "runs" / commit, check=True, capture_output=True)
    (tmp_path / "runs" / "..x").mkdir()
    subprocess.run(["mkfifo", str(tmp_path / "runs" / ".running")], check=True)
    assert folder.report() == 0
    assert git_host.got == []
    assert runs.failed_stage(TWO, tmp_path) == ""


def test_the_token_is_in_one_units_reach() -> None:
    templates = TOP / "roles" / "ci" / "templates"
    assert "LoadCredential=token:" in rendered(templates / "phoenix-ci-status.service.j2")
    assert "token" not in rendered(templates / "phoenix-ci.service.j2")
    assert "DynamicUser=yes" in rendered(templates / "phoenix-ci-status.service.j2")


def test_a_link_reaches_the_program_as_it_is() -> None:
    """That of a log's viewer often holds % and $, which systemd reads as its own."""
    link = "https://logs.example.org/explore?q=%7Bunit%7D&var=$host"
    settings = {"ci_status_host": "github", "ci_status_api": "https://api.github.com", "ci_status_project": "a/b"}
    path = TOP / "roles" / "ci" / "templates" / "phoenix-ci-status.service.j2"
    (line,) = re.findall(r"(?m)^ExecStart=(.+)$", rendered(path, {**settings, "ci_status_link": link}))
    assert not re.search(r"(?<![%])%(?!%)|(?<![$])[$](?![$])", line)
    assert shlex.split(line.replace("%%", "%").replace("$$", "$"))[-1] == link
