"""What a host's instances need, and when one counts as healthy."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from phoenix.common import files, systemd
from phoenix.instances import cli, configurations, health, model, releases, units
from phoenix.instances.health import HealthCheck

R = "/opt/phoenix/releases/1"


def steps(
    wanted: list[int], found: list[tuple[int, bool, bool, str, str]], keep_running: bool = False
) -> list[tuple[str, int]]:
    known = [model.Instance(*values, "c" if values[-1] else "") for values in found]
    return [(step.action, step.port) for step in model.decide(wanted, known, "new", keep_running)]


def test_converge() -> None:
    assert steps([3000], [(3000, True, True, "new", R)]) == []
    assert steps([3000], []) == [("enable", 3000), ("start", 3000)]
    assert steps([3000], [(3000, True, True, "old", R)]) == [("restart", 3000)]
    assert steps([], [(3000, True, True, "new", R), (3001, False, True, "", "")]) == [("stop", 3000), ("stop", 3001)]
    assert steps([3001], [(3000, False, False, "", ""), (3001, False, True, "new", R)]) == [("start", 3001)]


def test_what_runs_may_be_in_rotation_and_is_kept() -> None:
    found = [(3000, True, True, "old", R), (3002, True, True, "new", R)]
    assert steps([3000, 3001], found, keep_running=True) == [("enable", 3001), ("start", 3001)]


def test_an_instance_without_a_link_gets_it_before_anything_else() -> None:
    found = [(3000, True, True, "old", ""), (3001, True, True, "old", "")]
    assert steps([3000, 3001], found) == [("link", 3000), ("link", 3001), ("restart", 3000), ("restart", 3001)]


def test_the_newest_releases_stay_and_those_in_use() -> None:
    found = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    assert releases.old(found, ["d"], 2) == ["b", "a"]
    assert releases.old(found, ["a"], 2) == ["c", "b"]
    assert releases.old(found, ["a", "b"], 1) == ["d", "c"]
    assert releases.old(found, ["d"], 9) == []


@pytest.fixture
def server() -> Iterator[Callable[[list[tuple[int, float]]], int]]:
    """Starts a server that gives these answers (status, seconds of delay) in turn and repeats the last."""
    running: list[http.server.ThreadingHTTPServer] = []

    def start(answers: list[tuple[int, float]], address: str = "") -> int:
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

        running.append(http.server.ThreadingHTTPServer((address, 0), Handler))
        threading.Thread(target=running[-1].serve_forever, daemon=True).start()
        return int(running[-1].server_address[1])

    yield start
    for one in running:
        one.shutdown()
        one.server_close()


# Where the test is not about an answer that is late, it may take its time, on a busy machine too.
CHECK = HealthCheck("/", times=3, limit=20, timeout=60)
Server = Callable[..., int]


def test_good_answers_must_be_consecutive(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "restarts", lambda port: 0)
    health.wait(server([(200, 0), (500, 0), (404, 0)]), CHECK)
    with pytest.raises(health.Unhealthy, match="last: status 500"):
        health.wait(server([(200, 0), (200, 0), (500, 0)]), replace(CHECK, timeout=1.5))
    with pytest.raises(health.Unhealthy, match=r"last: no complete answer within 0\.3 s"):
        health.wait(server([(200, 1.0)]), replace(CHECK, limit=0.3, timeout=1.5))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
def test_what_listens_for_its_own_host_only_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """It answers every check made there, and no load balancer reaches it."""
    monkeypatch.setattr(units, "restarts", lambda port: 0)
    monkeypatch.setattr(health, "ask", lambda *asked, **more: "")
    with pytest.raises(health.Unhealthy, match="listens on a loopback address only"):
        health.wait(server([(200, 0)], address), replace(CHECK, timeout=1.5))
    health.wait(server([(200, 0)]), CHECK)


def test_one_error_in_a_rehearsal_is_chance(server: Server) -> None:
    health.rehearse(server([(500, 0), (500, 0), (200, 0)]), [{"path": "/a"}], 20)
    with pytest.raises(health.Unhealthy):
        health.rehearse(server([(500, 0)]), [{"path": "/a"}], 20)


def test_a_crash_at_boot_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "restarts", lambda port: 5)
    start = time.monotonic()
    with pytest.raises(health.Unhealthy, match="ended 5 times"):
        health.wait(1, replace(CHECK, timeout=60), crashes=5)
    assert time.monotonic() - start < 5


def test_a_stream_without_an_end_blocks_nothing() -> None:
    """Server-sent events every 50 ms: a rehearsal is satisfied, and a health check is not, in its time."""

    class Endless(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b"data: x\n\n")
                    time.sleep(0.05)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        port = server.server_address[1]
        health.rehearse(port, [{"path": "/events"}], 0.5)
        assert health.ask(port, "/events", 0.5) == "no complete answer within 0.5 s"
    finally:
        server.shutdown()
        server.server_close()


def test_the_rehearsal_names_the_path_without_its_query(server: Server) -> None:
    port = server([(503, 0)])
    with pytest.raises(health.Unhealthy, match=r"GET /a with status 503") as error:
        health.rehearse(port, [{"path": "/a?token=1", "host": "phoenix.test"}], 20)
    assert "token" not in str(error.value)


def test_only_a_release_that_was_never_current_can_be_dropped(host: Path) -> None:
    assert cli.main(["activate", "--release", "1"]) == 0
    files.point(host / "instances" / "3000", str(host / "releases" / "2"))
    assert cli.main(["drop", "--release", "2"]) == 0
    assert (host / "releases" / "2").is_dir(), "an instance still runs it"
    (host / "instances" / "3000").unlink()
    for name in ("1", "2"):
        assert cli.main(["drop", "--release", name]) == 0
    assert (host / "releases" / "1").is_dir()
    assert not (host / "releases" / "2").exists()


def test_status_names_what_can_be_rolled_back_to(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["activate", "--release", "1"])
    capsys.readouterr()
    assert cli.main(["status"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert (seen["current"], seen["releases"], seen["kept"]) == ("1", ["1", "2"], ["1"])


def test_what_was_changed_is_printed_as_one_line_of_json(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["activate", "--release", "1"]) == 0
    assert json.loads(capsys.readouterr().out) == {"changed": [{"action": "current", "release": "1"}]}
    assert cli.main(["activate", "--release", "1"]) == 0
    assert json.loads(capsys.readouterr().out) == {"changed": []}
    assert cli.main(["switch", "--release", "9", "3000"]) == 1
    assert json.loads(capsys.readouterr().out) == {"changed": [{"action": "switch", "port": 3000}]}


def test_an_instance_is_stopped_once_for_all_and_forgotten(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, ...]] = []

    def systemctl(*arguments: str) -> str:
        ran.append(arguments)
        return ""

    monkeypatch.setattr(systemd, "systemctl", systemctl)
    monkeypatch.setattr(units, "reset_failed", lambda ports: None)
    (host / "state" / "3001").write_text("revision")
    units.link([3001], str(host / "releases" / "1"), configurations.write("t", "u", "e"))
    units.stop([3001], 0)
    assert ran[1:] == [("disable", "--quiet", "--now", "phoenix@3001.service")]
    assert units.find() == []
    assert not (host / "instances" / "3001").is_symlink()
    assert configurations.of(3001) == ""


def test_a_release_is_taken_only_where_none_is_current_or_restarts_are_allowed(host: Path) -> None:
    cli.main(["converge", "--release", "1", "--keep-running"])
    assert (host / "current").resolve().name == "1"
    cli.main(["converge", "--release", "2", "--keep-running"])
    assert (host / "current").resolve().name == "1"
    cli.main(["converge", "--release", "2"])
    assert (host / "current").resolve().name == "2"


def test_names_that_leave_the_folder_are_refused(host: Path) -> None:
    with pytest.raises(SystemExit):
        cli.main(["drop", "--release", "../etc"])


def test_an_application_that_relies_on_a_proxys_headers_is_healthy() -> None:
    class Relying(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            by_proxy = self.headers["X-Forwarded-For"] and self.headers["X-Forwarded-Proto"] == "https"
            self.send_response(200 if by_proxy else 500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Relying) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert health.ask(server.server_address[1], "/", 2) == ""
        server.shutdown()
