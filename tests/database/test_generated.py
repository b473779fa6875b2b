"""Databases out of a seed, written to and changed while they are dumped, and restored to the dump's moment."""

from __future__ import annotations

import datetime
import threading

import pytest
from pymongo.errors import PyMongoError

from tests.database.generated import comes_back
from tests.harness.real_database import Fleet


@pytest.mark.parametrize("seed", range(4))
def test_a_generated_database_comes_back_as_it_was(fleet: Fleet, seed: int) -> None:
    comes_back(fleet, seed)


def test_a_dump_under_writes_is_restored_to_its_moment(fleet: Fleet) -> None:
    """A writer goes on; what is restored is a prefix of what it wrote, and equal to the member at that moment."""
    fleet.client.app.items.insert_many([{"_id": -number, "text": "x" * 500} for number in range(1, 20000)])
    fleet.client.app.items.create_index("at", expireAfterSeconds=10**8)
    over, wrote = threading.Event(), [0]

    def write() -> None:
        while not over.wait(0.002):
            wrote[0] += 1
            fleet.client.app.items.insert_one({"_id": wrote[0], "at": datetime.datetime.now(datetime.UTC)})
            fleet.client.app.items.update_one({"_id": -(wrote[0] % 20000)}, {"$inc": {"touched": 1}})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        dump = fleet.dump()
    finally:
        over.set()
        writer.join()
    assert dump.state == "good", dump.reason
    fleet.restore()
    restored = [one["_id"] for one in fleet.client.app.items.find({"_id": {"$gt": 0}}, sort=[("_id", 1)])]
    assert restored == list(range(1, len(restored) + 1))
    assert 0 < len(restored) < wrote[0]


def test_collections_that_come_and_go_end_an_attempt_or_are_in_the_dump(fleet: Fleet) -> None:
    """Created, renamed and dropped while it is dumped: never a dump that is called good and is not."""
    fleet.client.app.items.insert_many([{"_id": number, "text": "x" * 500} for number in range(20000)])
    over = threading.Event()

    def stir() -> None:
        number = 0
        while not over.wait(0.05):
            number += 1
            fleet.client.app[f"t{number}"].insert_one({"_id": 1})
            fleet.client.app[f"t{number}"].rename(f"r{number}")
            fleet.client.app[f"r{number - 1}"].drop()

    stirrer = threading.Thread(target=stir)
    stirrer.start()
    try:
        named = r"app\.t\d+ renamed to app\.r\d+|can't be read at the dump's moment.*: app\.[tr]\d+ "
        with pytest.raises(Exception, match=named) as failed:
            fleet.dump()
    finally:
        over.set()
        stirrer.join()
    assert not isinstance(failed.value, PyMongoError)
    assert fleet.dump("20261125T010000Z-db1").state == "good"
