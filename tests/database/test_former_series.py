"""The oldest series of MongoDB that may run: what is generated comes back, and what it can't dump is named."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest

from phoenix.backup import sender
from tests.database.generated import comes_back, legacy_index
from tests.harness import debian
from tests.harness.real_database import NAME, Fleet, one_member, unpacked


@pytest.fixture(scope="module")
def programs() -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch, unpacked("mongodb-5.0.4") as folder:
        patch.setenv("LD_LIBRARY_PATH", debian.for_former_mongodb()["LD_LIBRARY_PATH"])
        yield folder


@pytest.fixture(scope="module")
def running(programs: Path) -> Iterator[Fleet]:
    with one_member(programs) as fleet:
        yield fleet


@pytest.mark.parametrize("seed", range(2))
def test_a_generated_database_comes_back_as_it_was(fleet: Fleet, seed: int) -> None:
    assert fleet.client.server_info()["version"] == "5.0.4"
    comes_back(fleet, seed)


def test_indexes_of_former_versions_end_the_night_with_what_to_run(fleet: Fleet) -> None:
    """Such collections end mongodump; the command of the message lets it read them, and loses no index."""
    for title in ("items", 'other "one"'):
        fleet.client.app[title].insert_one({"_id": 1, "n": 1})
        legacy_index(fleet, title)
    fleet.client.app.good.create_index("n")
    with pytest.raises(sender.Final, match=r"indexes of app\.items, app\.other \"one\": ") as failed:
        fleet.dump()
    commands = str(failed.value).split(": ", 2)[2].split("; ")
    assert commands == [
        'db.getSiblingDB("app").runCommand({collMod: "items"})',
        'db.getSiblingDB("app").runCommand({collMod: "other \\"one\\""})',
    ]
    for title in ("items", 'other "one"'):
        fleet.client.app.command({"collMod": title})
    before = fleet.state()
    assert [one["name"] for one in before["app.items by"]] == ["_id_", "n_1"]
    dump = fleet.dump("20261125T010000Z-db1")
    assert dump.state == "good" and dump.name != NAME, dump.reason
    fleet.client.app.items.drop()
    fleet.restore(dump=dump.name)
    assert {name: one for name, one in fleet.state().items() if ".phoenix_aside." not in name} == before


def test_a_time_series_is_restored_beside_a_live_one(fleet: Fleet) -> None:
    fleet.client.app.items.insert_one({"_id": 1})
    metrics = fleet.client.app.create_collection("metrics", timeseries={"timeField": "t", "metaField": "m"})
    at = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
    metrics.insert_many([{"t": at, "m": number} for number in range(10)])
    assert fleet.dump().state == "good"
    metrics.insert_one({"t": at, "m": "since"})
    (said,) = [line for line in fleet.restore(series="beside") if "beside the live one" in line]
    assert fleet.client.app[said.split(", as app.")[1]].count_documents({}) == 10
    assert metrics.count_documents({"m": "since"}) == 1
