"""Whether a fleet is whole and as before, from what its hosts report."""

from __future__ import annotations

from typing import Any

import pytest

from soak.found import Found, compared, differences, unwell
from tests.unit.soak.fleets import fleet, status


def test_a_whole_fleet_is_as_it_was() -> None:
    assert compared(fleet(), fleet()) == []


def test_another_primary_holder_and_restarted_instances_are_as_before() -> None:
    moved = fleet(
        app1=status(instances=["3000(restarts 3)", "3900"], release="1"),
        db1=status(database="SECONDARY"),
        db2=status(database="PRIMARY"),
        lb1=status(floating={"192.0.2.10": False}),
        lb2=status(floating={"192.0.2.10": True}),
    )
    assert compared(fleet(), moved) == []


@pytest.mark.parametrize(
    ("hosts", "what"),
    [
        ({"db3": {}}, "db3 does not answer"),
        ({"db3": status(database="silent")}, "the database's members are PRIMARY, SECONDARY, silent"),
        ({"db2": status(database="PRIMARY")}, "the database's members are PRIMARY, PRIMARY, SECONDARY"),
        ({"app1": status(instances=["3000(restarts 2)[activating]"])}, "app1: instance 3000[activating]"),
        ({"app1": status(system="degraded", failed=["x.service"])}, "app1 is degraded: x.service"),
        ({"app1": status(system="starting")}, "app1 is starting"),
        ({"lb2": status(floating={"192.0.2.10": True})}, "2 load balancers have 192.0.2.10"),
        ({"lb1": status(floating={"192.0.2.10": False})}, "0 load balancers have 192.0.2.10"),
    ],
)
def test_what_is_wrong_is_named(hosts: dict[str, Any], what: str) -> None:
    assert what in unwell(fleet(**hosts))
    assert what in compared(fleet(), fleet(**hosts))


@pytest.mark.parametrize(
    ("after", "what"),
    [
        (fleet(record={"capacity": 3}), "the record's capacity was 2, is 3"),
        (fleet(record={"drained": {"app1:3000": "x"}}), "the record's drained was {}, is {'app1:3000': 'x'}"),
        (fleet(rotation=3), "lb1 had 2 instances in rotation, has 3"),
        (
            fleet(app1=status(instances=["3000", "3900"], release="2")),
            "app1: release was 1, is 2",
        ),
        (
            fleet(app1=status(instances=["3000", "3001", "3900"], release="1")),
            "app1: instances was ['3000', '3900'], is ['3000', '3001', '3900']",
        ),
        (fleet(db3=status()), "db3: database was True, is False"),
    ],
)
def test_what_is_not_as_before_is_named(after: Found, what: str) -> None:
    assert what in differences(fleet(), after)


def test_what_was_not_recorded_before_is_no_difference() -> None:
    before = fleet(record={"capacity": None, "lost": {"capacity": "not there"}})
    assert differences(before, fleet()) == []
    assert differences(fleet(), before) == ["the record's capacity was 2, is None"]
