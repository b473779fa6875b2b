"""The promises of the role `nginx`, checked with stand-ins for instances that record their requests."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from testinfra.host import Host

from tests.harness.hosts import remote
from tests.harness.load import assert_none_failed
from tests.harness.waiting import wait_for
from tests.harness.wire import Answer, Client, Request

INSTANCE, SPARE = 3000, 3900


@pytest.fixture(scope="module")
def address(host: Host) -> Any:
    return host.check_output("hostname -I").split()[0]


@pytest.fixture(scope="module")
def wire(address: str) -> Client:
    return Client(f"https://{address}")


def body(answer: Answer) -> Any:
    return json.loads(answer.raw.split(b"\r\n\r\n", 1)[-1])


def seen(host: Host, port: int) -> Any:
    """Return the request lines that an instance has received so far."""
    return json.loads(host.check_output(remote("fetch", f"http://127.0.0.1:{port}/seen")).split("\n", 1)[1])


@pytest.mark.parametrize("version", ["1.0", "1.1", "2"])
def test_requests_reach_the_instance(wire: Client, address: str, version: str) -> None:
    answer = wire.send(Request(b"/a%20b?c=d", version=version, headers=((b"X-Forwarded-For", b"192.0.2.9"),)))
    assert answer.status == 200, answer
    request = body(answer)
    assert (request["port"], request["method"], request["path"]) == (INSTANCE, "GET", "/a%20b?c=d")
    # What the client says about itself is replaced.
    assert request["headers"]["x-forwarded-for"] != "192.0.2.9"
    assert request["headers"]["x-forwarded-proto"] == "https"
    assert request["headers"]["host"] == address


def test_plain_http_is_redirected(address: str) -> None:
    answer = Client(f"http://{address}").send(Request(b"/a?b"))
    assert answer.status == 308
    assert f"Location: https://{address}/a?b\r\n".encode() in answer.raw


def test_unknown_host_names_are_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOENIX_HOST", "other.example.org")
    assert Client(f"https://{address}").send(Request(b"/")).status == 421


@pytest.mark.parametrize("target", ["/crash", "/CRASH/", "/%63rash", "/x/../crash?a", "/generatecert"])
def test_blocked_routes_never_reach_an_instance(host: Host, wire: Client, target: str) -> None:
    before = seen(host, INSTANCE), seen(host, SPARE)
    for method in (b"GET", b"POST"):
        assert wire.send(Request(target.encode(), method)).status == 404, (method, target)
    assert (seen(host, INSTANCE), seen(host, SPARE)) == before


def test_instance_itself_would_answer_a_blocked_route(host: Host) -> None:
    """The control of the test before: only nginx keeps the request away, and the instance would record it."""
    answer = host.check_output(remote("fetch", f"http://127.0.0.1:{INSTANCE}/crash"))
    assert answer.startswith("status 200\n")
    assert "GET /crash" in seen(host, INSTANCE)


@pytest.mark.parametrize("target", ["/crash-course", "/a/crash", "/?x=/crash"])
def test_neighbours_of_blocked_routes_are_served(wire: Client, target: str) -> None:
    answer = wire.send(Request(target.encode()))
    assert answer.status == 200
    assert body(answer)["path"] == target


def test_failed_request_is_answered_by_the_spare(host: Host, wire: Client) -> None:
    before = seen(host, INSTANCE), seen(host, SPARE)
    answer = wire.send(Request(b"/fail"))
    assert answer.status == 200
    assert body(answer)["port"] == SPARE
    assert (seen(host, INSTANCE), seen(host, SPARE)) == (before[0] + ["GET /fail"], before[1] + ["GET /fail"])


def test_what_could_do_something_twice_is_not_sent_twice(host: Host, wire: Client) -> None:
    before = seen(host, INSTANCE), seen(host, SPARE)
    assert wire.send(Request(b"/fail", b"POST", headers=((b"Content-Length", b"0"),))).status == 502
    assert (seen(host, INSTANCE), seen(host, SPARE)) == (before[0] + ["POST /fail"], before[1])


def test_stopped_instance_is_unseen_and_comes_back(host: Host, wire: Client) -> None:
    assert host.run(f"systemctl stop stand-in@{INSTANCE}").rc == 0
    try:
        answers = [wire.send(Request(b"/")) for _ in range(10)]
    finally:
        assert host.run(f"systemctl start stand-in@{INSTANCE}").rc == 0
    assert [answer.status for answer in answers] == [200] * 10
    assert {body(answer)["port"] for answer in answers} == {SPARE}
    wait_for(lambda: body(wire.send(Request(b"/")))["port"] == INSTANCE, 30, "the instance in rotation again")


def test_reloads_lose_no_request(host: Host) -> None:
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(host.check_output, remote("load", "https://127.0.0.1/", 30, 8))
        for _ in range(5):
            assert host.run("systemctl reload nginx && sleep 1").rc == 0
        result = json.loads(sending.result())
    assert_none_failed(result)


def test_access_log_tells_which_instance_answered(host: Host, wire: Client) -> None:
    wire.send(Request(b"/logged?1"))
    wire.send(Request(b"/crash?2"))

    def logged(target: str) -> Any:
        lines = map(json.loads, host.check_output("cat /var/log/nginx/access.log").splitlines())
        return next((line for line in lines if line["uri"] == target), None)

    wait_for(lambda: logged("/crash?2") is not None, 10, "the line of the access log")
    assert logged("/logged?1")["upstream"] == f"127.0.0.1:{INSTANCE}"
    assert logged("/crash?2")["upstream"] == ""


def test_counters_are_for_the_host_alone(host: Host, address: str) -> None:
    assert "Active connections" in host.check_output(remote("fetch", "http://127.0.0.1:8089/status"))
    assert host.check_output(remote("fetch", f"http://{address}:8089/status")).strip() == "refused"
