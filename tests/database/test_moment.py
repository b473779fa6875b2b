"""Any moment since the first dump is restored, whatever befalls the store: the real servers, shippers and sessions."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.ports import free_port
from phoenix.backup import exchange, files, fingerprint, plan, prove, restore, scratch, watch
from phoenix.backup.oplog import chain
from phoenix.backup.oplog.chain import show
from phoenix.backup.order import Refused
from phoenix.backup.store import UNPROVEN
from tests.database.oplog import (
    MB,
    OPLOG_MB,
    RESERVED,
    Set,
    Writer,
    own_disk,
    own_disk_of,
    three_members,
    wait,
    without_store,
)
from tests.harness.real_database import patch_scratch, state_of


@pytest.fixture(scope="module")
def running(programs: Path) -> Iterator[Set]:
    with three_members(programs) as members:
        yield members


@pytest.fixture
def members(running: Set, programs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Set]:
    patch_scratch(monkeypatch, programs)
    running.reset()
    yield running
    for host in running.hosts:
        print(f"--- {host}\n{running.shippers.output(host) if (running.root / host / 'log').exists() else ''}")
    running.shippers.kill(*running.shippers.running)


def content(client: Any) -> dict[int, int]:
    return {one["_id"]: one["value"] for one in client.app.items.find()}


def test_random_moments_under_writes_are_what_the_writer_knew(members: Set) -> None:
    """Meanwhile the secondary that ships is lost, and another goes on where it ended; then the primary is."""
    members.client.app.items.create_index("value")
    members.ship(*members.hosts)
    with Writer(members) as writer:
        wait(lambda: writer.known, 30, "a first write")
        assert members.dump("manual-1").state == "good"
        begun = int(time.time()) + 1
        time.sleep(3)
        (victim,) = wait(members.shippers.shipping, 120, "a shipper")
        assert victim != "db1", "the primary ships, despite healthy secondaries"
        members.lose(victim)
        wait(members.shippers.shipping, 120, "another shipper")
        members.back(victim)
        members.lose("db1")
        try:
            known = len(writer.known)
            wait(lambda: len(writer.known) > known, 60, "writes to the new primary")
            time.sleep(3)
            ended = int(time.time())
            members.shipped(ended)
        finally:
            members.launch("db1")
    assert writer.error is None
    assert len(members.ranges()) == 1
    dice = random.Random(ended)
    moments = [*sorted(dice.sample(range(begun, ended), 3)), ended]
    print(f"moments: {moments}")
    for moment in moments:
        with members.at(moment) as client:
            assert content(client) in writer.at(moment)
    members.settled()
    members.restore(time=show(moments[1]))
    assert content(members.client) in writer.at(moments[1])


def stir(members: Set) -> None:
    """Each kind of change that a day's oplog may hold, to what the dump has and to what is made after it."""
    app = members.client.app
    app.items.drop_index("dropped")
    app.command({"collMod": "items", "index": {"name": "expires", "expireAfterSeconds": 10**8}})
    app.items.create_index("made", name="made", unique=True, sparse=True)
    app.items.create_index("wild.$**", name="wild", collation={"locale": "simple"})
    app.sorted.create_index("name", name="inherits")
    app.sorted.create_index("name", name="bytewise", collation={"locale": "simple"})
    app.indexed.create_index("x")
    app.indexed.insert_one({"_id": 1, "x": 1})
    app.indexed.rename("renamed")
    app.old.drop()
    app.old.insert_one({"_id": "again"})
    app.source.rename("target", dropTarget=True)
    app.create_collection("ring", capped=True, size=4096, max=5)
    app.ring.insert_many([{"x": number} for number in range(20)])
    app.create_collection("checked", validator={"x": {"$gt": 0}})
    app.checked.insert_one({"_id": 1, "x": 1})
    app.command({"create": "shown", "viewOn": "items", "pipeline": []})
    app.command({"collMod": "shown", "viewOn": "items", "pipeline": [{"$match": {"x": 1}}]})
    app.items.update_one({"_id": 1}, {"$set": {"a.b": 1}, "$unset": {"text": ""}, "$push": {"list": {"$each": [1, 2]}}})
    app.items.replace_one({"_id": 2}, {"whole": True})
    app.items.aggregate([{"$match": {"_id": {"$lt": 5}}}, {"$out": "written"}])
    app.large.insert_one({"_id": 1, "text": "x" * (16 * 1024 * 1024 - 100)})
    app.large.update_one({"_id": 1}, {"$set": {"y": 1}})
    members.client.gone.items.insert_one({"_id": 1})
    members.client.drop_database("gone")
    members.client.other.items.insert_one({"_id": 1})
    with members.client.start_session() as session, session.start_transaction():
        app.items.insert_one({"_id": "one"}, session=session)
        app.old.delete_one({"_id": "again"}, session=session)
        app.within.insert_one({"_id": 1}, session=session)
    with members.client.start_session() as session, session.start_transaction():
        # More than one entry of the oplog holds.
        for number in range(20):
            app.items.insert_one({"_id": f"large{number}", "text": "x" * 1024 * 1024}, session=session)
    app.items.delete_many({"_id": {"$gt": 50}})


def test_the_night_before_and_the_oplog_give_the_night(members: Set) -> None:
    """Over all kinds of changes: the proof that the chain leads from one dump to the next."""
    app = members.client.app
    app.items.insert_many([{"_id": number, "text": "x"} for number in range(100)])
    app.items.create_index("text", name="dropped")
    app.items.create_index("at", name="expires", expireAfterSeconds=10**9)
    app.create_collection("sorted", collation={"locale": "de", "strength": 1})
    for title in ("old", "source", "target"):
        app[title].insert_one({"_id": title})
    members.ship("db3")
    assert members.dump().state == "good"
    stir(members)
    before, moment = state_of(members.client), pause()
    members.shipped(moment)
    with members.at(moment) as client:
        assert state_of(client) == before
    second = members.dump()
    assert second.state == "good", second.reason
    assert second.folder
    proof = files.read_json(second.folder / "chain.json")
    assert proof and proof["state"] == "good", proof
    # And it finds what is not as the night's dump.
    manifest = files.read_json(second.folder / "manifest.json")
    assert manifest
    manifest["namespaces"]["app.renamed"]["indexes"] = ["_id_"]
    files.write(second.folder / "manifest.json", json.dumps(manifest))
    (spoiled,) = [one for one in members.store.dumps() if one.name == second.name]
    prove.prove_chain(members.store, spoiled)
    proof = files.read_json(second.folder / "chain.json")
    assert proof and proof["state"] == "bad" and "app.renamed has the indexes" in proof["reason"], proof


def test_what_the_oplog_makes_and_drops_is_restored(members: Set) -> None:
    """To a moment after the dump; one collection and one database alone leave the others; and back to what was."""
    app = members.client.app
    app.items.insert_one({"_id": 1})
    app.dropped.insert_one({"_id": 1})
    members.ship("db2")
    assert members.dump().state == "good"
    app.dropped.drop()
    app.made.insert_one({"_id": 1})
    app.command({"create": "shown", "viewOn": "made", "pipeline": []})
    members.client.other.items.insert_one({"_id": 1})
    moment = pause()
    app.made.insert_one({"_id": 2})
    app.later.insert_one({"_id": 1})
    app.dropped.insert_one({"_id": "since"})
    members.client.other.items.insert_one({"_id": 2})
    members.shipped(moment)
    when = show(moment)
    assert members.restore(time=when, collection="app.made")[0].endswith(f"with the oplog up to {when}")
    assert app.made.distinct("_id") == [1] and app.later.distinct("_id") == [1]
    assert restore.verify(members.store, members.order(time=when, collection="app.made")) == []
    members.restore(time=when, collection="other")
    assert members.client.other.items.distinct("_id") == [1] and app.later.distinct("_id") == [1]
    before_all = pause()
    done = members.restore(time=when)
    assert any("set aside app.later" in line for line in done) and any("set aside app.dropped" in line for line in done)
    assert sorted(name for name in app.list_collection_names() if not exchange.own(name)) == [
        "items", "made", "shown", "system.views",
    ]  # fmt: skip
    # A restore is only writes: what was before it is a moment like any other.
    members.shipped(before_all)
    members.restore(time=show(before_all))
    assert app.later.distinct("_id") == [1] and app.dropped.distinct("_id") == ["since"]
    assert app.made.distinct("_id") == [1]
    with pytest.raises(Refused, match=r"holds no collection app\.dropped"):
        members.restore(time=when, collection="app.dropped")


def test_one_collection_is_followed_through_renames_and_transactions(members: Set) -> None:
    """Of the oplog, only what leads to it is replayed; what becomes of the others does not matter."""
    app = members.client.app
    for title in ("items", "began", "large"):
        app[title].insert_many([{"_id": f"{title}{number}"} for number in range(3)])
    app.create_collection("metrics", timeseries={"timeField": "t", "metaField": "m"})
    members.ship("db2")
    assert members.dump().state == "good"
    with members.client.start_session() as session, session.start_transaction():
        # More than one entry holds, and far less than the cache may have unwritten.
        for number in range(9):
            app.items.insert_one({"_id": number, "text": "x" * 1024 * 1024}, session=session)
            app.large.insert_one({"_id": number, "text": "x" * 1024 * 1024}, session=session)
    app.items.create_index("n")
    app.items.rename("left")  # away, and another comes in its place
    app.left.insert_one({"_id": "left"})
    app.large.rename("elsewhere")
    app.began.insert_one({"_id": "since"})
    app.began.create_index("m")
    app.began.rename("between")
    app.between.rename("items")
    app.items.update_one({"_id": "since"}, {"$set": {"m": 1}})
    app.elsewhere.aggregate([{"$match": {"_id": 1}}, {"$out": "written"}])
    now = datetime.datetime.now(datetime.UTC)
    app.metrics.insert_many([{"t": now, "m": number} for number in range(5)])
    before, moment = state_of(members.client), pause()
    members.shipped(moment)
    dump, limit = plan.choose_for(members.store, members.order(time=show(moment)))
    for collection in ("app.items", "app.left", "app.written", "app.metrics", "app"):
        with scratch.holding(members.store, dump, collection, limit) as changes:
            with contextlib.closing(scratch.client(members.store)) as client:
                found = state_of(client)
            wanted = {key: one for key, one in before.items() if f"{key.split(' ')[0]}.".startswith(f"{collection}.")}
            assert wanted and {key: one for key, one in found.items() if key in wanted} == wanted
            assert collection != "app.metrics" or changes < 10, "others' changes were replayed"
    members.restore(time=show(moment), collection="app.items")
    assert app.items.count_documents({}) == 4 and app.left.count_documents({}) == 13


def test_a_time_series_is_replayed(members: Set) -> None:
    now = datetime.datetime.now(datetime.UTC)
    members.client.app.create_collection("early", timeseries={"timeField": "t", "metaField": "m"})
    members.client.app.early.insert_one({"t": now, "m": 1})
    members.client.app.items.insert_one({"_id": 1})
    members.ship("db2")
    assert members.dump().state == "good"
    members.client.app.early.insert_many([{"t": now + datetime.timedelta(seconds=n), "m": n % 2} for n in range(10)])
    members.client.app.create_collection("late", timeseries={"timeField": "t"})
    members.client.app.late.insert_many([{"t": now + datetime.timedelta(seconds=n)} for n in range(10)])
    members.client.other.create_collection("late", timeseries={"timeField": "t"})
    members.client.other.late.insert_one({"t": now})
    moment = pause()
    members.shipped(moment)
    with members.at(moment) as client:
        for title, documents in (("early", 11), ("late", 10)):
            assert client.app[title].count_documents({}) == documents
    # Alone, one made since the dump: beside another view, and as the first.
    dump, limit = plan.choose_for(members.store, members.order(time=show(moment)))
    for database, documents in (("app", 10), ("other", 1)):
        with (
            scratch.holding(members.store, dump, f"{database}.late", limit),
            contextlib.closing(scratch.client(members.store)) as client,
        ):
            assert client[database].late.count_documents({}) == documents
            assert "items" not in client[database].list_collection_names()
    # Though no member can read them at a moment, the night compares them: the archive's with those of the oplog.
    night = members.dump()
    assert night.folder
    proof, chained = (files.read_json(night.folder / name) or {} for name in ("proof.json", "chain.json"))
    assert {name: one["documents"] for name, one in proof["counted"].items()} == {
        "app.early": 11, "app.late": 10, "other.late": 1,
    }  # fmt: skip
    assert chained["state"] == "good", chained
    proof["counted"]["app.early"]["sha256"] = "0" * 64
    files.write(night.folder / "proof.json", json.dumps(proof))
    prove.prove_chain(members.store, night)
    chained = files.read_json(night.folder / "chain.json") or {}
    assert chained["state"] == "bad" and "app.early has 11 documents as it should" in chained["reason"], chained


def test_a_gap_is_reported_refused_and_followed_by_a_dump(members: Set) -> None:
    members.client.app.items.insert_one({"_id": 1})
    members.ship("db2", "db3")
    assert members.dump().state == "good"
    good = pause()
    members.shipped(good)
    members.shippers.kill("db2", "db3")
    begun = pause()
    fill(members, OPLOG_MB)
    # A member removes entries only as others come, and none that its last checkpoint needs: without further writes the
    # oplog can stay three times as long as its size.
    deadline = time.monotonic() + 240
    while oldest(members) <= begun:
        assert time.monotonic() < deadline, "the oplog does not roll over"
        time.sleep(0.5)
        fill(members, 2)
    before = {one.name for one in members.store.dumps()}
    members.shippers.start("db2", "db3")
    wait(lambda: len(members.ranges()) == 2, 120, "a second range")
    metrics = Path(members.store.config.oplog_metrics)
    assert "phoenix_backup_oplog_gap_result 2\n" in metrics.read_text()
    with pytest.raises(Refused, match=rf"gap .* what can be restored: \S+ to {show(members.ranges()[0].last[0])}"):
        members.restore(time=show(begun + 1))
    made = wait(lambda: [one for one in members.store.dumps() if one.name not in before], 240, "a dump after the gap")[
        0
    ]
    assert made.kind == "manual" and made.request == f"gap-{members.ranges()[1].first[0]}"
    prove.run(members.store)
    later = pause()
    members.shipped(later)
    windows = chain.windows(members.ranges(), members.store.dumps())
    assert len(windows) == 2 and windows[0][0] <= good <= windows[0][1] < begun < windows[1][0]
    assert "the oplog has a gap" in watch.look(members.store).line
    for moment in (good, later):
        with members.at(moment) as client:
            assert client.app.items.distinct("_id") == [1]
    # The night's proof: neither an error of the dump, nor silent.
    night = members.dump()
    assert night.state == "good" and night.folder
    assert prove.predecessor(night, members.store.dumps()) is not None
    proof = files.read_json(night.folder / "chain.json")
    assert proof and proof["state"] == "gap"


def pause() -> int:
    """A second that lies between what was written before and what is written after."""
    moment = int(time.time()) + 1
    time.sleep(max(0.0, moment + 0.1 - time.time()))
    return moment


def fill(members: Set, megabytes: int) -> None:
    """Write so much to the oplog, and nothing to any collection."""
    for _ in range(megabytes):
        members.client.admin.command("appendOplogNote", 1, data={"text": "x" * MB})


def oldest(members: Set) -> int:
    """The first second in the oplogs of the secondaries."""
    seconds = []
    for address in list(members.hosts.values())[1:]:
        with contextlib.closing(members.alone(address, username="admin", password=members.password)) as client:
            seconds.append(int(client.local["oplog.rs"].find_one(sort=[("$natural", 1)])["ts"].time))
    return min(seconds)


def test_refusals_before_anything_changes(members: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    members.client.app.other.insert_one({"_id": 1})
    members.client.app.items.insert_one({"_id": 1})
    members.ship("db2")
    dump = members.dump()
    moment = pause()
    members.shipped(moment)
    before = fingerprint.take(members.client)
    for when, why in (
        (show(time.time() + 3600), "is in the future"),
        (show(dump.manifest["moment"][0]), "is before the first good dump"),
        ("2026-11-25 10:00", "is not a time in UTC"),
    ):
        with pytest.raises(Refused, match=why):
            members.restore(time=when)
    assert fingerprint.take(members.client) == before

    def look() -> None:
        with contextlib.closing(scratch.client(members.store)) as client:
            seen.append((client.app.items.distinct("_id"), client.app.other.distinct("_id")))
        served.append((files.read_json(members.store.root / scratch.SERVED) or {}).get("collection"))

    # The unit's program, as restore starts it.
    seen: list[Any] = []
    served: list[Any] = []
    monkeypatch.setattr(prove, "_sleep", look)
    assert prove.hold(members.store, f"{dump.name}:{moment}") == 0
    note = members.store.root / scratch.NOTE
    for instance in (f"{dump.name}:{moment}", f"{dump.name}:{moment + 1}"):
        files.write(note, json.dumps({"instance": instance, "collection": "app.items"}))
        assert prove.hold(members.store, f"{dump.name}:{moment}") == 0
    note.unlink()
    assert seen == [([1], [1]), ([1], []), ([1], [1])], "only this instance's note counts"
    assert served == ["", "app.items", ""]
    assert prove.hold(members.store, f"{dump.name}:{moment + 3600}") == 1
    assert len(seen) == 3


def test_a_full_store_keeps_what_it_has_and_goes_on_where_it_ended(members: Set) -> None:
    app = members.client.app
    with own_disk(members) as ballast:
        app.items.insert_one({"_id": 0})
        members.ship("db2", "db3")
        good = members.dump("manual-1")
        assert good.state == "good", good.reason
        members.shippers.kill("db2", "db3")
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, members.store.free() - 2 * RESERVED)
        # Nothing packs it smaller.
        app.items.insert_many([{"_id": number, "bytes": os.urandom(MB)} for number in range(1, 25)])

        full = members.dump("manual-2")
        assert full.state == "full" and "are to stay free" in full.reason
        assert not list((members.store.root / "incoming").iterdir())
        assert members.store.free() > RESERVED
        assert watch.look(members.store).metrics["phoenix_backup_last_result"] == 4

        members.shippers.start("db2", "db3")
        refused = "the store refuses a segment"
        wait(lambda: any(refused in members.shippers.output(host) for host in ("db2", "db3")), 60, refused)
        assert members.store.free() > RESERVED - 2 * MB
        assert good.name in [one.name for one in members.store.dumps()] and len(members.ranges()) == 1

        ballast.unlink()
        moment = pause()
        members.shipped(moment)
        assert len(members.ranges()) == 1
        with members.at(moment) as client:
            assert client.app.items.distinct("_id") == list(range(25))
        assert members.dump("manual-3").state == "good"


def test_a_member_whose_disk_is_full_is_named_before_anything_is_restored(members: Set) -> None:
    """The copy beside would fill it, and end that member; with room again it is restored."""
    items = members.client.app.items
    items.insert_many([{"_id": number, "bytes": os.urandom(MB)} for number in range(40)])
    members.ship(*members.hosts)
    assert members.dump("manual-1").state == "good"
    items.delete_many({"_id": {"$lt": 20}})
    with own_disk_of(members, "db3") as ballast:

        def refusal() -> str:
            # Again: the member gives back the journal that it began with.
            disk = os.statvfs(ballast.parent)
            with ballast.open("ab") as file:
                os.posix_fallocate(file.fileno(), file.tell(), max(1, disk.f_bavail * disk.f_frsize - 30 * MB))
            try:
                plan.plan(members.store, members.order())
            except Refused as error:
                return str(error)
            return ""

        refused = wait(refusal, 60, "a refusal")
        assert f"{members.hosts['db3']} has " in refused and "the copy needs up to " in refused
        assert not any(f"{members.hosts[host]} has " in refused for host in ("db1", "db2"))
        assert items.count_documents({}) == 20 and members.client.app.list_collection_names() == ["items"]
        ballast.unlink()
        members.restore()
        assert items.count_documents({}) == 40


def test_a_store_that_is_rebooted_loses_nothing_that_it_had(members: Set) -> None:
    """In the middle of a dump's transfer and of a segment's; then of a verification."""
    members.client.app.filler.insert_many([{"bytes": os.urandom(MB)} for _ in range(60)])
    members.ship("db2", "db3")
    with Writer(members) as writer:
        assert members.dump("manual-1").state == "good"
        arriving = members.store.root / "incoming"
        sender = members.sending("manual-2")
        try:
            wait(lambda: any(one.stat().st_size > MB for one in arriving.glob("*/*.gz")), 60, "a part of the archive")
            with without_store(members):
                assert sender.wait(60) == 1
                time.sleep(2)
        finally:
            sender.kill()
        made = members.dump("manual-2")
        assert made.state == "good", made.reason
        assert not list(arriving.iterdir()) and len([one for one in members.store.dumps() if one.folder]) == 2
        moment = pause()
        members.shipped(moment)
    assert writer.error is None
    assert len(members.ranges()) == 1
    with members.at(moment) as client:
        assert content(client) in writer.at(moment)

    assert made.folder
    (made.folder / "proof.json").unlink()
    (made.folder / UNPROVEN).touch()
    environment = {**os.environ, "PHOENIX_TEST_PORT": str(free_port())}
    proving = subprocess.Popen(
        [members.root / "store-program" / "phoenixctl", "backup", "prove"], env=environment, start_new_session=True
    )
    try:
        wait((members.store.root / "scratch" / "mongod.log").exists, 60, "the scratch server")
        time.sleep(1)
    finally:
        os.killpg(proving.pid, signal.SIGKILL)
        proving.wait()
    assert (made.folder / UNPROVEN).exists()
    assert prove.run(members.store) == 0
    assert members.store.dumps()[-1].state == "good"
