"""Which faults are drawn: the same from a seed, one after the other, and none that the fleet can't survive alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soak import schedule
from soak.faults import FAULTS
from soak.schedule import Kind, Step

KINDS = [fault.kind for fault in FAULTS]
GROUPS = {"serving": ["app1", "app2"], "db": ["db1", "db2", "db3"], "lb": ["lb1", "lb2"], "control": ["control1"]}
CAN, CANNOT = schedule.possible(KINDS, GROUPS, {"app3"})
seeds = st.integers(0, 10**6)


def drawn(seed: int, number: int, **times: tuple[float, float]) -> list[Step]:
    return list(islice(schedule.steps(seed, CAN, **times), number))


def rounds(steps: list[Step]) -> Iterator[list[Step]]:
    for start in range(0, len(steps), len(CAN)):
        yield steps[start : start + len(CAN)]


def test_the_labs_fleet_can_have_every_kind() -> None:
    assert CANNOT == {}
    assert set(CAN) == {kind.name for kind in KINDS}


@given(seeds)
def test_a_seed_gives_the_same_faults_each_time(seed: int) -> None:
    assert drawn(seed, 40) == drawn(seed, 40)


def test_seeds_differ() -> None:
    assert len({tuple(step.kind for step in drawn(seed, 13)) for seed in range(20)}) == 20


@given(seeds)
def test_each_kind_occurs_before_any_repeats(seed: int) -> None:
    for one in rounds(drawn(seed, 4 * len(CAN))):
        assert sorted(step.kind for step in one) == sorted(CAN)


@given(seeds)
def test_none_comes_twice_in_a_row(seed: int) -> None:
    steps = drawn(seed, 60)
    assert all(a.kind != b.kind for a, b in pairwise(steps))


@given(seeds)
def test_hosts_are_those_of_the_kind_and_take_turns(seed: int) -> None:
    steps = drawn(seed, 6 * len(CAN))
    for kind, hosts in CAN.items():
        struck = [step.host for step in steps if step.kind == kind]
        assert set(struck) <= set(hosts)
        for start in range(0, len(struck), len(hosts)):
            turn = struck[start : start + len(hosts)]
            assert len(set(turn)) == len(turn)


@given(seeds, st.floats(0, 5), st.floats(5, 9))
def test_pauses_and_absences_are_within_what_was_asked_for(seed: int, low: float, high: float) -> None:
    for step in drawn(seed, 30, pause_s=(low, high), hold_s=(high, high)):
        assert round(low, 1) <= step.pause_s <= round(high, 1) and step.hold_s == round(high, 1)


def test_steps_are_numbered() -> None:
    assert [step.number for step in drawn(1, 5)] == [1, 2, 3, 4, 5]


def test_of_one_kind_the_same_comes_again() -> None:
    assert [step.kind for step in islice(schedule.steps(1, {"scale": [""]}), 3)] == ["scale"] * 3


def test_without_a_kind_there_is_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        next(schedule.steps(1, {}))


# --- what a fleet cannot have


@pytest.mark.parametrize(
    ("groups", "without"),
    [
        ({"lb": ["lb1"]}, {"balancer-lost", "second-balancer-lost"}),
        ({"lb": []}, {"balancer-lost", "second-balancer-lost"}),
        ({"db": ["db1"]}, {"member-killed", "member-cut-off", "primary-lost", "disk-full"}),
        ({"db": ["db1", "db2"]}, {"member-killed", "member-cut-off", "primary-lost", "disk-full"}),
        ({"serving": ["app1"]}, {"instance-killed", "instance-frozen", "app-host-stopped"}),
    ],
)
def test_what_the_fleet_would_not_survive_is_left_out_and_said(groups: dict[str, list[str]], without: set[str]) -> None:
    can, cannot = schedule.possible(KINDS, {**GROUPS, **groups})
    assert set(cannot) == without
    assert set(can) == {kind.name for kind in KINDS} - without
    ((group, members),) = groups.items()
    assert all(f"{len(members)} of" in why and why.endswith(group) for why in cannot.values())


def test_the_host_that_sends_the_writes_is_spared() -> None:
    can, cannot = schedule.possible(KINDS, GROUPS, {"control1", "app1"})
    assert cannot == {"control-lost": "control1 sends the writes"}
    assert can["app-host-stopped"] == ["app2"]


def test_the_host_with_a_role_is_found_when_the_fault_comes() -> None:
    assert CAN["primary-lost"] == CAN["balancer-lost"] == CAN["scale"] == [""]


def test_a_kind_needs_hosts_beside_the_one_it_takes() -> None:
    kind = Kind("x", "db", 3)
    assert schedule.possible([kind], {"db": ["a", "b", "c"]})[0] == {"x": ["a", "b", "c"]}
    assert schedule.possible([kind], {})[1] == {"x": "0 of 3 hosts that it needs are db"}
