"""The promises of the role `nginx`, checked with stand-ins for instances that record their requests."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from secrets import token_hex
from typing import Any

import pytest
from testinfra.host import Host

from tests.harness.hosts import remote
from tests.harness.load import assert_none_failed
from tests.harness.waiting import wait_for
from tests.harness.wire import Answer, Client, Request
from tests.unit.shared import TOP, read_yaml

INSTANCES, SPARES = (3000, 3001), (3900, 3901)
EMPTY = ((b"Content-Length", b"0"),)


@pytest.fixture(scope="module")
def address(host: Host) -> Any:
    return host.check_output("hostname -I").split()[0]


@pytest.fixture(scope="module")
def wire(address: str) -> Client:
    return Client(f"https://{address}", first_byte_s=10)


@pytest.fixture
def mark() -> str:
    """By which a test knows its own requests among those that the instances noted."""
    return token_hex(4)


def body(answer: Answer) -> Any:
    return json.loads(answer.raw.split(b"\r\n\r\n", 1)[-1])


def seen(host: Host, *ports: int) -> list[str]:
    """The request lines that instances saw so far."""
    lines: list[str] = []
    for port in ports:
        lines += json.loads(host.check_output(remote("fetch", f"http://127.0.0.1:{port}/seen")).split("\n", 1)[1])
    return lines


def times_seen(host: Host, request: str) -> tuple[int, int]:
    """How often ordinary instances, and how often spares, were asked this since they started."""
    return seen(host, *INSTANCES).count(request), seen(host, *SPARES).count(request)


def answers(host: Host, port: int) -> bool:
    return bool(host.check_output(remote("fetch", f"http://127.0.0.1:{port}/seen")).startswith("status 200\n"))


@contextmanager
def stopped(host: Host, *ports: int) -> Iterator[None]:
    units = " ".join(f"stand-in@{port}" for port in ports)
    assert host.run(f"systemctl stop {units}").rc == 0
    try:
        yield
    finally:
        assert host.run(f"systemctl start {units}").rc == 0
        wait_for(lambda: all(answers(host, port) for port in ports), 10, f"{units} again")


@pytest.mark.parametrize("version", ["1.0", "1.1", "2"])
def test_requests_reach_the_instance(wire: Client, address: str, version: str) -> None:
    answer = wire.send(Request(b"/a%20b?c=d", version=version, headers=((b"X-Forwarded-For", b"192.0.2.9"),)))
    assert answer.status == 200, answer
    request = body(answer)
    assert request["port"] in INSTANCES
    assert (request["method"], request["path"]) == ("GET", "/a%20b?c=d")
    # What the client says about itself is replaced.
    assert request["headers"]["x-forwarded-for"] != "192.0.2.9"
    assert request["headers"]["x-forwarded-proto"] == "https"
    assert request["headers"]["host"] == address


def test_client_can_not_name_itself(wire: Client) -> None:
    replaced = read_yaml(TOP / "roles" / "nginx" / "vars" / "main.yml")["__nginx_cleared_headers"]
    usual = ["X-Forwarded-For", "X-Real-IP", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Proto"]
    found = [
        "X-Client-IP",
        "X-Cluster-Client-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
        "Fastly-Client-IP",
        "Forwarded",
    ]
    found += ["X-Forwarded-Ssl", "X-Forwarded-Scheme", "X-Forwarded-Server", "X-Forwarded-Prefix", "Front-End-Https"]
    found += ["Forwarded", "X-HTTP-Method-Override", "X-Original-URL", "X-Rewrite-URL", "X_Forwarded_For"]
    lie = b"192.0.2.9"
    headers = tuple((name.encode(), lie) for name in {*replaced, *usual, *found})
    got = body(wire.send(Request(b"/", headers=(*headers, (b"X-Own", lie)))))["headers"]
    assert [name for name, value in got.items() if lie.decode() in value] == ["x-own"]


def test_trusted_proxy_names_the_client(host: Host) -> None:
    """And only it: with the same header, everybody else is who they are."""
    program = """
import http.client, ssl, sys
context = ssl._create_unverified_context()
connection = http.client.HTTPSConnection("127.0.0.1", source_address=(sys.argv[1], 0), context=context)
connection.request("GET", "/", headers={"X-Forwarded-For": "198.51.100.1, 192.0.2.9, 127.0.0.9"})
print(connection.getresponse().read().decode())
"""
    for source, client in (("127.0.0.9", "192.0.2.9"), ("127.0.0.8", "127.0.0.8")):
        got = json.loads(host.check_output("python3 -c %s %s", program, source))["headers"]
        assert (got["x-forwarded-for"], got["x-real-ip"]) == (client, client)


def test_text_is_compressed_for_those_who_accept_it(wire: Client) -> None:
    long = ((b"X-Own", b"a" * 2000),)
    answer = wire.send(Request(b"/", headers=(*long, (b"Accept-Encoding", b"gzip"))))
    assert b"\r\nContent-Encoding: gzip\r\n" in answer.raw
    assert b"\r\nVary: Accept-Encoding\r\n" in answer.raw
    plain = wire.send(Request(b"/", headers=long))
    assert b"Content-Encoding" not in plain.raw
    assert len(plain.raw) > len(answer.raw)


def test_plain_http_is_redirected(address: str) -> None:
    answer = Client(f"http://{address}").send(Request(b"/a?b"))
    assert answer.status == 308
    assert f"Location: https://{address}/a?b\r\n".encode() in answer.raw


def test_unknown_host_names_are_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOENIX_HOST", "other.example.org")
    assert Client(f"https://{address}").send(Request(b"/")).status == 421


@pytest.mark.parametrize("target", ["/crash", "/CRASH/", "/%63rash", "/x/../crash?a", "/generatecert"])
def test_blocked_routes_never_reach_an_instance(host: Host, wire: Client, target: str) -> None:
    before = seen(host, *INSTANCES, *SPARES)
    for method in (b"GET", b"POST"):
        assert wire.send(Request(target.encode(), method)).status == 404, (method, target)
    assert seen(host, *INSTANCES, *SPARES) == before


def test_instance_itself_would_answer_a_blocked_route(host: Host) -> None:
    """The control of the test before: nothing but nginx keeps the request away, and it would be noted."""
    answer = host.check_output(remote("fetch", f"http://127.0.0.1:{INSTANCES[0]}/crash"))
    assert answer.startswith("status 200\n")
    assert "GET /crash" in seen(host, INSTANCES[0])


@pytest.mark.parametrize("target", ["/crash-course", "/a/crash", "/?x=/crash"])
def test_neighbours_of_blocked_routes_are_served(wire: Client, target: str) -> None:
    answer = wire.send(Request(target.encode()))
    assert answer.status == 200
    assert body(answer)["path"] == target


def test_safe_request_whose_instance_died_is_answered_by_the_spare(host: Host, wire: Client, mark: str) -> None:
    """One ordinary instance is what a request that kills them may cost."""
    answer = wire.send(Request(f"/fail?{mark}".encode()))
    assert answer.status == 200
    assert body(answer)["port"] in SPARES
    assert times_seen(host, f"GET /fail?{mark}") == (1, 1)


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE"])
def test_what_could_do_something_twice_is_not_sent_twice(host: Host, wire: Client, mark: str, method: str) -> None:
    assert wire.send(Request(f"/fail?{mark}".encode(), method.encode(), headers=EMPTY)).status == 502
    assert times_seen(host, f"{method} /fail?{mark}") == (1, 0)


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE"])
def test_nor_after_an_instance_that_refused_it(host: Host, wire: Client, mark: str, method: str) -> None:
    with stopped(host, INSTANCES[1]):
        # Several, for nginx begins with either instance.
        targets = [f"/fail?{mark}{number}" for number in range(6)]
        sent = [wire.send(Request(target.encode(), method.encode(), headers=EMPTY)) for target in targets]
        assert [answer.status for answer in sent] == [502] * len(targets)
        asked = [line for line in seen(host, INSTANCES[0], *SPARES) if mark in line]
    assert sorted(asked) == [f"{method} {target}" for target in targets]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_slow_answer_is_never_executed_twice(host: Host, wire: Client, mark: str, method: str) -> None:
    answer = wire.send(Request(f"/slow?{mark}".encode(), method.encode(), headers=EMPTY))
    assert answer.status == 504
    assert times_seen(host, f"{method} /slow?{mark}") == (1, 0)


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_nor_on_the_spares(host: Host, wire: Client, mark: str, method: str) -> None:
    with stopped(host, *INSTANCES):
        assert wire.send(Request(f"/slow?{mark}".encode(), method.encode(), headers=EMPTY)).status == 504
        assert seen(host, *SPARES).count(f"{method} /slow?{mark}") == 1


def test_slow_answers_put_no_instance_aside(host: Host, wire: Client, mark: str) -> None:
    slow = Request(f"/slow?{mark}".encode())
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(wire.send, [slow] * 24))
    ports = {body(wire.send(Request(b"/")))["port"] for _ in range(10)}
    assert {answer.status for answer in answers} == {504}
    assert ports == set(INSTANCES), "all ordinary instances serve on, and nobody else"
    assert times_seen(host, f"GET /slow?{mark}") == (24, 0)


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "PUT", "DELETE"])
def test_stopped_instance_costs_no_request_of_any_method(host: Host, wire: Client, mark: str, method: str) -> None:
    with stopped(host, INSTANCES[0]):
        answers = [wire.send(Request(b"/", method.encode(), headers=EMPTY)) for _ in range(20)]
    assert [answer.status for answer in answers] == [200] * 20


def test_stopped_instances_are_unseen_and_come_back(host: Host, wire: Client) -> None:
    with stopped(host, *INSTANCES):
        answers = [wire.send(Request(b"/", method, headers=EMPTY)) for method in (b"GET", b"PUT") * 5]
    assert [answer.status for answer in answers] == [200] * 10
    assert {body(answer)["port"] for answer in answers} <= set(SPARES)
    wait_for(lambda: body(wire.send(Request(b"/")))["port"] in INSTANCES, 30, "the instances in rotation again")


def test_transfer_outlives_reloads(host: Host, mark: str) -> None:
    seconds = 75  # above nginx's usual minute
    path = f"/stream?{seconds}&{mark}"
    with ThreadPoolExecutor() as pool:
        transfer = pool.submit(host.check_output, remote("fetch", f"https://127.0.0.1{path}", seconds))
        wait_for(lambda: f"GET {path}" in seen(host, *INSTANCES), 10, "the transfer's begin")
        for _ in range(2):
            assert host.run("systemctl reload nginx").rc == 0
        assert transfer.result() == "status 200\n" + "." * seconds


def test_websocket_and_event_stream_pass(wire: Client) -> None:
    """In full by tests/serving, with the same templates; this is the role's own nginx."""
    with wire.connect(["http/1.1"]) as socket:
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        socket.sendall(f"GET /socket HTTP/1.1\r\nHost: {wire.host.decode()}\r\n{upgrade}\r\n".encode())
        assert socket.recv(65536).startswith(b"HTTP/1.1 101 ")
        socket.sendall(b"echo")
        assert socket.recv(65536) == b"echo"
    events = wire.send(Request(b"/events", headers=((b"Accept", b"text/event-stream"),)))
    assert b"data: 1" in events.raw and b"data: 2" in events.raw


def test_reloads_lose_no_request(host: Host) -> None:
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(host.check_output, remote("load", "https://127.0.0.1/", 30, 8))
        for _ in range(5):
            assert host.run("systemctl reload nginx && sleep 1").rc == 0
        result = json.loads(sending.result())
    assert_none_failed(result)


def logged(host: Host, begin: str) -> Any:
    """The line of the access log for a request target that begins so."""

    def found() -> Any:
        lines = map(json.loads, host.check_output("cat /var/log/nginx/access.log").splitlines())
        return next((line for line in lines if line["uri"].startswith(begin)), None)

    wait_for(lambda: found() is not None, 10, "the line of the access log")
    return found()


def test_access_log_tells_which_instance_answered(host: Host, wire: Client, mark: str) -> None:
    wire.send(Request(f"/logged?{mark}".encode()))
    wire.send(Request(f"/crash?{mark}".encode()))
    assert logged(host, f"/crash?{mark}")["upstream"] == ""
    assert logged(host, f"/logged?{mark}")["upstream"] in ("127.0.0.1:3000", "127.0.0.2:3001")


def test_client_can_not_make_long_lines_of_the_access_log(host: Host, wire: Client, mark: str) -> None:
    long = ((b"User-Agent", b"a" * 7000), (b"Referer", b"r" * 7000))
    for target in (f"/{mark}", f"/crash?{mark}"):
        wire.send(Request(target.encode() + b"x" * 7000, headers=long))
        line = logged(host, target)
        assert line["uri"] == (target + "x" * 7000)[:1024] + "…"
        assert (line["agent"], line["referer"]) == ("a" * 256 + "…", "r" * 256 + "…")
    wire.send(Request(f"/short?{mark}".encode(), headers=((b"User-Agent", b"M\xc3\xbcller"),)))
    assert (line := logged(host, f"/short?{mark}"))["uri"] == f"/short?{mark}"
    assert line["agent"] == "Müller"


def test_counters_are_for_the_host_alone(host: Host, address: str) -> None:
    assert "Active connections" in host.check_output(remote("fetch", "http://127.0.0.1:8089/status"))
    assert host.check_output(remote("fetch", f"http://{address}:8089/status")).strip() == "refused"
