"""What runs on the load balancers: phoenix.balancer."""

import collections
import datetime
import http.server
import io
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from phoenix.balancer import access_log as traffic
from phoenix.balancer import questions
from phoenix.balancer import upstreams as pools
from phoenix.rollout import latencies
from phoenix.rollout import plan as rollout
from phoenix.state import lock, turn


def entry(upstream: str, status: str, seconds: str = "0.003", **more: Any) -> bytes:
    values = {"method": "GET", "uri": "/", "host": "phoenix.test", "unwanted": "0"} | more
    return json.dumps(values | {"upstream": upstream, "upstream_status": status, "upstream_seconds": seconds}).encode()


def test_each_attempt_is_listed() -> None:
    rescued = entry("192.0.2.21:3000 : 192.0.2.22:3900", "502 : 200", "0.001 : 0.004")
    assert traffic.attempts(json.loads(rescued)) == [("192.0.2.21:3000", 502, 0.001), ("192.0.2.22:3900", 200, 0.004)]
    assert traffic.attempts(json.loads(entry("192.0.2.21:3000, 192.0.2.22:3000", "504, 200", "-, 0.1"))) == [
        ("192.0.2.21:3000", 504, 0.0),
        ("192.0.2.22:3000", 200, 0.1),
    ]
    assert traffic.attempts(json.loads(entry("phoenix", "502", "0.000"))) == []
    assert traffic.attempts(json.loads(entry("", "", ""))) == []
    assert traffic.attempts(json.loads(entry("192.0.2.21:3000", "-", "-"))) == [("192.0.2.21:3000", 0, 0.0)]


def test_clients_bytes_need_not_be_text() -> None:
    """nginx writes the bytes of a header as they came, and cuts them where it may be in the middle of a letter."""
    line = entry("192.0.2.21:3000", "500", agent="AGENT").replace(b"AGENT", b"M\xfcller \xe2\x80")
    assert traffic.attempts(traffic.parse(line)) == [("192.0.2.21:3000", 500, 0.003)]


def test_buckets_are_those_of_the_judge() -> None:
    for seconds in (0.0, 0.001, 0.0011, 0.05, 1.0, 29.9):
        end = latencies.quantile({latencies.bucket(seconds): 1}, 1)
        assert seconds <= end <= max(0.001, seconds) * 1.25 + 1e-9


def test_the_sample_has_the_most_frequent_plain_paths() -> None:
    lines = [entry("a:1", "200", uri="/b")] * 3 + [entry("a:1", "200", uri="/a")] * 2
    lines += [entry("a:1", "200", uri="/?token=1")] * 9 + [entry("a:1", "500", uri="/broken")] * 9
    lines += [entry("a:1", "200", uri="/post", method="POST")] * 9 + [entry("", "", uri="/crash", unwanted="1")] * 9
    lines += [entry("a:1 : b:1", "502 : 200", uri="/rescued")] * 9 + [b"not json", b""]
    lines += [entry("a:1", "200", "4.5", uri="/report")] * 9
    lines += [entry("a:1", "200", uri="/" + "x" * 1023 + "…")] * 9
    # Bytes that no client of ours could send.
    lines += [entry("a:1", "200", uri="/\u00fc")] * 9
    assert [one["path"] for one in traffic.sample(lines, 5) if "seconds" not in one] == ["/b", "/a"]
    assert traffic.sample(lines, 1)[0] == {"path": "/b", "host": "phoenix.test"}


def test_the_sample_ends_with_slow_paths_and_how_long_they_take() -> None:
    lines = [entry("a:1", "200", uri="/a")]
    # One slow answer of many is chance; a path that is slow now and then, as long polls are, is slow.
    lines += [entry("a:1", "200", "1.5", uri="/a/late")] + [entry("a:1", "200", uri="/a/late")] * 19
    lines += [entry("a:1", "200", "25.0", uri="/poll")] * 2 + [entry("a:1", "200", uri="/poll")] * 6
    lines += [entry("a:1", "200", "1.2", uri="/report")] * 5 + [entry("a:1", "200", "4.5", uri="/report")] * 7
    lines += [entry("a:1", "200", "60.0", uri="/rare")] + [entry("a:1", "504", "30.0", uri="/failing")] * 9
    assert traffic.sample(lines, 5) == [
        {"path": "/a/late", "host": "phoenix.test"},
        {"path": "/a", "host": "phoenix.test"},
        {"path": "/report", "host": "phoenix.test", "seconds": 4.5},
        {"path": "/poll", "host": "phoenix.test", "seconds": 25.0},
    ]


def test_the_watch_counts_from_its_mark_and_through_a_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "access.log"
    log.write_bytes(entry("a:1", "500") + b"\n")
    mark = f"{log.stat().st_ino}:{log.stat().st_size}"
    with log.open("ab") as file:
        file.write(entry("a:1", "200") + b"\n")

    def rotate() -> None:
        time.sleep(0.2)
        with log.open("ab") as file:
            file.write(entry("a:1", "502") + b"\n")
        log.rename(tmp_path / "access.log-20261125-1764100000")
        log.write_bytes(entry("b:1", "200") + b"\n")

    monkeypatch.setattr(traffic, "LOG", log)
    monkeypatch.setattr(pools, "set_down", lambda down: True)
    monkeypatch.setattr(pools, "place", lambda log: mark)
    thread = threading.Thread(target=rotate)
    thread.start()
    assert traffic.main(["watch", "--seconds", "1"]) == 0
    thread.join()
    seen = json.loads(capsys.readouterr().out)["servers"]
    assert (seen["a:1"]["requests"], seen["a:1"]["errors"], seen["b:1"]["requests"]) == (2, 1, 1)


def test_many_failures_end_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "access.log"
    log.write_bytes((entry("a:1", "500") + b"\n") * 5)
    monkeypatch.setattr(traffic, "LOG", log)
    asked: list[list[str]] = []

    def set_down(down: Iterable[str]) -> bool:
        asked.append(list(down))
        return True

    monkeypatch.setattr(pools, "set_down", set_down)
    monkeypatch.setattr(pools, "place", lambda log: f"{log.stat().st_ino}:0")
    start = time.monotonic()
    traffic.main(["watch", "--seconds", "30", "--canary", "a:1", "--errors", "5"])
    assert time.monotonic() - start < 5
    assert asked == [[], ["a:1"]], "into rotation first, and out of it when it failed"
    assert json.loads(capsys.readouterr().out)["servers"]["a:1"]["errors"] == 5


def test_what_the_others_answered_shortly_before_counts_as_usual() -> None:
    """Neither what a server did that is out of rotation, such as a canary that was refused, nor what is long past."""
    now = datetime.datetime(2026, 11, 26, 12, tzinfo=datetime.UTC)

    def at(seconds: float, server: str, status: str) -> bytes:
        return entry(server, status, time=(now - datetime.timedelta(seconds=seconds)).isoformat())

    counts = traffic.Watch()
    lines = [at(500, "o:1", "500"), at(20, "o:1", "500"), *[at(10, "o:1", "200")] * 99, b"cut", entry("o:1", "500")]
    counts.recall([*lines, at(5, "down:1", "500"), at(5, "c:1", "500")], now.timestamp() - 30, {"c:1", "down:1"})
    for number in range(20):
        counts.add(entry("c:1", "500" if number < 4 else "200"), 0)
        counts.add(entry("o:1", "500" if number < 1 else "200"), 0)
    seen = counts.result()["servers"]
    assert set(seen) == {"c:1", "o:1"} and (seen["o:1"]["earlier"], seen["o:1"]["earlier_errors"]) == (100, 1)
    assert (seen["o:1"]["requests"], seen["o:1"]["errors"]) == (20, 1)
    (fault,) = rollout.judge([{"servers": seen}], ["c:1"], ["o:1"], {})["faults"]
    assert "4 of its 20 answers" in fault and "the others: 1.7%" in fault
    alone = {name: {**one, "earlier": 0, "earlier_errors": 0} for name, one in seen.items()}
    assert rollout.judge([{"servers": alone}], ["c:1"], ["o:1"], {})["faults"] == [], "20 answers say less"


def test_answers_are_counted_by_kind_and_not_those_that_last_as_long_as_their_client() -> None:
    counts = traffic.Watch()
    for uri, status in (("/a", "200"), ("/a", "304"), ("/b?c=1", "200"), ("/live", "101"), ("/a", "0"), ("/a", "500")):
        counts.add(entry("c:1", status, uri=uri), 0)
    assert sorted(sum(one.values()) for one in counts.servers["c:1"].kinds.values()) == [1, 1, 1]


def letters(number: int) -> str:
    return "".join(chr(97 + int(digit)) for digit in str(number))


def test_a_scanner_takes_no_places_of_what_clients_usually_request() -> None:
    counts, now = traffic.Watch(), datetime.datetime.now(datetime.UTC)
    usual = [entry("o:1", "200", uri="/poll", time=now.isoformat())] * 2
    counts.recall(
        [*usual, *[entry("o:1", "404", uri=f"/x{letters(n)}", time=now.isoformat()) for n in range(99)]], 0, ()
    )
    for number in range(2 * latencies.KINDS):
        counts.add(entry("c:1", "404", uri=f"/x{letters(number)}"), 0)
        counts.add(entry("c:1", "200", uri=f"/y{letters(number)}"), 0)
    counts.add(entry("c:1", "200", uri="/poll"), 0)
    found = counts.result()["servers"]["c:1"]["kinds"]
    assert len(found) == latencies.KINDS + 1
    assert sum(found[latencies.kind("GET", "/poll", 200)].values()) == 1
    assert sum(found[latencies.REST].values()) == 4 * latencies.KINDS + 1 - latencies.KINDS


POOLS = """upstream phoenix {
    # app1
    server 192.0.2.21:3000 max_fails=2 fail_timeout=3s;
    server 192.0.2.22:3000 max_fails=2 fail_timeout=3s down;
}
upstream phoenix_spare {
    server 192.0.2.21:3900 max_fails=0; # app1
    server 192.0.2.22:3900;
}
"""


def test_exactly_the_named_servers_are_down() -> None:
    marked = pools.mark(POOLS, ["192.0.2.21:3000", "192.0.2.21:3900", "192.0.2.22:3900"])
    assert "192.0.2.21:3000 max_fails=2 fail_timeout=3s down;" in marked
    assert "192.0.2.22:3000 max_fails=2 fail_timeout=3s;" in marked
    assert "192.0.2.21:3900 max_fails=0 down; # app1" in marked
    assert "192.0.2.22:3900 down;" in marked
    assert pools.mark(marked, ["192.0.2.22:3000"]) == POOLS


class Application(http.server.BaseHTTPRequestHandler):
    """Answers with 500 what is not asked as a load balancer asks; records the rest."""

    seen: ClassVar[list[tuple[str, str]]] = []
    ended: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/report":
            time.sleep(1.2)
        if self.path == "/hangs":
            self.ended.wait()
        good = self.headers["X-Forwarded-Proto"] == "https" and not self.path.startswith("/broken")
        self.seen.append((self.path, str(self.headers["Host"])))
        self.send_response(200 if good else 500)
        self.send_header("Content-Length", "9" if self.path == "/events" else "0")
        self.end_headers()
        if self.path == "/events":
            self.ended.wait()  # of nine bytes, none comes

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(questions, "PAUSE_SECONDS", 0.02)
    Application.seen.clear()
    Application.ended.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Application)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    Application.ended.set()
    server.shutdown()
    server.server_close()


def watch(
    canary: str, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *more: str
) -> tuple[int, list[list[str]]]:
    """The exit status, and what was put out of rotation."""
    log = tmp_path / "access.log"
    log.write_bytes(b"")
    down: list[list[str]] = []
    monkeypatch.setattr(traffic, "LOG", log)
    monkeypatch.setattr(pools, "set_down", lambda names: down.append(list(names)))
    monkeypatch.setattr(pools, "ALONE", tmp_path / "alone")
    monkeypatch.setattr(turn, "FOLDER", tmp_path / "turn")
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(asked)))
    words = ["watch", "--seconds", "1", "--canary", canary, "--ask", "--url", "https://www.example.org", *more]
    return traffic.main(words), down


def test_a_canary_is_asked_as_clients_are_served_where_none_comes(
    canary: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [{"path": "/"}, {"path": "/b", "host": "b.example.org"}]
    assert watch(canary, asked, monkeypatch, tmp_path) == (0, [[]])
    counted = json.loads(capsys.readouterr().out)["servers"][canary]
    assert counted["asked"] == counted["requests"] > 2 and counted["errors"] == 0
    assert set(Application.seen) == {("/", "www.example.org"), ("/b", "b.example.org")}
    assert rollout.judge([{"servers": {canary: counted}}], [canary], [], {})["faults"] == []


def test_slow_paths_are_asked_beside_the_others_and_given_their_time(
    canary: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[dict[str, Any]] = [
        {"path": "/"},
        {"path": "/report", "seconds": 1.2},
        {"path": "/events", "seconds": 60},
    ]
    assert watch(canary, asked, monkeypatch, tmp_path, "--limit", "1", "--seconds", "2") == (0, [[]])
    counted = json.loads(capsys.readouterr().out)["servers"][canary]
    assert counted["errors"] == 0, "later than the limit of the others"
    often = collections.Counter(path for path, _ in Application.seen)
    assert often["/report"] and often["/"] > 3 * often["/report"], "no other path waits for it"
    assert often["/events"] > 3 * often["/report"], "a stream is left once it has begun"


@pytest.mark.parametrize(("path", "seconds"), [("/broken", 60), ("/hangs", 0.05)])
def test_slow_paths_that_fail_count_against_the_canary(
    path: str,
    seconds: float,
    canary: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[dict[str, Any]] = [{"path": "/"}, {"path": path, "seconds": seconds}]
    assert watch(canary, asked, monkeypatch, tmp_path, "--limit", "0.5")[0] == 0, "not before it serves"
    counted = json.loads(capsys.readouterr().out)["servers"][canary]
    assert 0 < counted["errors"] < counted["asked"]


@pytest.mark.parametrize(
    ("canary", "other", "few"),
    [
        ((9, 0), (0, 0), True),
        ((10, 0), (0, 0), False),
        ((9, 1), (0, 0), False),
        ((9, 0), (99, 5), True),
        ((9, 0), (100, 0), False),
    ],
)
def test_when_too_few_requests_reached_a_canary(canary: tuple[int, int], other: tuple[int, int], few: bool) -> None:
    """(requests, errors): one that fails or hangs while clients wait is not asked for longer."""
    counts = traffic.Watch()
    counts.servers = {name: traffic.Server(seen[0], 0, seen[1]) for name, seen in (("a:1", canary), ("b:1", other))}
    assert counts.too_few(["a:1"], 10) is few
    assert counts.too_few(["a:1", "c:1"], 10) is (not canary[1] and other[0] < 100), "one that nothing reached"


def test_a_canary_that_too_few_requests_reached_is_watched_for_longer(
    canary: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: now.append(now.pop() + seconds))
    log = tmp_path / "access.log"
    log.write_bytes(b"")

    def lasts(seconds: float, too_few: Callable[[], bool]) -> float:
        now[0] = 0.0
        with monkeypatch.context() as patch:
            patch.setattr(traffic, "time", clock)
            assert set(traffic.follow(f"{log.stat().st_ino}:0", log, seconds, too_few)) <= {b""}
        return round(now[0])

    assert lasts(10, lambda: False) == 10
    assert lasts(10, lambda: now[0] < 14) == 14, "until there are enough"
    assert lasts(10, lambda: now[0] < 99) == 30, "but no longer than that"
    assert lasts(0, lambda: True) == 0

    # Those that judge it add up what all load balancers counted.
    asked: list[tuple[list[str], float]] = []
    monkeypatch.setattr(traffic.Watch, "too_few", lambda self, names, enough: asked.append((names, enough)))
    assert watch(canary, [{"path": "/"}], monkeypatch, tmp_path, "--balancers", "2") == (0, [[]])
    assert asked == [([canary], 10)]


def test_a_canary_that_is_not_watched_was_asked_all_the_same(
    canary: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the runbook has it for a fix that can't wait: deploy_canary_seconds = 0."""
    assert watch(canary, [{"path": "/"}], monkeypatch, tmp_path, "--seconds", "0") == (0, [[]])
    counted = json.loads(capsys.readouterr().out)["servers"]
    assert counted[canary]["asked"] > 0
    assert rollout.judge([{"servers": counted}], [canary], [], {})["faults"] == []


def test_what_the_load_balancer_does_not_reach_gets_no_requests(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, canary: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An application that listens for its own host only passes every check there, and none here."""
    assert watch("127.0.0.1:1", [{"path": "/"}], monkeypatch, tmp_path) == (1, [])
    assert "127.0.0.1:1 answers GET / with no answer" in capsys.readouterr().err
    assert watch(canary, [{"path": "/broken?token=1"}], monkeypatch, tmp_path) == (1, [])
    assert f"{canary} answers GET /broken with status 500" in capsys.readouterr().err


def test_what_a_dead_play_left_watching_changes_no_upstreams(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, canary: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old, _ = lock.acquire(tmp_path, "ann", "deploy", 0)
    new, _ = lock.acquire(tmp_path, "ann", "deploy", 0)

    def failing(self: traffic.Watch, names: object, glances: object) -> bool:
        turn.enter(new)  # the next play comes meanwhile
        return True

    monkeypatch.setattr(traffic.Watch, "fail", failing)
    assert watch(canary, [{"path": "/"}], monkeypatch, tmp_path, "--lock", old) == (0, [[]])
    assert watch(canary, [{"path": "/"}], monkeypatch, tmp_path, "--lock", old) == (1, [])
    assert "Another play has taken the fleet's lock since" in capsys.readouterr().err
    assert pools.main(["set", "--down", canary, "--lock", old]) == 1
