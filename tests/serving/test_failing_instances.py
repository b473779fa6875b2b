"""Requests whose instances are gone, break or are slow, through a real nginx with the role's configuration."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness.real_nginx import Instances, Site, Sites, body

UNSAFE = ["POST", "PATCH", "PUT", "DELETE"]


@pytest.fixture(scope="module")
def site(sites: Sites, instances: Instances) -> Site:
    """A second spare is tried within 3 s (nginx.conf.j2), so what is slow, as in production, takes longer."""
    spares = [{"name": at, "address": at, "spare_port": instances.spare} for at in ("127.0.0.1", "127.0.0.2")]
    return sites(nginx_proxy_read_timeout="4s", __nginx_spare=spares)


def statuses(site: Site, lines: list[str], at_once: int = 1) -> set[int]:
    """Send these requests."""

    def status(line: str) -> int:
        method, path = line.split()
        return site.get(path, ("Content-Length", "0"), method=method.encode()).status

    with ThreadPoolExecutor(at_once) as pool:
        return set(pool.map(status, lines))


def asked(instances: Instances, mark: str) -> Counter[str]:
    """How often instances and spares got each request with this mark."""
    return Counter(line for line in instances.seen() if mark in line)


def test_a_safe_request_whose_instance_died_is_answered_by_a_spare(site: Site, instances: Instances, mark: str) -> None:
    """One ordinary instance is what a request that kills them may cost."""
    assert body(site.get(f"/fail?{mark}"))["port"] == instances.spare
    assert asked(instances, mark) == {f"GET /fail?{mark}": 2}


def test_what_could_do_something_twice_is_not_sent_twice(site: Site, instances: Instances, mark: str) -> None:
    lines = [f"{method} /fail?{mark}" for method in UNSAFE]
    assert statuses(site, lines) == {502}
    assert asked(instances, mark) == Counter(lines)


def test_nor_after_an_instance_that_refused_it(site: Site, instances: Instances, mark: str) -> None:
    # Several of each, for nginx begins with either instance.
    lines = [f"{method} /fail?{mark}{number}" for method in UNSAFE for number in range(6)]
    with instances.stopped(instances.ordinary[0]):
        assert statuses(site, lines) == {502}
        assert asked(instances, mark) == Counter(lines)


def test_a_stopped_instance_costs_no_request(site: Site, instances: Instances, mark: str) -> None:
    lines = [f"{method} /{mark}{number}" for method in ("GET", *UNSAFE) for number in range(6)]
    with instances.stopped(instances.ordinary[0]):
        assert statuses(site, lines) == {200}
        assert asked(instances, mark) == Counter(lines)


def test_without_ordinary_instances_spares_answer(site: Site, instances: Instances, mark: str) -> None:
    lines = [f"{method} /{mark}{number}" for method in ("GET", *UNSAFE) for number in range(3)]
    with instances.stopped(*instances.ordinary):
        assert statuses(site, lines) == {200}
        assert asked(instances, mark) == Counter(lines)


def test_slow_requests_are_executed_once_and_put_no_instance_aside(site: Site, instances: Instances, mark: str) -> None:
    lines = [f"{method} /slow/8?{mark}{number}" for method in ("GET", *UNSAFE) for number in range(5)]
    assert statuses(site, lines, len(lines)) == {504}
    assert {body(site.get("/"))["port"] for _ in range(10)} == set(instances.ordinary), "all of them, and nobody else"
    assert asked(instances, mark) == Counter(lines)


def test_nor_are_they_executed_twice_on_spares(site: Site, instances: Instances, mark: str) -> None:
    lines = [f"{method} /slow/8?{mark}" for method in ("GET", *UNSAFE)]
    with instances.stopped(*instances.ordinary):
        assert statuses(site, lines, len(lines)) == {504}
        assert asked(instances, mark) == Counter(lines)


def test_nor_where_another_one_was_stopped(site: Site, instances: Instances, mark: str) -> None:
    lines = [f"{method} /slow/8?{mark}{number}" for method in UNSAFE for number in range(3)]
    with instances.stopped(instances.ordinary[0]):
        assert statuses(site, lines, len(lines)) == {504}
        assert asked(instances, mark) == Counter(lines)
