"""Minimums by the calendar: when they apply, across clock changes, and what is refused."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from phoenix.autoscaler import schedule
from phoenix.autoscaler.floor import Floor

BERLIN = "Europe/Berlin"
HOURS = {"cron": "0 8 * * 1-5", "until": "0 18 * * 1-5", "minimum": 6}
CAMPAIGN = {"cron": "30 11 27 11 *", "minutes": 90, "minimum": 20}


def floor(at: str, *entries: dict[str, Any]) -> Floor | None:
    moment = datetime.fromisoformat(at).replace(tzinfo=ZoneInfo(BERLIN))
    return schedule.parse(list(entries), BERLIN).floor(moment.timestamp())


@pytest.mark.parametrize(
    ("at", "minimum"),
    [
        ("2026-11-25T07:59:59", None),
        ("2026-11-25T08:00:00", 6),  # a Wednesday
        ("2026-11-25T17:59:59", 6),
        ("2026-11-25T18:00:00", None),
        ("2026-11-28T12:00:00", None),  # a Saturday
        ("2026-11-27T11:29:00", 6),
        ("2026-11-27T11:30:00", 20),  # the greater of two
        ("2026-11-27T13:00:00", 6),
    ],
)
def test_when_a_minimum_applies(at: str, minimum: int | None) -> None:
    found = floor(at, HOURS, CAMPAIGN)
    assert (found.count if found else None) == minimum


def test_the_source_says_which_entry_and_until_when() -> None:
    found = floor("2026-11-25T12:00", HOURS)
    assert found is not None
    assert found.source == "the schedule '0 8 * * 1-5' until 2026-11-25 18:00 CET"


@pytest.mark.parametrize(("at", "minimum"), [("2026-03-29T03:29", 5), ("2026-03-29T03:30", None)])
def test_minutes_are_minutes_when_the_clocks_change(at: str, minimum: int | None) -> None:
    found = floor(at, {"cron": "30 1 * * *", "minutes": 60, "minimum": 5})  # from 2:00 on it is 3:00
    assert (found.count if found else None) == minimum


def test_an_end_after_midnight() -> None:
    night = {"cron": "0 22 * * *", "until": "0 6 * * *", "minimum": 3}
    assert floor("2026-11-25T23:00", night)
    assert floor("2026-11-25T05:00", night)
    assert floor("2026-11-25T12:00", night) is None


def test_an_empty_schedule_sets_nothing() -> None:
    assert schedule.parse([], "UTC").floor(0.0) is None


@pytest.mark.parametrize(
    ("entries", "zone", "said"),
    [
        ([HOURS | {"cron": "0 25 * * *"}], "UTC", "autoscaler_schedule[0].cron: '0 25 * * *' is not a cron expression"),
        ([HOURS | {"until": "tomorrow"}], "UTC", "autoscaler_schedule[0].until: 'tomorrow' is not a cron expression"),
        ([HOURS, HOURS | {"minimum": 0}], "UTC", "autoscaler_schedule[1].minimum: 0 is not a whole number from 1"),
        ([HOURS | {"minimum": 13}], "UTC", "autoscaler_schedule[0].minimum: 13 is above 12"),
        ([HOURS | {"minutes": 5}], "UTC", "one of minutes and until"),
        ([{"cron": "0 8 * * *", "minimum": 2}], "UTC", "one of minutes and until"),
        ([HOURS | {"maximum": 5}], "UTC", "needs cron, minimum"),
        ([{"cron": "0 8 * * *", "minimum": 2, "minutes": "x"}], "UTC", "minutes: 'x' is not a whole number"),
        (["0 8 * * *"], "UTC", "needs cron, minimum"),
        ("0 8 * * *", "UTC", "is not a list"),
        ([HOURS], "Mars/Base", "autoscaler_schedule_timezone: 'Mars/Base' is not a time zone"),
    ],
)
def test_refused_with_variable_value_and_fix(entries: Any, zone: str, said: str) -> None:
    (found,) = schedule.errors(entries, zone, 12)
    assert said in found
    assert any(fix in found for fix in ("give", "lower", "for example"))


def test_a_valid_schedule_has_no_errors() -> None:
    assert schedule.errors([HOURS, CAMPAIGN], BERLIN, 20) == []
