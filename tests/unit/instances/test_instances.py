"""What a host's instances need, and when one counts as healthy."""

from __future__ import annotations

import argparse
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from phoenix.common import files
from phoenix.instances import instances

R = "/opt/phoenix/releases/1"


def steps(
    wanted: list[int], found: list[tuple[int, bool, bool, str, str]], restart: bool = True
) -> list[tuple[str, int]]:
    known = [instances.Instance(*values) for values in found]
    return [(step.action, step.port) for step in instances.decide(wanted, known, "new", restart)]


def test_converge() -> None:
    assert steps([3000], [(3000, True, True, "new", R)]) == []
    assert steps([3000], []) == [("enable", 3000), ("start", 3000)]
    assert steps([3000], [(3000, True, True, "old", R)]) == [("restart", 3000)]
    assert steps([], [(3000, True, True, "new", R), (3001, False, True, "", "")]) == [("stop", 3000), ("stop", 3001)]
    assert steps([3001], [(3000, False, False, "", ""), (3001, False, True, "new", R)]) == [("start", 3001)]


def test_without_restarts_running_instances_are_left_alone() -> None:
    assert steps([3000, 3001], [(3000, True, True, "old", R)], restart=False) == [("enable", 3001), ("start", 3001)]


def test_an_instance_without_a_link_gets_it_before_anything_else() -> None:
    found = [(3000, True, True, "old", ""), (3001, True, True, "old", "")]
    assert steps([3000, 3001], found) == [("link", 3000), ("link", 3001), ("restart", 3000), ("restart", 3001)]


def test_the_newest_releases_stay_and_those_in_use() -> None:
    found = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    assert instances.old_releases(found, ["d"], 2) == ["b", "a"]
    assert instances.old_releases(found, ["a"], 2) == ["c", "b"]
    assert instances.old_releases(found, ["a", "b"], 1) == ["d", "c"]
    assert instances.old_releases(found, ["d"], 9) == []


@pytest.fixture
def server() -> Iterator[Callable[[list[tuple[int, float]]], int]]:
    """Starts a server that gives these answers (status, seconds of delay) in turn and repeats the last."""
    running: list[http.server.ThreadingHTTPServer] = []

    def start(answers: list[tuple[int, float]]) -> int:
        left = list(answers)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, delay = left.pop(0) if len(left) > 1 else left[0]
                time.sleep(delay)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        running.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=running[-1].serve_forever, daemon=True).start()
        return int(running[-1].server_address[1])

    yield start
    for one in running:
        one.shutdown()
        one.server_close()


OPTIONS = argparse.Namespace(health_path="/", times=3, limit=0.3, timeout=1.5)
Server = Callable[[list[tuple[int, float]]], int]


def test_good_answers_must_be_consecutive(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "restarts", lambda port: 0)
    instances.wait_healthy(server([(200, 0), (500, 0), (404, 0)]), OPTIONS)
    with pytest.raises(instances.Unhealthy, match="last: status 500"):
        instances.wait_healthy(server([(200, 0), (200, 0), (500, 0)]), OPTIONS)
    with pytest.raises(instances.Unhealthy, match=r"last: no answer within 0\.3 s"):
        instances.wait_healthy(server([(200, 1.0)]), OPTIONS)


def test_a_crash_at_boot_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "restarts", lambda port: 5)
    start = time.monotonic()
    with pytest.raises(instances.Unhealthy, match="ended 5 times"):
        instances.wait_healthy(1, argparse.Namespace(**{**vars(OPTIONS), "timeout": 60}), crashes=5)
    assert time.monotonic() - start < 5


def test_the_rehearsal_names_the_path_without_its_query(server: Server) -> None:
    port = server([(503, 0)])
    with pytest.raises(instances.Unhealthy, match=r"GET /a with status 503") as error:
        instances.rehearse(port, [{"path": "/a?token=1", "host": "phoenix.test"}], OPTIONS)
    assert "token" not in str(error.value)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with the releases 1 and 2, on which nothing runs."""
    for name, path in {
        "TOP": tmp_path,
        "RELEASES": tmp_path / "releases",
        "LINKS": tmp_path / "instances",
        "CURRENT": tmp_path / "current",
        "STATE": tmp_path / "state",
    }.items():
        monkeypatch.setattr(instances, name, path)
    monkeypatch.setattr(instances, "systemctl", lambda *arguments: "")
    (tmp_path / "state").mkdir()
    for name in ("1", "2"):
        (tmp_path / "releases" / name).mkdir(parents=True)
        (tmp_path / "releases" / name / ".phoenix-start").touch()
    return tmp_path


def test_only_a_release_that_was_never_current_can_be_dropped(host: Path) -> None:
    assert instances.main(["activate", "--release", "1"]) == 0
    files.point(host / "instances" / "3000", str(host / "releases" / "2"))
    assert instances.main(["drop", "--release", "2"]) == 0
    assert (host / "releases" / "2").is_dir(), "an instance still runs it"
    (host / "instances" / "3000").unlink()
    for name in ("1", "2"):
        assert instances.main(["drop", "--release", name]) == 0
    assert (host / "releases" / "1").is_dir()
    assert not (host / "releases" / "2").exists()


def test_status_names_what_can_be_rolled_back_to(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    instances.main(["activate", "--release", "1"])
    capsys.readouterr()
    assert instances.main(["status"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert (seen["current"], seen["releases"], seen["kept"]) == ("1", ["1", "2"], ["1"])


def test_a_release_is_taken_only_where_none_is_current_or_restarts_are_allowed(host: Path) -> None:
    instances.main(["--release", "1", "--no-restart"])
    assert (host / "current").resolve().name == "1"
    instances.main(["--release", "2", "--no-restart"])
    assert (host / "current").resolve().name == "1"
    instances.main(["--release", "2"])
    assert (host / "current").resolve().name == "2"


def test_names_that_leave_the_folder_are_refused(host: Path) -> None:
    with pytest.raises(SystemExit):
        instances.main(["drop", "--release", "../etc"])
