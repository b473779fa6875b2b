"""What a host's backup holds besides the database."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from phoenix.fleet import state_parts

CONTROL = ["state", "releases", "pipeline"]


@pytest.mark.parametrize(
    ("groups", "first_control", "names"),
    [
        ({"app"}, False, []),
        ({"db", "lb"}, False, ["certificates"]),
        ({"jenkins"}, False, ["jenkins"]),
        # The second of two issues nothing.
        ({"control"}, False, CONTROL),
        ({"control", "lb"}, True, [*CONTROL, "acme", "authority", "certificates"]),
    ],
)
def test_each_group_has_its_parts(groups: Collection[str], first_control: bool, names: list[str]) -> None:
    parts = state_parts.parts(groups, first_control, acme=True, authority=True)
    assert [part["name"] for part in parts] == names
    assert all(part["paths"] for part in parts)


def test_a_certificate_is_kept_where_the_fleet_issues_it() -> None:
    assert [part["name"] for part in state_parts.parts({"control"}, True, acme=False, authority=False)] == CONTROL


def test_what_is_left_out_is_within_what_is_kept() -> None:
    for part in state_parts.parts({"control"}, True, acme=True, authority=True):
        for left_out in part.get("exclude", []):
            assert any(left_out.startswith(f"{path}/") for path in part["paths"]), left_out


def test_a_change_of_what_no_play_makes_again_is_sent_at_once() -> None:
    folders = state_parts.triggers({"control"}, True, acme=True, authority=True)
    assert folders == [state_parts.STATE, state_parts.ACME, state_parts.AUTHORITY]
    assert state_parts.triggers({"control"}, False, acme=True, authority=True) == [state_parts.STATE]
    assert state_parts.triggers({"lb"}, False, acme=True, authority=True) == []
    known = [path for part in state_parts.parts({"control"}, True, acme=True, authority=True) for path in part["paths"]]
    assert set(folders) <= set(known)
