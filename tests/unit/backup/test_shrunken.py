"""What counts as shrunken: each collection for itself, against the most that the kept dumps held."""

from __future__ import annotations

from typing import Any

import pytest

from phoenix.backup import fingerprint, plan, prove, store
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
        return dump(number, manifest=held, series=fingerprint.to_json({"iot.metrics": counted}))

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


def test_collections_that_cannot_be_counted_are_no_measure() -> None:
    assert verdict(holding(1, events=1000, capped=None), holding(2, events=1000, capped=None))[0] == "good"


def test_what_a_restore_set_aside_may_be_dropped() -> None:
    before = holding(1, events=1000)
    aside = {"app.phoenix_aside.20261124T0100.users": before.manifest["namespaces"]["app.events"]}
    before.manifest["namespaces"].update(aside)
    assert verdict(before, holding(2, events=1000))[0] == "good"


def test_many_reasons_are_cut_and_counted() -> None:
    many = {f"c{number:02}": 1000 for number in range(30)}
    reason = verdict(holding(1, False, keep=10**6, **many), holding(2, keep=10**6))[1]
    assert reason.count("is missing") == 10 and "and 20 more" in reason
