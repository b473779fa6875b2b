"""Datagrams counted: whose, which, once each, in which window."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix.autoscaler.meter import GENERATION_SECONDS, REMEMBERED, STEP, Meter

LB1, LB2 = "192.0.2.11", "192.0.2.12"


def request(number: int, connection: int = 1) -> bytes:
    return b"<190>Nov 24 12:00:00 phoenix: r %d %d" % (connection, number)


BEAT = b"<190>Nov  4 12:00:00 phoenix: b"


def meter(*balancers: str, now: float = 1000.0) -> Meter:
    return Meter(balancers or (LB1,), 600, now)


def test_windows_slide() -> None:
    one = meter()
    for second in range(10):
        for number in range(5):
            one.receive(request(second * 10 + number), LB1, 1000.0 + second)
        one.tick(1001.0 + second, 3.0)
    assert one.count(1) == 5
    assert one.count(6) == 30
    assert one.count(60) == 50
    one.tick(1011.9, 3.0)
    assert one.count(1) == 0
    assert one.count(6) == 20


@pytest.mark.parametrize("start", [3.0, 123456.5])
@pytest.mark.parametrize("seconds", [60, 600, 1200])
def test_a_meter_of_another_size_knows_the_same_rate_and_nothing_that_it_does_not_have(
    start: float, seconds: int
) -> None:
    """A window that reaches back beyond what is kept would show half the rate, and hosts would be given back."""
    one, number, now = meter(now=start), 0, start

    def pass_time(duration: float) -> None:
        nonlocal number, now
        for _ in range(int(duration / STEP)):
            number += 1
            one.receive(request(number), LB1, now)
            now += STEP
            one.tick(now, 3.0)

    def seen() -> float:
        known = min(one.known_seconds(now), seconds)
        assert known >= 60, "it has not begun again"
        return one.count(known) / known

    pass_time(900)
    one.resize(seconds)
    assert seen() == pytest.approx(4)
    assert one.count(6) == 24
    if seconds > 600:
        assert one.known_seconds(now) == 600, "what is kept"
    pass_time(1300)
    assert seen() == pytest.approx(4)
    one.resize(600)
    assert one.known_seconds(now) >= min(seconds, 600)
    assert one.count(60) == 240


def test_balancers_add_up_and_a_silent_one_is_known() -> None:
    one = meter(LB1, LB2)
    one.receive(request(1), LB1, 1000.5)
    one.tick(1001.0, 3.0)
    assert one.silent(1001.0, 3.0) == [LB2]
    assert one.known_seconds(1001.0) == 0
    one.receive(BEAT, LB2, 1001.1)
    one.receive(request(1), LB2, 1001.2)  # the same number, but another balancer's
    one.tick(1001.5, 3.0)
    assert one.count(6) == 2
    assert one.silent(1001.5, 3.0) == []
    assert one.age(1001.5) == pytest.approx(1.0)
    one.tick(1006.0, 3.0)
    assert one.silent(1006.0, 3.0) == [LB1, LB2]


def test_open_requests_are_those_of_the_balancers_that_are_heard() -> None:
    one = meter(LB1, LB2)
    assert one.open(1000.0, 3.0) == 0
    one.receive(BEAT + b" 40", LB1, 1000.0)
    one.receive(BEAT + b" 7", LB2, 1002.0)
    assert one.open(1002.0, 3.0) == 47
    one.receive(BEAT, LB2, 1002.5)  # of an nginx whose configuration does not say it
    assert one.open(1002.5, 3.0) == 47
    assert one.open(1004.0, 3.0) == 7, "those of a silent one come back at the other"
    one.receive(BEAT + b" 3", LB1, 1005.0)
    one.rebalance([LB1])
    assert one.open(1005.0, 3.0) == 3
    assert (one.counters.heartbeats, one.counters.requests, one.counters.malformed) == (4, 0, 0)


def test_twice_the_same_counts_once_among_thousands() -> None:
    one = meter()
    for number in range(REMEMBERED + 10):
        one.receive(request(number), LB1, 1000.1)
    one.receive(request(20), LB1, 1000.1)
    assert (one.counters.requests, one.counters.duplicates) == (REMEMBERED + 10, 1)


def test_a_number_is_forgotten_after_two_generations() -> None:
    one = meter()
    one.receive(request(1), LB1, 1000.0)
    for now, duplicates in ((1000.9, 1), (1001.5, 2), (1002.6, 2)):
        one.tick(now, 3.0)
        one.receive(request(1), LB1, now)
        assert one.counters.duplicates == duplicates, now
    assert one.counters.requests == 2


DELAY = 0.4  # seconds within which the network delivers a datagram, and each copy of it
# Keys are remembered for two generations, each of which a tick ends; the last of the nginx before may be late.
BLIND = 2 * (GENERATION_SECONDS + STEP) + DELAY


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.2, 20), st.integers(1, 20)), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_restarts_of_two_nginx_with_losses_duplicates_and_reordering(
    lives: list[tuple[float, int]], network: random.Random
) -> None:
    """Each life of an nginx (seconds, requests a second) numbers its connections from 1.

    No request counts twice; only in the first seconds after a restart one may be taken for a duplicate.
    """
    arrivals: list[tuple[float, str, bytes]] = []
    sent, unsure = 0, 0
    for balancer in (LB1, LB2):
        began = 1000.0
        for life, (seconds, rate) in enumerate(lives):
            for connection in range(1, int(seconds * rate) + 1):
                at = began + connection / rate
                copies = network.choice((0, 1, 1, 1, 2, 3))
                sent += copies > 0
                unsure += copies > 0 and life > 0 and at - began < BLIND
                datagram = request(1, connection)
                arrivals += [(at + network.uniform(0, DELAY), balancer, datagram) for _ in range(copies)]
            began += seconds
    one, ticks = meter(LB1, LB2), 0
    for at, balancer, datagram in sorted(arrivals):
        while 1000.0 + (ticks + 1) * STEP <= at:
            ticks += 1
            one.tick(1000.0 + ticks * STEP, 3.0)
        one.receive(datagram, balancer, at)
    assert sent - unsure <= one.counters.requests <= sent
    assert one.counters.requests + one.counters.duplicates == len(arrivals)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"r 1 1",
        b"<190>Nov 24 12:00:00 phoenix: r 1",
        b"<190>Nov 24 12:00:00 phoenix: r 1 1 1",
        b"<190>Nov 24 12:00:00 phoenix: r -1 1",
        b"<190>Nov 24 12:00:00 phoenix: x 1 1",
        b"<190>Nov 24 12:00:00 other: r 1 1",
        b"<190>Nov 24 12:00:00 phoenix: r 1 1" + b"0" * 300,
        b"\xff\xfe\x00",
    ],
)
def test_garbage_is_ignored_and_counted(data: bytes) -> None:
    one = meter()
    one.receive(data, LB1, 1000.1)
    assert (one.counters.malformed, one.counters.requests) == (1, 0)
    assert one.silent(1000.1, 3.0) == [LB1]


def test_only_balancers_are_counted() -> None:
    one = meter()
    one.receive(request(1), "198.51.100.9", 1000.1)
    one.receive(BEAT, "198.51.100.9", 1000.1)
    assert (one.counters.foreign, one.counters.requests, one.counters.heartbeats) == (2, 0, 0)


def test_a_nap_is_a_gap_and_old_counts_are_out_of_every_window() -> None:
    one = meter()
    one.receive(request(1), LB1, 1000.0)
    one.tick(1001.0, 3.0)
    one.receive(BEAT, LB1, 5000.0)
    one.tick(5000.0, 3.0)
    assert one.count(600) == 0
    assert one.known_seconds(5000.5) == pytest.approx(0.5)


@given(st.lists(st.tuples(st.floats(-50, 700), st.integers(0, 50)), max_size=40))
def test_any_clock_keeps_the_counts_between_none_and_all(steps: list[tuple[float, int]]) -> None:
    one, now, sent = meter(), 1000.0, 0
    for jump, number in steps:
        now += jump
        for _ in range(number):
            sent += 1
            one.receive(request(sent), LB1, now)
        one.tick(now, 3.0)
        counts = [one.count(window) for window in (1, 6, 60, 600)]
        assert counts == sorted(counts)
        assert counts[0] >= 0
        assert counts[-1] <= sent


@given(st.lists(st.binary(max_size=80), max_size=50))
def test_any_bytes(datagrams: list[bytes]) -> None:
    one = meter()
    for data in datagrams:
        one.receive(data, LB1, 1000.0)
    assert one.counters.malformed + one.counters.requests + one.counters.heartbeats + one.counters.duplicates == len(
        datagrams
    )


def test_memory_does_not_grow() -> None:
    one = meter()
    for number in range(5 * REMEMBERED):
        one.receive(request(number), LB1, 1000.0)
    assert len(one._recent) + len(one._before) <= 2 * REMEMBERED
    assert len(one._totals) == 600 / STEP + 1
