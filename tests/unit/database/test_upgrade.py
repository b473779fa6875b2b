"""Which version of the server may follow which, by the set's feature compatibility version."""

from __future__ import annotations

import pytest

from phoenix.database import upgrade


@pytest.mark.parametrize(
    ("target", "compatibility", "reason"),
    [
        ("6.0.27", "5.0", ""),  # the upgrade
        ("5.0.4", "5.0", ""),  # and its way back
        ("6.0.27", "6.0", ""),  # a release of the same series
        ("7.0.1", "5.0", "Upgrade to 6.0 first"),
        ("7.0.1", "6.0", ""),
        ("5.0.4", "6.0", "-e phoenix_feature_compatibility=5.0 first"),
        ("6.0.27", "4.4", "Upgrade to 5.0 first"),
    ],
)
def test_the_feature_compatibility_version_decides(target: str, compatibility: str, reason: str) -> None:
    refusal = upgrade.refusal(target, compatibility)
    assert reason in refusal and f"mongodb_version = {target}" in refusal if reason else refusal == ""


@pytest.mark.parametrize(
    ("wanted", "running", "unable"),
    [
        ("6.0", {"db1": "6.0.27", "db2": "6.0.27"}, []),
        ("5.0", {"db1": "6.0.27", "db2": "6.0.27"}, []),
        ("6.0", {"db1": "7.0.1", "db2": "6.0.27"}, []),
        ("6.0", {"db1": "6.0.27", "db2": "5.0.4"}, ["db2 runs 5.0.4"]),
        ("7.0", {"db1": "6.0.27", "db2": "6.0.27"}, ["db1 runs 6.0.27", "db2 runs 6.0.27"]),
    ],
)
def test_it_is_raised_only_when_every_member_can(wanted: str, running: dict[str, str], unable: list[str]) -> None:
    refusal = upgrade.compatibility_refusal(wanted, running)
    assert all(member in refusal for member in unable)
    assert bool(refusal) == bool(unable)


def test_an_upgrade_and_its_way_back_are_allowed_at_every_moment_of_it() -> None:
    """With the former feature compatibility version, whichever members have the new server by then."""
    for former, target in (("5.0", "6.0"), ("6.0", "7.0")):
        assert upgrade.refusal(f"{target}.1", former) == upgrade.refusal(f"{former}.1", former) == ""
        assert "way back" in upgrade.refusal(f"{former}.1", target)


def test_those_that_run_another_version_have_a_turn_and_the_primary_the_last() -> None:
    old, new = {"version": "5.0.4", "wanted": "6.0.27"}, {"version": "6.0.27", "wanted": "6.0.27"}
    members = {
        "db1": {**old, "primary": True},
        "db2": {**old, "primary": False},
        "db3": {**new, "primary": False},
    }
    assert upgrade.turns(members) == ["db2", "db1"]


def test_site_brings_no_other_series() -> None:
    assert upgrade.series_refusal("db1", "", "6.0.5") == ""
    assert upgrade.series_refusal("db1", "6.0.5", "6.0.27") == ""
    assert "playbooks/upgrade-mongodb.yml" in upgrade.series_refusal("db1", "5.0.4", "6.0.5")
