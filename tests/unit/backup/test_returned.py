"""Dumps that an operator copies back into the store: they harm nothing, and nothing harms them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from phoenix.backup import clock, intake_dumps, offsite, plan, prove, store, watch
from phoenix.backup.order import Refused
from tests.unit.backup.builders import DAY, HOUR, config, dump, manifest


def keep(held: store.Store, name: str, day: float, state: str = "good") -> Path:
    """A dump that the store received on that day of its running time."""
    folder = held.root / "dumps" / name
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest(100)))
    (folder / "proof.json").write_text(json.dumps({"state": state, "reason": ""}))
    receipt = {"number": int(day), "elapsed": day * DAY, "received": day * DAY, "kind": "nightly",
               "host": "db2", "request": ""}  # fmt: skip
    held.receipt(name).write_text(json.dumps(receipt))
    return folder


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> store.Store:
    """A store with a good dump a day, at the end of its twentieth day."""
    monkeypatch.setattr(clock, "read", lambda path, floor=0.0: max(20 * DAY, floor))
    found = store.Store(config(tmp_path))
    found.prepare()
    for day in range(14, 21):
        keep(found, f"202611{day}T010000Z-db2", day)
    return found


def bring_back(held: store.Store, elsewhere: Path, name: str) -> None:
    """As docs/runbook.md has it: the copied folder, whatever notes lie in it."""
    shutil.copytree(elsewhere, held.root / "dumps" / name)


@pytest.fixture
def elsewhere(held: store.Store, tmp_path: Path) -> Path:
    """A copy of an old dump, with the notes that an earlier version left in it: received last, of a far later time."""
    copy = tmp_path / "elsewhere"
    shutil.copytree(held.root / "dumps" / "20261114T010000Z-db2", copy)
    note = {"number": 400, "elapsed": 390 * DAY, "received": 390 * DAY, "kind": "nightly", "host": "db2", "request": ""}
    (copy / "receipt.json").write_text(json.dumps(note))
    return copy


def test_it_deletes_nothing_and_is_not_deleted(held: store.Store, elsewhere: Path) -> None:
    before = {path.name for path in (held.root / "dumps").iterdir()}
    bring_back(held, elsewhere, "20260101T010000Z-db1")
    assert held.prune() == []
    assert {path.name for path in (held.root / "dumps").iterdir()} == before | {"20260101T010000Z-db1"}


def test_a_dump_that_retention_let_go_can_come_back(held: store.Store, tmp_path: Path) -> None:
    old = keep(held, "20261101T010000Z-db2", 1)
    shutil.copytree(old, tmp_path / "copy")
    assert [one.name for one in held.prune()] == [old.name]
    bring_back(held, tmp_path / "copy", old.name)
    assert held.prune() == [] and old.exists()
    assert old.name not in {one.name for one in offsite.wanted(held.dumps())}


def test_the_clock_does_not_jump(held: store.Store, elsewhere: Path) -> None:
    bring_back(held, elsewhere, "20260101T010000Z-db1")
    with held.books() as elapsed:
        assert elapsed == 20 * DAY
    assert held.next_number() == 21


def test_it_is_never_the_newest(held: store.Store, elsewhere: Path) -> None:
    bring_back(held, elsewhere, "20991231T010000Z-db1")
    known = held.dumps()
    assert plan.choose(known, "newest").name == "20261120T010000Z-db2"
    assert plan.choose(known, "20991231T010000Z-db1").kind == store.RETURNED
    seen = watch.report(known, 20 * DAY, 20 * DAY, 10**9, 26 * HOUR, 0)
    assert seen.line.startswith("20261120T010000Z-db2") and not seen.problems
    assert intake_dumps.admit([known[0]], "nightly", "", True, 0.0, 12 * HOUR) == ("go", "")


def test_a_store_with_nothing_else_wants_it_named(tmp_path: Path) -> None:
    only = dump(0, kind=store.RETURNED)
    with pytest.raises(Refused, match=only.name):
        plan.choose([only], "newest")
    assert "no good dump" in watch.report([only], 0.0, 0.0, 10**9, 26 * HOUR, 0).line


def test_it_is_proven_and_measured_by_itself_alone() -> None:
    small = dump(0, kind=store.RETURNED, manifest=manifest(1))
    assert prove.judge(small, [], [dump(1)])[0] == "good"
    assert prove.judge(dump(2, manifest=manifest(10)), [], [dump(0, kind=store.RETURNED)])[0] == "good"


def test_receipts_of_an_earlier_version_are_taken_over(tmp_path: Path) -> None:
    held = store.Store(config(tmp_path))
    folder = tmp_path / "dumps" / "20261114T010000Z-db2"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(manifest(5)))
    note = {"number": 3, "elapsed": DAY, "received": 0.0, "kind": "nightly", "host": "db2", "request": ""}
    (folder / "receipt.json").write_text(json.dumps(note))
    held.prepare()
    assert [(one.kind, one.number) for one in held.dumps()] == [("nightly", 3)]
    # Only once: what comes later is a copy.
    shutil.copytree(folder, tmp_path / "dumps" / "20261115T010000Z-db2")
    held.prepare()
    assert [one.kind for one in held.dumps()] == [store.RETURNED, "nightly"]
