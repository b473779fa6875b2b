"""No request of any form reaches /crash or /generatecert through the load balancer.

Generated requests (spellings, raw bytes, methods, protocol versions, smuggling) go to the real nginx in front of the
real application.
Reaching a route shows in two ways: the answer holds a certificate, or a process of the application ended.

PHOENIX_EXAMPLES  number of generated requests (default 1500)
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.e2e.spellings import requests
from tests.e2e.wire import Answer, Client, Request

EXAMPLES = int(os.environ.get("PHOENIX_EXAMPLES", "1500"))
BATCH = 250  # requests between two looks at the processes
NGINX_PAGE = b"<center>nginx"


@pytest.fixture(scope="module")
def client(base_url: str) -> Iterator[Client]:
    client = Client(base_url)
    yield client
    print(f"\n{sum(client.statuses.values())} requests: {dict(sorted(client.statuses.items()))}")


def check(answer: Answer, request: Request) -> None:
    assert b"BEGIN CERTIFICATE" not in answer.raw, f"/generatecert answered {request}"


def test_no_spelling_reaches_an_unwanted_route(client: Client, application_pids: Callable[[], Any]) -> None:
    before = application_pids()
    batch: list[Request] = []
    broken: list[str] = []

    def look() -> None:
        nonlocal before
        if application_pids() == before:
            batch.clear()
            return
        culprits = []
        for request in batch:  # which one was it?
            settled = settle(application_pids)
            client.send(request)
            if settle(application_pids) != settled:
                culprits.append(request)
        broken.append(f"a process of the application ended within {len(batch)} requests: {culprits or batch}")

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(requests(["0.9", "1.0", "1.1", "1.1", "2"] if client.tls else ["0.9", "1.0", "1.1", "1.1"]))
    def fire(request: Request) -> None:
        # Once broken, every further example says so: the loss can't be told from one example alone.
        assert not broken, broken[0]
        batch.append(request)
        check(client.send(request), request)
        if len(batch) >= BATCH:
            look()
            assert not broken, broken[0]

    fire()
    look()
    assert not broken, broken[0]


def settle(application_pids: Callable[[], Any]) -> Any:
    """The processes, once two readings half a second apart agree and all of them run (at most 20 s)."""
    last = application_pids()
    for _ in range(40):
        time.sleep(0.5)
        now = application_pids()
        if now == last and all(pid for pid, _ in now.values()):
            return now
        last = now
    return last


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "FOO"])
@pytest.mark.parametrize("target", ["/crash", "/generatecert", "/CRASH/", "/x/../crash?a", "/%63rash"])
def test_unwanted_routes_are_answered_with_404(client: Client, target: str, method: str) -> None:
    for version in ["1.0", "1.1", "2"] if client.tls else ["1.0", "1.1"]:
        request = Request(target.encode(), method.encode(), version)
        assert client.send(request).status == 404, request


@pytest.mark.parametrize(
    "target", ["/", "/crash-course", "/crashed", "/generatecerts", "/a/crash", "/?x=/crash", "/crash/x", "/crash.html"]
)
def test_neighbours_reach_the_application(client: Client, target: str) -> None:
    for version in ["1.0", "1.1", "2"] if client.tls else ["1.0", "1.1"]:
        answer = client.send(Request(target.encode(), version=version))
        assert answer.status in (200, 404), answer
        assert NGINX_PAGE not in answer.raw, f"nginx answered {target} itself: {answer}"


# Runs on the application's host: sends each target to one instance, past nginx, and prints what came of it.
DIRECT = r"""
import json, re, socket, subprocess, sys, time
unit, targets = sys.argv[1], json.loads(sys.argv[2])
port = re.search(r"@(\d+)", unit).group(1)
listening = subprocess.run(["ss", "-Hltn", "sport = :" + port], capture_output=True, text=True).stdout.split()
address = listening[3].rsplit(":", 1)[0].strip("[]")
address = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(address, address)
def pid():
    shown = subprocess.run(["systemctl", "show", unit, "-p", "MainPID", "--value"], capture_output=True, text=True)
    return shown.stdout.strip()
def connect():
    for _ in range(100):
        try:
            return socket.create_connection((address, int(port)), 30)
        except OSError:
            time.sleep(0.1)
    raise SystemExit("no instance at %s:%s" % (address, port))
out = []
for target in targets:
    sock, before, raw = connect(), pid(), b""
    try:
        sock.sendall(target.encode("latin-1") + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while True:
            chunk = sock.recv(65536)
            if not chunk:
                break
            raw += chunk
    except OSError:
        pass
    time.sleep(0.3)
    certificate = b"BEGIN CERTIFICATE" in raw
    out.append({"target": target, "ended": pid() != before, "certificate": certificate})
print(json.dumps(out))
"""


def test_the_same_requests_reach_the_routes_past_nginx(
    application_hosts: dict[str, Any], application_pids: Callable[[], Any]
) -> None:
    """The control: what the other tests look for does happen when nginx is not in between."""
    name, unit = next(key for key, (pid, _) in application_pids().items() if pid).split("/")
    crash = [
        "GET /crash",
        "GET /CrAsH/",
        "HEAD /crash",
        "GET /crash?a",
        "GET /crash#x",
        "GET /crash\xa0",
        "GET \\crash",
    ]
    targets = [*crash, "GET /generatecert", "GET /GENERATECERT/?x"]
    ran = application_hosts[name].run("python3 -c %s %s %s", DIRECT, unit, json.dumps(targets))
    assert ran.rc == 0, ran.stderr
    reached = {one["target"]: one for one in json.loads(ran.stdout)}
    print(
        "\npast nginx:",
        {t: "ended" if o["ended"] else "certificate" if o["certificate"] else "-" for t, o in reached.items()},
    )
    settle(application_pids)
    for target in ("GET /crash", "GET /CrAsH/", "HEAD /crash", "GET /crash?a"):
        assert reached[target]["ended"], reached[target]
    for target in ("GET /generatecert", "GET /GENERATECERT/?x"):
        assert reached[target]["certificate"], reached[target]
