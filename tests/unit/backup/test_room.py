"""The scratch server is not started on a disk without room for it: what else is there would find none."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from phoenix.backup import files, fingerprint, members, plan, prove, restore, room, scratch, store, watch
from phoenix.backup.oplog import segment
from phoenix.backup.oplog.chain import Chain, Range
from phoenix.backup.order import Order, Refused
from phoenix.backup.scope import Scope
from tests.unit.backup.builders import bson, config, dump, manifest

MB = 1024 * 1024
KEPT = 500 * MB
NAME = "20261121T010000Z-db2"
PLAIN = fingerprint.Collection(1000, 100 * MB, "00", ["_id_"])
LARGE = fingerprint.Collection(1000, 200 * MB, "00", ["_id_"])
CAPPED = fingerprint.Collection(None, None, None, ["_id_"])
SERIES = fingerprint.Collection(None, None, None, [])
# Of one collection, of both: with the journal, and a fifth more for indexes.
ONE = KEPT + room.JOURNAL + 120 * MB
BOTH = KEPT + room.JOURNAL + 360 * MB


def holding(
    size: int, counted: Mapping[str, fingerprint.Collection] = {}, **titles: fingerprint.Collection
) -> store.Dump:
    """A dump of these collections of a database, whose archive has a size."""
    spaces = fingerprint.to_json({f"app.{title}": one for title, one in titles.items()})
    told = {**manifest(1), "namespaces": spaces, "size": size}
    return dump(1, manifest=told, counted=fingerprint.to_json(counted))


def test_what_a_dump_takes_is_what_was_counted() -> None:
    both = holding(MB, items=PLAIN, others=LARGE)
    assert room.raw(both) == 300 * MB
    assert room.raw(both, Scope.of("app")) == 300 * MB
    assert room.raw(both, Scope.of("app.items")) == 100 * MB
    assert room.raw(both, Scope.of("other")) == 0


def test_and_of_the_rest_what_its_archive_leaves() -> None:
    # Three times the archive, without the 100 MB that are counted.
    assert room.raw(holding(100 * MB, items=PLAIN, log=CAPPED)) == 300 * MB
    assert room.raw(holding(100 * MB, items=PLAIN, log=CAPPED), Scope.of("app.log")) == 200 * MB
    assert room.raw(holding(100 * MB, items=PLAIN, log=CAPPED), Scope.of("app.items")) == 100 * MB
    # Where the others alone would be more than that, the archive as it is.
    assert room.raw(holding(30 * MB, items=PLAIN, log=CAPPED)) == 130 * MB
    # The proof has counted both. A time series lies packed on the disk, and was counted unpacked.
    seen = {"app.log": replace(PLAIN, bytes=7 * MB)}
    assert room.raw(holding(100 * MB, seen, items=PLAIN, log=CAPPED)) == 107 * MB
    seen = {"app.metrics": replace(LARGE, bytes=9000 * MB, indexes=[])}
    assert room.raw(holding(100 * MB, seen, items=PLAIN, metrics=SERIES)) == 300 * MB
    seen = {"app.metrics": replace(LARGE, bytes=7 * MB, indexes=[])}
    assert room.raw(holding(100 * MB, seen, items=PLAIN, metrics=SERIES)) == 107 * MB
    assert room.raw(dump(1, manifest={})) == 0


def test_the_oplog_that_is_replayed_takes_room_as_well(tmp_path: Path) -> None:
    """As much as its entries, however well they are packed."""
    entry = bson(op="i", ns="app.items", ts=(100, 1), o={"x": "x" * 5000})
    length = len(entry)
    paths = [tmp_path / str(number) for number in range(3)]
    for path in paths:
        path.write_bytes(segment.pack([entry], "")[1])
    assert 0 < paths[0].stat().st_size < 1000 < length == segment.size(paths[0])
    listed = [((start, 0), (start + 10, 0), path) for start, path in zip((90, 100, 110), paths, strict=True)]
    base = dump(1, manifest={**manifest(1), "moment": [100, 0]})
    kept = store.Store(config(tmp_path))
    assert room.replayed(kept, base, (120, 0), listed) == 2 * length
    assert room.replayed(kept, base, (110, 0), listed) == length
    paths[1].write_bytes(b"\xff" * 100)  # damaged, which the replay finds
    assert room.replayed(kept, base, (110, 0), listed) == 0
    paths[1].unlink()  # the retention goes on
    assert room.replayed(kept, base, (110, 0), listed) == 0


@dataclass
class Disk:
    """A store with a dump of two collections, on a disk with so many bytes free; what was served, called, and noted."""

    store: store.Store
    free: int
    served: list[str]
    called: list[list[str]]
    noted: list[str]

    def needs(self, needed: int) -> str:
        return (
            f"the store's disk has {self.free} bytes free at {self.store.root}, and the scratch server needs {needed}: "
        )


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    found = Disk(store.Store(replace(config(tmp_path), min_free=KEPT)), 0, [], [], [])
    found.store.prepare()
    folder = tmp_path / "dumps" / NAME
    folder.mkdir()
    (folder / "dump.archive.gz").write_bytes(b"packed")
    told = {
        **holding(6, items=PLAIN, others=LARGE).manifest, "fleet": "fleet.example", "replica_set": "phoenix",
        "sha256": hashlib.sha256(b"packed").hexdigest(), "moment": [100, 1],
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(told))
    (folder / "proof.json").write_text('{"state": "good", "reason": ""}')

    @contextlib.contextmanager
    def serving(_: store.Store, one: store.Dump, *__: Any) -> Iterator[list[str]]:
        found.served.append(one.name)
        yield []

    def call(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        found.called.append(command)
        found.noted.append((tmp_path / scratch.NOTE).read_text() if (tmp_path / scratch.NOTE).exists() else "")
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(store.Store, "free", lambda _: found.free)
    monkeypatch.setattr(scratch, "serving", serving)
    monkeypatch.setattr(prove, "_counted", lambda _, one: one)
    monkeypatch.setattr(subprocess, "run", call)
    return found


@pytest.mark.parametrize("returned", [False, True])
def test_a_dump_that_has_no_room_to_be_proven_is_full(disk: Disk, returned: bool) -> None:
    """The first one, of whose size nothing is known before it is there, and one that was brought back."""
    folder = disk.store.root / "dumps" / NAME
    if not returned:
        receipt = {"number": 1, "elapsed": 0.0, "received": 0.0, "kind": "nightly", "host": "db2", "request": ""}
        disk.store.receipt(NAME).write_text(json.dumps(receipt))
    for free, state in ((BOTH - 1, "full"), (BOTH, "good")):
        disk.free = free
        (folder / "proof.json").unlink()
        (folder / store.UNPROVEN).touch()
        prove.run(disk.store)
        (one,) = disk.store.dumps()
        assert one.state == state and not (folder / store.UNPROVEN).exists()
        assert disk.served == ([NAME] if state == "good" else [])
        if state == "full":
            assert one.reason.startswith("the store is full: " + disk.needs(BOTH))
            assert f"{KEPT} that are to stay free (backup_min_free_mb)" in one.reason


def test_a_damaged_dump_is_bad_on_a_full_disk_too(disk: Disk) -> None:
    folder = disk.store.root / "dumps" / NAME
    (folder / "dump.archive.gz").write_bytes(b"other")
    (folder / "proof.json").unlink()
    (folder / store.UNPROVEN).touch()
    prove.run(disk.store)
    assert [one.state for one in disk.store.dumps()] == ["bad"]


def test_nor_is_the_oplog_verified_without_room(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.free = BOTH - 1
    (base,) = disk.store.dumps()
    folder = disk.store.root / "dumps" / "20261122T010000Z-db2"
    folder.mkdir()
    night = replace(base, folder=folder, manifest={**base.manifest, "moment": [200, 1]})
    monkeypatch.setattr(prove, "predecessor", lambda *_: base)
    monkeypatch.setattr(Chain, "ranges", lambda _: [Range((100, 0), (300, 0))])
    prove.prove_chain(disk.store, night, patience=0.0)
    result = json.loads((folder / store.CHAIN).read_text())
    assert result["state"] == "full" and disk.needs(BOTH) in result["reason"] and disk.served == []
    found = watch.oplog_report([Range((100, 0), (300, 0))], [base, replace(night, chain=result)], 300.0)
    assert found.metrics["phoenix_backup_chain_result"] == 1.0
    assert f"the oplog was not verified from {NAME} to {NAME}: the store is full: " in found.problems[0]


def test_what_a_former_scratch_server_holds_is_given_back(disk: Disk) -> None:
    """A proof that is under way ends before the next server starts."""
    (one,) = disk.store.dumps()
    disk.free = BOTH - 4096
    assert room.obstacle(disk.store, one)
    (disk.store.root / "scratch" / "db").mkdir()
    (disk.store.root / "scratch" / "db" / "journal").write_bytes(b"x" * 4096)
    assert room.obstacle(disk.store, one) == ""


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica set of three members without any collection, one of which has no room either."""
    rooms = [members.Room(f"db{number}", free, 1 << 40) for number, free in enumerate((1 << 40, 1 << 40, 5), 1)]
    monkeypatch.setattr(plan, "connect", lambda *_: io.BytesIO())
    monkeypatch.setattr(plan, "look", lambda _: {})
    monkeypatch.setattr(members, "look", lambda *_: rooms)


def order(collection: str = "", check_room: bool = True) -> Order:
    return Order("", "", ["db1", "db2", "db3"], NAME, collection, check_room)


def test_a_restore_that_has_no_room_is_refused_by_its_plan(disk: Disk, live: None) -> None:
    """Together with what else is in its way, and before anything is touched."""
    disk.free = BOTH - 1
    with pytest.raises(Refused) as refused:
        plan.plan(disk.store, order())
    said = str(refused.value)
    assert "db3 has 5 bytes free" in said and disk.needs(BOTH) in said
    assert "phoenix_restore_collection" in said and "-e phoenix_restore_check_room=no" in said
    assert not (disk.store.root / "plan.json").exists()
    disk.free = ONE - 1
    with pytest.raises(Refused) as refused:
        plan.plan(disk.store, order("app.items"))
    assert disk.needs(ONE) in str(refused.value) and "phoenix_restore_collection" not in str(refused.value)
    plan.plan(disk.store, order(check_room=False))


def test_nor_does_it_begin_once_the_room_is_gone(disk: Disk, live: None) -> None:
    """The safety dump took it, or the answer took hours; unless the order says that there is room."""
    disk.free = ONE - 1
    plan.plan(disk.store, order("app.items", check_room=False))
    with pytest.raises(Refused, match="nothing was touched: the store's disk has"):
        restore.run(disk.store, order("app.items"))
    assert disk.called == []
    with pytest.raises(Refused, match="journalctl -u phoenix-backup-scratch@"):
        restore.run(disk.store, order("app.items", check_room=False))
    assert disk.called[0][:2] == ["systemctl", "restart"] and scratch.UNCHECKED in json.loads(disk.noted[0])


@pytest.mark.parametrize("unchecked", [False, True])
def test_nor_does_its_scratch_server_start(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], unchecked: bool
) -> None:
    """What a collection was called before may add to it; and the unit may have waited for a proof."""
    disk.free = ONE - 1
    monkeypatch.setattr(prove, "_sleep", lambda: None)
    monkeypatch.setattr(files, "write", lambda path, text: path.parent.mkdir(exist_ok=True))
    note = {"instance": NAME, "collection": "app.items", **({scratch.UNCHECKED: "yes"} if unchecked else {})}
    (disk.store.root / scratch.NOTE).write_text(json.dumps(note))
    assert prove.hold(disk.store, NAME) == int(not unchecked)
    assert disk.served == [NAME] * unchecked
    assert (f"the store is full: {disk.needs(ONE)}" in capsys.readouterr().out) == (not unchecked)
