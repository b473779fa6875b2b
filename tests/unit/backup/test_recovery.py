"""What a recovery reads of a store's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from phoenix.backup import inventory, offsite, recovery, store
from phoenix.backup.oplog.chain import Range
from tests.unit.backup.builders import dump, manifest

AT = 1_764_000_000


def good(number: int, second: int, **more: Any) -> store.Dump:
    return dump(number, manifest={**manifest(100), "moment": [AT + second, 1]}, **more)


def test_the_newest_second_is_where_the_oplog_of_the_newest_dump_ends() -> None:
    known = [good(1, 0), good(2, 1000)]
    whole = [Range((AT - 10, 1), (AT + 1500, 3))]
    assert recovery.newest_moment(known, whole) == (known[1].name, "2025-11-24T16:25:00Z")
    # Of a replica set that was made empty since, and has a history of its own.
    later = [*whole, Range((AT + 2000, 1), (AT + 3000, 1))]
    assert recovery.newest_moment(known, later) == recovery.newest_moment(known, whole)
    assert recovery.newest_moment([*known, good(3, 2500, state="empty")], later)[0] == known[1].name
    assert recovery.newest_moment([*known, good(3, 900, kind="safety")], whole)[0] == known[1].name


def test_without_oplog_it_is_the_dumps_own_moment() -> None:
    known = [good(1, 0), good(2, 1000)]
    assert recovery.newest_moment(known, []) == (known[1].name, "")
    assert recovery.newest_moment(known, [Range((AT - 10, 1), (AT + 500, 1))]) == (known[1].name, "")
    assert recovery.newest_moment(known, [Range((AT + 900, 1), (AT + 1000, 1))]) == (known[1].name, "")
    assert recovery.newest_moment([dump(1, "bad"), good(2, 0, kind="returned")], []) == ("", "")


def test_what_a_store_holds(tmp_path: Path) -> None:
    assert recovery.holdings(tmp_path)["held"] is False
    folder = tmp_path / "dumps" / "20261121T010000Z-db2"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({**manifest(100), "moment": [AT, 1]}))
    (folder / "proof.json").write_text(json.dumps({"state": "good"}))
    (tmp_path / "receipts").mkdir()
    receipt = {"number": 1, "elapsed": 0.0, "received": AT, "kind": "nightly", "host": "db2", "request": ""}
    (tmp_path / "receipts" / f"{folder.name}.json").write_text(json.dumps(receipt))
    for host, part in (("control1", "state"), ("control1", "releases"), ("lb1", ""), (inventory.FOLDER, "inventory")):
        (tmp_path / "logs" / host).mkdir(parents=True, exist_ok=True)
        if part:
            (tmp_path / "logs" / host / f"state.{part}-20261125T000000Z-0123456789ab.tar.age").touch()
    found = recovery.holdings(tmp_path)
    assert (found["held"], found["dump"], found["moment"], found["dumps"]) == (True, folder.name, "", 1)
    assert {host: sorted(parts) for host, parts in found["state"].items()} == {"control1": ["releases", "state"]}
    assert Path(found["inventory"]).parent.name == inventory.FOLDER


def test_what_hosts_sent_to_an_empty_store_stays(tmp_path: Path) -> None:
    for name in ("copy/oplog/1/a", "copy/oplog/2/b", "copy/clock.json", "store/oplog/2/c", "store/clock.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    for path in (tmp_path / "copy").iterdir():
        offsite._merge(path, tmp_path / "store" / path.name)
    found = {str(path.relative_to(tmp_path / "store")) for path in (tmp_path / "store").rglob("*") if path.is_file()}
    assert found == {"oplog/1/a", "oplog/2/b", "oplog/2/c", "clock.json"}
    assert (tmp_path / "store" / "clock.json").read_text() == "store/clock.json"
