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

from tests.harness.hosts import remote
from tests.harness.spellings import requests
from tests.harness.wire import Answer, Client, Request

EXAMPLES = int(os.environ.get("PHOENIX_EXAMPLES", "1500"))
BATCH = 250  # requests between two readings of the processes
NGINX_PAGE = b"<center>nginx"


@pytest.fixture(scope="module")
def wire(base_url: str) -> Iterator[Client]:
    wire = Client(base_url)
    yield wire
    print(f"\n{sum(wire.statuses.values())} requests: {dict(sorted(wire.statuses.items()))}")


def check(answer: Answer, request: Request) -> None:
    assert b"BEGIN CERTIFICATE" not in answer.raw, f"/generatecert answered {request}"


def test_no_spelling_reaches_an_unwanted_route(wire: Client, application_pids: Callable[[], Any]) -> None:
    before = application_pids()
    batch: list[Request] = []
    broken: list[str] = []

    def check_processes() -> None:
        nonlocal before
        if application_pids() == before:
            batch.clear()
            return
        culprits = []
        for request in batch:  # which one was it?
            settled = settle(application_pids)
            wire.send(request)
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
    @given(requests(["0.9", "1.0", "1.1", "1.1", "2"] if wire.tls else ["0.9", "1.0", "1.1", "1.1"]))
    def fire(request: Request) -> None:
        # Once broken, every further example fails: one example alone does not show the loss.
        assert not broken, broken[0]
        batch.append(request)
        check(wire.send(request), request)
        if len(batch) >= BATCH:
            check_processes()
            assert not broken, broken[0]

    fire()
    check_processes()
    assert not broken, broken[0]


def settle(application_pids: Callable[[], Any]) -> Any:
    """Return the processes, once two readings half a second apart agree and all of them run (at most 20 s)."""
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
def test_unwanted_routes_are_answered_with_404(wire: Client, target: str, method: str) -> None:
    for version in ["1.0", "1.1", "2"] if wire.tls else ["1.0", "1.1"]:
        request = Request(target.encode(), method.encode(), version)
        assert wire.send(request).status == 404, request


@pytest.mark.parametrize(
    "target", ["/", "/crash-course", "/crashed", "/generatecerts", "/a/crash", "/?x=/crash", "/crash/x", "/crash.html"]
)
def test_neighbours_reach_the_application(wire: Client, target: str) -> None:
    for version in ["1.0", "1.1", "2"] if wire.tls else ["1.0", "1.1"]:
        answer = wire.send(Request(target.encode(), version=version))
        assert answer.status in (200, 404), answer
        assert NGINX_PAGE not in answer.raw, f"nginx answered {target} itself: {answer}"


def test_the_same_requests_reach_the_routes_past_nginx(
    application_hosts: dict[str, Any], application_pids: Callable[[], Any]
) -> None:
    """The control: without nginx in between, the requests have the effects that the other tests exclude."""
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
    ran = application_hosts[name].run(remote("past_nginx", unit, json.dumps(targets)))
    assert ran.rc == 0, ran.stderr
    reached = {seen["target"]: seen for seen in json.loads(ran.stdout)}
    print(
        "\npast nginx:",
        {t: "ended" if o["ended"] else "certificate" if o["certificate"] else "-" for t, o in reached.items()},
    )
    settle(application_pids)
    for target in ("GET /crash", "GET /CrAsH/", "HEAD /crash", "GET /crash?a"):
        assert reached[target]["ended"], reached[target]
    for target in ("GET /generatecert", "GET /GENERATECERT/?x"):
        assert reached[target]["certificate"], reached[target]
