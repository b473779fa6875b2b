"""What the role `nginx` brings to its host: nginx's own unit, and a configuration that names what the host is.

What the configuration does with requests is proven by tests/serving, with the same templates.
"""

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


def test_requests_reach_an_instance_and_the_log(host: Host, wire: Client, address: str, mark: str) -> None:
    """By the host's address, without a name in the inventory."""
    request = body(wire.send(Request(f"/{mark}".encode())))
    assert request["headers"]["host"] == address

    def logged() -> Any:
        lines = map(json.loads, host.check_output("cat /var/log/nginx/access.log").splitlines())
        return {line["uri"]: line["upstream"] for line in lines}.get(f"/{mark}")

    wait_for(lambda: logged() is not None, 10, "the line of the access log")
    assert logged() == {3000: "127.0.0.1:3000", 3001: "127.0.0.2:3001"}[request["port"]]


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


def test_reloads_lose_no_request(host: Host) -> None:
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(host.check_output, remote("load", "https://127.0.0.1/", 30, 8))
        for _ in range(5):
            assert host.run("systemctl reload nginx && sleep 1").rc == 0
        result = json.loads(sending.result())
    assert_none_failed(result)
