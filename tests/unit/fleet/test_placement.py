from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix.fleet.placement import covering, place, place_around

PER_HOST = 3
POOLS = st.integers(1, 5).flatmap(
    lambda hosts: st.integers(0, 4).map(
        lambda standby: ([f"app{n}" for n in range(hosts)], [f"spare{n}" for n in range(standby)])
    )
)
CASES = POOLS.flatmap(
    lambda pools: st.tuples(st.integers(1, PER_HOST * len(pools[0] + pools[1])), st.just(pools[0]), st.just(pools[1]))
)
Case = tuple[int, list[str], list[str]]


def instances(placed: dict[str, list[int]]) -> set[tuple[str, int]]:
    return {(host, port) for host, ports in placed.items() for port in ports}


@given(CASES)
def test_every_instance_is_placed_once(case: Case) -> None:
    capacity, hosts, standby = case
    placed = place(capacity, hosts, standby, per_host=PER_HOST)
    assert list(placed) == hosts + standby
    assert sum(map(len, placed.values())) == len(instances(placed)) == capacity
    assert all(port in range(3000, 3000 + PER_HOST) for _, port in instances(placed))


@given(CASES)
def test_growing_by_one_adds_one_instance_and_moves_none(case: Case) -> None:
    capacity, hosts, standby = case
    if capacity > 1:
        before = instances(place(capacity - 1, hosts, standby, per_host=PER_HOST))
        after = instances(place(capacity, hosts, standby, per_host=PER_HOST))
        assert before < after
        assert len(after - before) == 1


@given(CASES)
def test_hosts_are_even_and_standby_comes_last(case: Case) -> None:
    capacity, hosts, standby = case
    placed = place(capacity, hosts, standby, per_host=PER_HOST)
    for pool in filter(None, (hosts, standby)):
        counts = [len(placed[host]) for host in pool]
        assert max(counts) - min(counts) <= 1
    if any(placed[host] for host in standby):
        assert all(len(placed[host]) == PER_HOST for host in hosts)


@given(CASES)
def test_placement_is_deterministic(case: Case) -> None:
    assert place(*case, per_host=PER_HOST) == place(*case, per_host=PER_HOST)


def test_example() -> None:
    assert place(9, ["a", "b"], ["c"]) == {
        "a": [3000, 3001, 3002, 3003],
        "b": [3000, 3001, 3002, 3003],
        "c": [3000],
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"capacity": 0, "hosts": ["a"]}, "capacity is 0"),
        ({"capacity": 5, "hosts": ["a"]}, "at most 4"),
        ({"capacity": 1, "hosts": []}, "at most 0"),
        ({"capacity": 1, "hosts": ["a"], "standby": ["a"]}, "named twice"),
        ({"capacity": 1, "hosts": ["a"], "per_host": 0}, "per_host is 0"),
        ({"capacity": 1, "hosts": ["a"], "first_port": 80}, "first_port is 80"),
    ],
)
def test_refusals(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        place(**arguments)


@given(POOLS, st.data())
def test_a_failed_host_keeps_what_it_had_and_the_others_take_the_rest(
    pools: tuple[list[str], list[str]], data: st.DataObject
) -> None:
    hosts, standby = pools
    names = [*hosts, *standby]
    top = len(names) * PER_HOST
    capacity, previous = data.draw(st.integers(1, top)), data.draw(st.integers(1, top))
    failed = data.draw(st.sets(st.sampled_from(names), max_size=len(names) - 1))
    around = place_around(capacity, previous, failed, hosts, standby, per_host=PER_HOST)
    usual = place(capacity, hosts, standby, per_host=PER_HOST)
    before = place(previous, hosts, standby, per_host=PER_HOST)
    good = [name for name in names if name not in failed]
    assert sum(len(around[name]) for name in good) == min(capacity, len(good) * PER_HOST)
    assert all(around[name] == before[name] for name in failed)
    assert all(set(usual[name]) <= set(around[name]) for name in good)


def test_all_hosts_failed() -> None:
    with pytest.raises(ValueError, match="every application host has failed"):
        place_around(2, 2, {"app1"}, ["app1"])


@given(st.integers(1, 12))
def test_covering_is_the_inverse_of_place(capacity: int) -> None:
    assert covering(place(capacity, ["a", "b"], ["c"]), ["a", "b"], ["c"]) == capacity


def test_covering_nothing() -> None:
    assert covering({"a": [], "gone": [3000]}, ["a", "b"]) == 0


def test_hosts_on_demand_are_filled_one_after_another_and_one_more_moves_nothing() -> None:
    with_one = place(7, ["a"], ["b"], per_host=3, demand=["c"])
    assert with_one == {"a": [3000, 3001, 3002], "b": [3000, 3001, 3002], "c": [3000]}
    assert place(7, ["a"], ["b"], per_host=3, demand=["c", "d"]) == {**with_one, "d": []}
    assert place(8, ["a"], ["b"], per_host=2, demand=["c", "d"])["c"] == [3000, 3001]
    assert covering({"d": [3000]}, ["a"], ["b"], per_host=2, demand=["c", "d"]) == 7
    around = place_around(6, 4, ["c"], ["a"], ["b"], per_host=2, demand=["c", "d"])
    assert around == {"a": [3000, 3001], "b": [3000, 3001], "c": [], "d": [3000, 3001]}
