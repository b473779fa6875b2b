"""How many load balancers have an address, from what each reported when."""

from phoenix.monitoring.floating import LATE_S, holders


def test_one_holder() -> None:
    assert holders({"lb1": {2: 1, 4: 1}, "lb2": {2: 0, 4: 0}}) == 1


def test_two_holders() -> None:
    assert holders({"lb1": {2: 1, 4: 1}, "lb2": {2: 0, 4: 1}}) == 2


def test_a_move_that_one_has_not_reported_yet_is_no_second_holder() -> None:
    assert holders({"lb1": {2: 1}, "lb2": {2: 0, 4: 1}}) == 1
    assert holders({"lb1": {2: 1, 4: 0}, "lb2": {2: 0}}) == 1


def test_a_lost_host_does_not_count() -> None:
    at = 2 + LATE_S + 1
    assert holders({"lb1": {2: 1}, "lb2": {2: 0, at: 1}}) == 1
    assert holders({"lb1": {2: 1}, "lb2": {2: 0, at: 0}}) == 0


def test_nothing_is_known_where_nobody_reports() -> None:
    assert holders({"lb1": {}, "lb2": {}}) is None
    assert holders({"lb1": {1: 1}, "lb2": {2: 1}}) is None
