"""Any data is dumped, proven and restored to equality, with the real server and tools."""

from __future__ import annotations

import contextlib
import datetime
import os
import select
import time
from collections.abc import Iterator
from typing import Any

import pytest
from bson import Code, Decimal128, Int64

from phoenix.backup import aside, exchange, expiry, fingerprint, left_out, plan, restore, scratch, sender
from phoenix.backup.order import Refused
from tests.database.generated import legacy_index
from tests.harness.real_database import NAME, Fleet

EXPIRED = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


def fill(client: Any) -> None:
    """Each kind of collection, index and option that is dumped and restored to equality."""
    # Not last: mongorestore does not read an oplog that begins with so large an entry.
    client.large.documents.insert_one({"_id": 1, "text": "x" * (16 * 1024 * 1024 - 100)})
    app = client.app
    app.items.insert_many(
        [{"_id": number, "n": number % 7, "at": [number % 180, -number % 90]} for number in range(3000)]
    )
    app.items.create_index([("n", 1), ("_id", -1)])
    app.items.create_index("optional", unique=True, sparse=True)
    app.items.create_index("n", name="few", partialFilterExpression={"n": {"$gt": 5}})
    app.items.create_index([("place", "2dsphere")])
    app.items.create_index([("at", "2d")])
    app.items.create_index([("$**", "text")], default_language="german", weights={"title": 3})
    app.items.create_index([("attributes.$**", 1)], hidden=True)
    app.items.create_index([("hashed", "hashed")])
    app.create_collection("names", collation={"locale": "de", "strength": 2})
    app.names.insert_many([{"name": "Ä"}, {"name": "b"}])
    app.names.create_index("name", unique=True)
    app.names.create_index("name", name="bytewise", collation={"locale": "simple"})
    app.create_collection("ring", capped=True, size=4096, max=50)
    app.ring.insert_many([{"x": number} for number in range(80)])
    app.old.insert_many([{"_id": number} for number in range(3)])
    app.command({"collMod": "old", "validator": {"email": {"$exists": True}}})
    app.system.js.insert_one({"_id": "f", "value": Code("function () { return 1 }")})
    app.create_collection("keyed", clusteredIndex={"key": {"_id": 1}, "unique": True})
    app.keyed.insert_one({"_id": 1})
    app.command({"create": "shown", "viewOn": "items", "pipeline": [{"$match": {"n": 3}}]})
    app["odd.name with *, \\ and space"].insert_one({"x": 1})
    app["ünïcode"].insert_one({"ä": "ö"})
    app.empty.create_index("nothing")
    app.numbers.insert_many(
        [{"_id": Int64(2**62)}, {"_id": Decimal128("1.10")}, {"_id": Decimal128("NaN")}, {"_id": 1.5}, {"_id": None}]
    )
    client.files["fs.chunks"].insert_one({"files_id": 1, "n": 0, "data": b"x" * 255 * 1024})
    client.files["fs.files"].insert_one({"_id": 1, "length": 255 * 1024})
    client.files["fs.chunks"].create_index([("files_id", 1), ("n", 1)], unique=True)


def test_everything_is_restored_to_equality(fleet: Fleet) -> None:
    fill(fleet.client)
    before = fleet.state()
    dump = fleet.dump()
    assert dump.state == "good", dump.reason
    assert dump.namespaces["app.ring"].documents == 50
    fleet.client.app.items.delete_many({"n": 3})
    fleet.client.app.old.drop()
    fleet.client.app.names.drop_index("bytewise")
    fleet.client.app.system.js.delete_one({})
    fleet.client.app.command({"collMod": "shown", "viewOn": "items", "pipeline": []})
    fleet.client.app.later.insert_one({"_id": 1})
    done = fleet.restore()
    assert any("set aside app.later" in line for line in done)
    restored = {name: one for name, one in fleet.state().items() if ".phoenix_aside." not in name}
    assert restored == before


def test_indexes_of_former_versions(fleet: Fleet) -> None:
    legacy_index(fleet, "items")
    fleet.client.app.items.insert_one({"n": 1})
    dump = fleet.dump()
    assert dump.state == "good", dump.reason
    fleet.client.app.items.drop()
    fleet.restore()
    assert list(fleet.client.app.items.index_information()) == ["_id_", "n_1"]


def test_what_expires_is_proven_and_restored(fleet: Fleet) -> None:
    """The member holds what expired long ago; between dump and comparison nothing may be deleted."""
    fleet.client.admin.command("setParameter", 1, ttlMonitorEnabled=False)
    try:
        sessions = fleet.client.app.sessions
        sessions.insert_many([{"_id": number, "at": EXPIRED} for number in range(1000)])
        sessions.create_index("at", expireAfterSeconds=60)
        fleet.client.app.create_collection(
            "tokens", clusteredIndex={"key": {"_id": 1}, "unique": True}, expireAfterSeconds=60
        )
        fleet.client.app.tokens.insert_many([{"_id": EXPIRED + datetime.timedelta(n)} for n in range(-5, 0)])
        dump = fleet.dump()
    finally:
        fleet.client.admin.command("setParameter", 1, ttlMonitorEnabled=True)
    assert dump.state == "good", dump.reason
    fleet.restore()
    assert sessions.index_information()["at_1"]["expireAfterSeconds"] == 60
    (tokens,) = fleet.client.app.list_collections(filter={"name": "tokens"})
    assert tokens["options"]["expireAfterSeconds"] == 60


def test_what_is_in_the_servers_own_databases_is_found(fleet: Fleet) -> None:
    """By the backup's user, and nothing of what a server, its sessions, transactions and users keep there."""
    with fleet.client.start_session() as session, session.start_transaction():
        fleet.client.app.items.insert_one({"_id": 1}, session=session)
    fleet.client.app.items.find_one_and_update({"_id": 1}, {"$inc": {"n": 1}})
    fleet.client.config.command("refreshLogicalSessionCacheNow")
    with sender.connect(fleet.sender) as client:
        assert left_out.take(client) == []
        fleet.client.admin.orders.insert_one({"_id": 1})
        fleet.client.config.own.insert_one({"_id": 1})
        fleet.client.local.command("create", "noted")  # no write of the driver's, which is repeated by the oplog
        try:
            assert left_out.take(client) == ["admin.orders", "config.own", "local.noted"]
        finally:
            fleet.client.admin.orders.drop()
            fleet.client.config.own.drop()
            fleet.client.local.noted.drop()


def test_what_expires_is_counted_by_the_hour(fleet: Fleet) -> None:
    """By the server's own dates: of several the earliest, of several indexes the first; the rest lasts."""
    app, moment = fleet.client.app, datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
    hour = datetime.timedelta(hours=1)
    app.mixed.create_index("at", expireAfterSeconds=3600)
    app.mixed.create_index("own.end", expireAfterSeconds=0)
    app.mixed.insert_many(
        [
            {"at": moment + hour * 0.5},
            {"at": [moment + hour * 9, moment + hour * 0.6, 5]},
            {"at": moment + hour * 20, "own": {"end": moment + hour * 2.5}},
            {"at": moment - hour * 1.5},
            {"at": moment - hour * 9},
            {"at": "2100-01-01"},
            {"at": moment + hour * 24 * 365},
            {},
        ]
    )
    app.create_collection("metrics", timeseries={"timeField": "t"}, expireAfterSeconds=7200)
    app.metrics.insert_many([{"t": moment + hour * number} for number in range(-1, 2)])
    app.lasting.insert_one({"at": moment})
    assert expiry.take(fleet.client, ["app.mixed", "app.metrics", "app.lasting"], moment.timestamp()) == {
        "app.mixed": {"-1": 1, "1": 1, "2": 1},
        "app.metrics": {"1": 1, "2": 1, "3": 1},
    }


def test_what_was_written_since_the_dump_is_kept_and_comes_back(fleet: Fleet) -> None:
    fleet.client.app.items.insert_one({"_id": 1})
    fleet.dump()
    fleet.client.app.items.insert_one({"_id": 2})
    before = fleet.state()
    fleet.restore()
    assert fleet.client.app.items.distinct("_id") == [1]
    stamp = aside.show(fleet.store, fleet.order()).split()[3].rstrip(":")
    report = aside.put_back(fleet.store, fleet.order(aside=stamp))
    assert "put back app.items" in report
    assert {name: one for name, one in fleet.state().items() if ".phoenix_aside." not in name} == before
    # And what the restore brought is set aside in turn.
    stamp = aside.show(fleet.store, fleet.order()).split()[3].rstrip(":")
    assert f"dropped app.phoenix_aside.{stamp}.items" in aside.drop(fleet.store, fleet.order(aside=stamp))
    assert fleet.state() == before
    with pytest.raises(Refused, match="nothing is set aside"):
        aside.put_back(fleet.store, fleet.order(aside=stamp))


def test_what_was_set_aside_is_in_no_restore(fleet: Fleet) -> None:
    fleet.client.app.items.insert_many([{"_id": number} for number in range(10)])
    fleet.dump()
    fleet.restore()
    dump = fleet.dump("20261125T010000Z-db1")
    assert dump.state == "good", dump.reason
    assert len(dump.manifest["namespaces"]) == 2
    before = fleet.client.app.list_collection_names()
    fleet.restore(dump=dump.name)
    assert len(fleet.client.app.list_collection_names()) == len(before) + 1


def test_one_collection_reads_and_touches_nothing_else(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.client.app.items.insert_many([{"_id": number} for number in range(5)])
    fleet.client.app.large.insert_many([{"_id": number} for number in range(20000)])
    fleet.dump()
    fleet.client.app.items.drop()
    fleet.client.app.large.insert_one({"_id": "later"})

    def read() -> int:
        return int(fleet.client.admin.command("serverStatus")["metrics"]["document"]["returned"])

    held: list[list[str]] = []
    replace = restore.replace

    def look(*arguments: Any) -> list[str]:
        with contextlib.closing(scratch.client(fleet.store)) as client:
            held.append(client.app.list_collection_names())
        return replace(*arguments)

    monkeypatch.setattr(restore, "replace", look)
    begun = read()
    fleet.restore(collection="app.items")
    assert held == [["items"]], "the scratch server has the rest as well"
    assert restore.verify(fleet.store, fleet.order(collection="app.items")) == []
    assert read() - begun < 10000
    assert fleet.client.app.large.count_documents({}) == 20001
    assert fleet.client.app.items.count_documents({}) == 5


def test_a_part_of_a_dump_under_writes_is_as_the_whole(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """What mongodump captured of the oplog is narrowed with the rest, transactions as well."""
    app = fleet.client.app
    # More than the pipe holds: mongodump, which reads these side by side, waits in the middle.
    app.filler.insert_many([{"_id": number, "bytes": os.urandom(1024 * 1024)} for number in range(12)])
    for title in ("items", "other"):
        app[title].insert_many([{"_id": number} for number in range(10)])
    app.create_collection("metrics", timeseries={"timeField": "t"})
    mongodump = sender._mongodump

    @contextlib.contextmanager
    def slow(config: Any) -> Iterator[Any]:
        with mongodump(config) as (process, lines):
            assert process.stdout and select.select([process.stdout], [], [], 60)[0]
            time.sleep(2)
            with fleet.client.start_session() as session, session.start_transaction():
                for number in range(10, 20):
                    for title in ("items", "other"):
                        app[title].insert_one({"_id": number, "text": "x" * 1024 * 1024}, session=session)
            app.items.delete_one({"_id": 1})
            app.other.update_one({"_id": 1}, {"$set": {"n": 1}})
            app.metrics.insert_one({"t": EXPIRED})
            yield process, lines

    monkeypatch.setattr(sender, "_mongodump", slow)
    dump = fleet.dump()
    assert dump.state == "good", dump.reason
    assert dump.manifest["namespaces"]["app.items"]["documents"] == 19
    for collection in ("app.items", "app.other", "app.metrics", "app"):
        with scratch.holding(fleet.store, dump, collection):
            pass
    with scratch.holding(fleet.store, dump, "app.metrics"), contextlib.closing(scratch.client(fleet.store)) as client:
        assert client.app.metrics.count_documents({}) == 1
        assert client.app.list_collection_names(filter={"type": "timeseries"}) == ["metrics"]


def test_a_damaged_archive_is_found_where_a_part_is_read(fleet: Fleet) -> None:
    fleet.client.app.items.insert_many([{"_id": number} for number in range(10)])
    fleet.client.app.other.insert_one({"_id": os.urandom(100000)})
    dump = fleet.dump()
    assert dump.folder
    archive = dump.folder / "dump.archive.gz"
    whole = archive.read_bytes()
    for harmed, why in (
        (whole[:50000] + bytes([whole[50000] ^ 1]) + whole[50001:], "is damaged"),
        (whole[:-50], "is damaged"),
    ):
        archive.write_bytes(harmed)
        with pytest.raises(scratch.Unproven, match=why), scratch.holding(fleet.store, dump, "app.items"):
            pass


def test_time_series_are_restored_where_they_are_gone_and_refused_by_name_where_not(fleet: Fleet) -> None:
    fleet.client.app.create_collection("zmetrics", timeseries={"timeField": "t", "metaField": "m"})
    now = datetime.datetime.now(datetime.UTC)
    fleet.client.app.zmetrics.insert_many([{"t": now + datetime.timedelta(seconds=n), "m": n % 2} for n in range(10)])
    fleet.client.app.zmetrics.create_index([("m", 1), ("t", 1)])
    fleet.client.app.requests.insert_one({"_id": 1})
    dump = fleet.dump()
    assert dump.state == "good", dump.reason
    (told,) = dump.conditions
    assert told.startswith("app.zmetrics is a time series"), "known in the night, not only when it is restored"
    before = fleet.state()
    fleet.client.app.requests.insert_one({"_id": "marker"})
    with pytest.raises(Refused, match=r"app\.zmetrics is a time series, which can't be renamed"):
        fleet.restore()
    assert fleet.client.app.requests.count_documents({"_id": "marker"}) == 1
    fleet.client.app.zmetrics.drop()
    fleet.restore()
    assert {name: one for name, one in fleet.state().items() if ".phoenix_aside." not in name} == before
    assert "m_1_t_1" in fleet.client.app.zmetrics.index_information()


def test_a_database_of_time_series_alone_is_judged_and_restored(fleet: Fleet) -> None:
    """No member counts them at a dump's moment: what their buckets hold is known from the scratch server."""

    def measure(count: int) -> None:
        fleet.client.drop_database("iot")
        fleet.client.iot.create_collection("metrics", timeseries={"timeField": "t"})
        fleet.client.iot.metrics.insert_many([{"t": EXPIRED + datetime.timedelta(seconds=n)} for n in range(count)])

    measure(300)
    whole = fleet.dump()
    assert whole.state == "good", whole.reason
    before = fleet.state()
    fleet.client.drop_database("iot")
    assert "with 300 documents" in fleet.restore(collection="iot")[0]
    assert fleet.state() == before
    measure(100)
    fewer = fleet.dump("20261125T010000Z-db1")
    assert fewer.state == "shrunken" and "iot.metrics holds 100 documents" in fewer.reason
    fleet.client.drop_database("iot")
    fleet.client.app.items.insert_one({"_id": 1})
    none = fleet.dump("20261126T010000Z-db1")
    assert none.state == "shrunken" and "iot.metrics is missing (300 documents" in none.reason


def test_a_time_series_is_restored_beside_a_live_one(fleet: Fleet) -> None:
    """By the way that the refusal names: everything else changes places, and the live measurements stay."""
    app, title = fleet.client.app, "metrics of *, x"
    app.create_collection(title, timeseries={"timeField": "t", "metaField": "m"})
    app[title].insert_many([{"t": EXPIRED + datetime.timedelta(seconds=n), "m": n % 2, "n": n} for n in range(10)])
    app[title].create_index([("m", 1), ("t", 1)])
    app.requests.insert_one({"_id": 1})
    fleet.dump()
    app[title].insert_one({"t": EXPIRED, "m": 5, "n": "since"})
    app.create_collection("later", timeseries={"timeField": "t"})
    app.requests.insert_one({"_id": "since"})
    with pytest.raises(Refused, match=r"-e phoenix_restore_series=beside restores it as app\.phoenix_restored\.STAMP"):
        fleet.restore()
    with pytest.raises(Refused, match="is 'besides'"):
        fleet.restore(series="besides")
    done = fleet.restore(series="beside")
    (said,) = [line for line in done if "beside the live one" in line]
    beside = app[said.split(", as app.")[1]]
    assert sorted(one["n"] for one in beside.find()) == list(range(10)) and "m_1_t_1" in beside.index_information()
    assert app[title].count_documents({"n": "since"}) == 1 and "later" in app.list_collection_names()
    assert app.requests.distinct("_id") == [1]
    assert restore.verify(fleet.store, fleet.order()) == ["app.later is not in the manifest"]
    # It is in no later restore, is listed, and goes with what was set aside.
    second = fleet.dump("20261125T010000Z-db1")
    assert second.state == "good", second.reason
    fleet.restore(dump=second.name, collection="app.requests")
    listed = aside.show(fleet.store, fleet.order())
    stamp = beside.name.split(".")[1]
    assert f"restored beside as {stamp}: app.{beside.name}" in listed
    aside.put_back(fleet.store, fleet.order(aside=stamp))
    assert app.requests.distinct("_id") == [1, "since"] and beside.count_documents({}) == 10
    aside.drop(fleet.store, fleet.order(aside=stamp))
    assert beside.name not in app.list_collection_names()


def test_a_view_in_a_collections_place_is_refused_by_name(fleet: Fleet) -> None:
    fleet.client.app.requests.insert_one({"_id": 1})
    fleet.client.app.zv.insert_one({"_id": 1})
    fleet.dump()
    fleet.client.app.zv.drop()
    fleet.client.app.command({"create": "zv", "viewOn": "requests", "pipeline": []})
    fleet.client.app.requests.insert_one({"_id": "marker"})
    with pytest.raises(Refused, match=r"app\.zv is a view now"):
        fleet.restore()
    assert fleet.client.app.requests.count_documents({"_id": "marker"}) == 1


def test_a_collection_of_after_the_plan_stays(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.client.app.items.insert_one({"_id": 1})
    fleet.dump()
    planned = plan.planned

    def later(*arguments: Any) -> list[str]:
        fleet.client.app.later.insert_one({"_id": 1})
        return planned(*arguments)

    monkeypatch.setattr(plan, "planned", later)
    fleet.restore()
    assert fleet.client.app.later.count_documents({}) == 1


def collections(fleet: Fleet) -> None:
    for number in range(5):
        fleet.client.app[f"c{number}"].insert_one({"_id": "old"})
    fleet.dump()
    for number in range(5):
        fleet.client.app[f"c{number}"].insert_one({"_id": "new"})


def fail_renames(fleet: Fleet, mode: Any, code: int) -> None:
    data = {"failCommands": ["renameCollection"], "errorCode": code}
    fleet.client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)


def test_the_switch_survives_an_election(fleet: Fleet) -> None:
    collections(fleet)
    fail_renames(fleet, {"times": 4}, 189)  # PrimarySteppedDown
    fleet.restore()
    assert [fleet.client.app[f"c{number}"].distinct("_id") for number in range(5)] == [["old"]] * 5


def test_a_switch_that_cannot_be_finished_is_undone(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    collections(fleet)
    before = fleet.state()
    fail_renames(fleet, {"skip": 5}, 13)  # Unauthorized, from the third collection on
    places = exchange._reach
    calls: list[Any] = []

    def reach(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            fail_renames(fleet, "off", 13)
        places(*arguments)

    monkeypatch.setattr(exchange, "_reach", reach)
    try:
        with pytest.raises(Refused, match="the live data is as it was"):
            fleet.restore()
    finally:
        fail_renames(fleet, "off", 13)
    assert len(calls) == 2
    assert fleet.state() == before


def test_writes_into_the_gap_are_kept(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the two renames a write makes the collection again: it is set aside like everything else."""
    fleet.client.app.items.insert_one({"_id": 1})
    fleet.dump()
    titles = exchange.titles
    found: list[dict[str, Any]] = []

    def late(client: Any, database: str) -> dict[str, Any]:
        seen = titles(client, database)
        if "phoenix_restoring.items" in seen and len(found) == 2:
            client.app.items.rename("phoenix_aside.20260101T000000Z.items")
            client.app.items.insert_one({"_id": "gap"})
        found.append(seen)
        return seen

    monkeypatch.setattr(exchange, "titles", late)
    fleet.restore()
    monkeypatch.undo()
    names = [name for name in fleet.client.app.list_collection_names() if name.startswith("phoenix_aside.")]
    kept = {document["_id"] for name in names for document in fleet.client.app[name].find()}
    assert kept == {1, "gap"}
    assert fleet.client.app.items.distinct("_id") == [1]


def test_a_moment_that_takes_too_long_to_read_fails_with_the_setting_that_helps(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server keeps one second, and so the database is too large: no try would succeed."""
    fleet.client.app.items.insert_many([{"_id": number, "text": "x" * 10000} for number in range(5000)])
    hashed = fingerprint.Digest.feed

    def slow(digest: fingerprint.Digest, batch: bytes) -> None:
        for _ in range(5):
            fleet.client.app.other.insert_one({})
            time.sleep(1)
        hashed(digest, batch)

    monkeypatch.setattr(fingerprint.Digest, "feed", slow)
    fleet.client.admin.command("setParameter", 1, minSnapshotHistoryWindowInSeconds=1)
    try:
        with pytest.raises(sender.Final, match=r"keeps the moment of a dump for 1 s.* of 5\d{7} bytes .*: \d+\}"):
            fleet.dump()
    finally:
        fleet.client.admin.command("setParameter", 1, minSnapshotHistoryWindowInSeconds=300)


def test_the_name_of_the_dump_is_planned_first(fleet: Fleet) -> None:
    fleet.client.app.items.insert_one({"_id": 1})
    dump = fleet.dump()
    with pytest.raises(Refused, match="there is no plan"):
        plan.planned(fleet.store, dump, fleet.order(dump=NAME, collection="app.other"), {})
    name, lines = plan.plan(fleet.store, fleet.order())
    assert name == NAME and lines[0].startswith(f"dump {NAME}, good: ")
