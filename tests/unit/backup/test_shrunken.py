"""What counts as shrunken: each collection for itself, against the most that the kept dumps held."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from phoenix.backup import expiry, fingerprint, plan, prove, store
from tests.unit.backup.builders import dump, manifest


def holding(number: int, accepted: bool = False, **documents: int | None) -> store.Dump:
    """A good dump with so many documents of 100 bytes in each collection; None where they can't be counted."""
    spaces = {
        f"app.{name}": fingerprint.Collection(count, None if count is None else count * 100, None, ["_id_"])
        for name, count in documents.items()
    }
    held: dict[str, Any] = {**manifest(1), "namespaces": fingerprint.to_json(spaces)}
    return dump(number, manifest=held, accepted=accepted)


def verdict(*dumps: store.Dump, floor: int = 100, ignored: tuple[str, ...] = ()) -> tuple[str, str]:
    """Of the last one, after those before."""
    return prove.judge(dumps[-1], [], dumps[:-1], floor, ignored)


@pytest.mark.parametrize("users", [0, 4999])
def test_a_small_collection_that_lost_its_documents_beside_a_large_one(users: int) -> None:
    state, reason = verdict(holding(1, events=200_000, users=10_000), holding(2, events=200_000, users=users))
    assert state == "shrunken"
    assert f"app.users holds {users} documents" in reason and "10000 in 1000000" in reason
    assert "app.events" not in reason and "phoenixctl backup accept " in reason


def test_a_collection_that_vanished() -> None:
    state, reason = verdict(holding(1, events=200_000, users=10_000), holding(2, events=200_000))
    assert (state, reason.split(" (")[0]) == ("shrunken", "app.users is missing")


def test_time_series_count_as_the_proof_has_counted_them() -> None:
    """The manifest can't: a database of nothing else was empty, and one that lost them was not shrunken."""

    def measured(number: int, documents: int) -> store.Dump:
        counted = fingerprint.Collection(documents, documents * 100, "00", [])
        spaces = {"iot.metrics": fingerprint.Collection(None, None, None, [])}
        held = {**manifest(1), "namespaces": fingerprint.to_json(spaces)}
        return dump(number, manifest=held, counted=fingerprint.to_json({"iot.metrics": counted}))

    one = measured(1, 10_000)
    assert verdict(one) == ("good", "") and verdict(measured(1, 0))[0] == "empty"
    assert "iot.metrics holds 4999 documents" in verdict(one, measured(2, 4999))[1]
    assert "iot.metrics is missing (10000 documents" in verdict(one, holding(2, users=10_000))[1]
    wanted = plan.wanted(one, "iot")
    assert fingerprint.totals(wanted) == (0, 0), "compared with the scratch server"
    assert fingerprint.totals(plan.counted(one, wanted)) == (10_000, 1_000_000), "for which the members need room"
    now = {"iot.metrics": fingerprint.Collection(5, 500, "00", [])}
    assert plan.counted(one, now) == now, "at another moment"


def test_three_nights_of_forty_nine_percent_add_up() -> None:
    nights = [holding(1, users=10_000), holding(2, users=5_100), holding(3, users=2_601)]
    assert verdict(*nights[:2])[0] == "good"
    assert verdict(*nights)[0] == "shrunken"


def test_an_accepted_dump_is_the_new_measure() -> None:
    nights = [holding(1, users=10_000, events=1000), holding(2, accepted=True, users=200, events=1000)]
    assert verdict(*nights, holding(3, users=200, events=1000))[0] == "good"
    assert verdict(*nights, holding(3, users=90, events=1000))[0] == "shrunken"


def test_documents_that_lost_their_content() -> None:
    thin = holding(2, users=10_000)
    thin.manifest["namespaces"]["app.users"]["bytes"] = 400_000
    assert verdict(holding(1, users=10_000), thin)[0] == "shrunken"


def test_what_may_shrink() -> None:
    before = holding(1, events=200_000, sessions=5_000, settings=99)
    assert verdict(before, holding(2, events=200_000, sessions=5_000))[0] == "good"
    assert verdict(before, holding(2, events=200_000, sessions=5_000), floor=50)[0] == "shrunken"
    assert verdict(before, holding(2, events=200_000))[0] == "shrunken"
    assert verdict(before, holding(2, events=200_000), ignored=("*.sessions",))[0] == "good"


def test_collections_that_were_not_counted_are_no_measure() -> None:
    assert verdict(holding(1, events=1000, capped=None), holding(2, events=1000, capped=None))[0] == "good"


@pytest.mark.parametrize(
    ("documents", "size", "state"),
    [
        (900, 1_000_000, "good"),  # fewer and larger ones
        (10_000, 90_000, "good"),  # as many as `max` allows, and smaller ones
        (4_999, 499_999, "shrunken"),
        (0, 0, "shrunken"),
        (None, None, "shrunken"),  # missing
    ],
)
def test_a_capped_collection_drops_its_oldest_and_nothing_else(
    documents: int | None, size: int | None, state: str
) -> None:
    """The manifest can't count it; the proof can. What it may lose is in no total either."""

    def capped(number: int, documents: int | None, size: int | None) -> store.Dump:
        night = holding(number, False, events=1000, **({} if documents is None else {"log": None}))
        one = fingerprint.Collection(documents, size, "00", ["_id_"])
        return replace(night, counted={} if documents is None else fingerprint.to_json({"app.log": one}))

    found, reason = verdict(capped(1, 10_000, 1_000_000), capped(2, documents, size))
    assert found == state
    assert ("app.log" in reason) == (state == "shrunken") and "everything" not in reason


def test_what_was_to_expire_is_not_missed() -> None:
    """A quiet day empties sessions; one that loses what had not expired, or all of the collection, is noticed."""

    def night(number: int, hour: int, sessions: int | None, hours: dict[str, int]) -> store.Dump:
        held = {"users": 1000} if sessions is None else {"users": 1000, "sessions": sessions}
        found = replace(holding(number, False, **held), expiry={"app.sessions": hours} if sessions is not None else {})
        found.manifest["moment"] = [1_764_000_000 + hour * 3600, 1]
        return found

    first = night(1, 0, 10_000, {"-1": 100, "3": 4900, "20": 3000, "30": 1500})
    assert verdict(first, night(2, 24, 1100, {}))[0] == "good", "2000 are left at that hour"
    state, reason = verdict(first, night(2, 24, 900, {}))
    assert state == "shrunken" and "half of the 2000 in 200000 of" in reason and "not expired since" in reason
    assert "everything" not in reason
    assert verdict(first, night(2, 48, 240, {}))[0] == "shrunken", "500 have no date"
    assert verdict(first, night(2, 1, 0, {}))[0] == "shrunken", "within the hour"
    assert "app.sessions is missing (500" in verdict(first, night(2, 48, None, {}))[1]
    assert verdict(night(1, 0, 10_000, {"3": 9950}), night(2, 24, 0, {}))[0] == "good", "50 are below the floor"


def test_fields_by_which_documents_expire() -> None:
    by_index: list[dict[str, Any]] = [{"key": {"_id": 1}}, {"key": {"a.at": 1}, "expireAfterSeconds": 60}]
    assert expiry.fields({}, by_index) == [("a.at", 60.0)]
    assert expiry.fields({"clusteredIndex": {}, "expireAfterSeconds": 5}, []) == [("_id", 5.0)]
    assert expiry.fields({"timeseries": {"timeField": "t"}, "expireAfterSeconds": 5}, []) == [("t", 5.0)]
    assert expiry.fields({}, [{"key": {"$at": 1}, "expireAfterSeconds": 1}]) == [], "no expression can name it"
    assert expiry.fields({}, [{"key": {"at": 1}, "expireAfterSeconds": float("nan")}]) == []


def test_what_a_restore_set_aside_may_be_dropped() -> None:
    before = holding(1, events=1000)
    aside = {"app.phoenix_aside.20261124T0100.users": before.manifest["namespaces"]["app.events"]}
    before.manifest["namespaces"].update(aside)
    assert verdict(before, holding(2, events=1000))[0] == "good"


def test_many_reasons_are_cut_and_counted() -> None:
    many = {f"c{number:02}": 1000 for number in range(30)}
    reason = verdict(holding(1, False, keep=10**6, **many), holding(2, keep=10**6))[1]
    assert reason.count("is missing") == 10 and "and 20 more" in reason
