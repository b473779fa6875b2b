"""A night of a large database, whose proof takes hours, raises no alarm; what is wrong does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from phoenix.backup import clock, prove, store, watch
from tests.unit.backup.builders import DAY, HOUR, config, dump, manifest
from tests.unit.shared import TOP, rendered


def seen(*known: store.Dump, at: float) -> watch.Report:
    return watch.report(known, at, at, 10**9, 26 * HOUR, 10**6)


def test_nights_with_hours_of_proof() -> None:
    """Dumps at one o'clock, each proven five hours later."""
    good = dump(1, elapsed=0.0, proof_seconds=5 * HOUR)
    for hour in range(6, 24):
        assert seen(good, at=hour * HOUR).problems == []
    pending = dump(2, "unproven", elapsed=DAY)
    for minutes in range(0, 300, 10):
        found = seen(good, pending, at=DAY + minutes * 60)
        assert found.problems == [] and found.metrics["phoenix_backup_last_result"] == 0
        assert DAY + minutes * 60 - found.metrics["phoenix_backup_newest_good_timestamp_seconds"] < 26 * HOUR


def test_a_pending_proof_hides_no_failure_before_it() -> None:
    found = seen(dump(1), dump(2, "shrunken", elapsed=HOUR), dump(3, "unproven", elapsed=2 * HOUR), at=3 * HOUR)
    assert found.metrics["phoenix_backup_last_result"] == 3


def test_a_late_proof_does_not_make_an_old_dump_young() -> None:
    old = dump(1, elapsed=0.0, proof_seconds=30 * DAY)
    assert "h old" in seen(old, at=30 * DAY).problems[0]


def test_the_time_of_a_proof_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = store.Store(config(tmp_path))
    held.prepare()
    folder = tmp_path / "dumps" / "20261124T010000Z-db2"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest(100)))
    held.receipt(folder.name).write_text(
        '{"number": 1, "elapsed": 100.0, "received": 0, "kind": "nightly", "host": "db2", "request": ""}'
    )
    monkeypatch.setattr(clock, "read", lambda path, floor=0.0: 100.0 + 5 * HOUR)
    prove.settle(held, held.dumps()[0], "good", "", 0.0)
    assert held.dumps()[0].proof_seconds == 5 * HOUR


def hashed(number: int, seconds: float, state: str = "good") -> store.Dump:
    told: dict[str, Any] = {**manifest(100), "hash_seconds": seconds, "window_seconds": 300}
    return dump(number, state, manifest=told)


def test_the_window_of_the_moment_is_watched_before_it_is_reached() -> None:
    assert seen(hashed(1, 200), at=0.0).problems == []
    found = seen(hashed(1, 220), at=0.0)
    assert "220 s of the 300 s" in found.problems[0]
    assert found.metrics["phoenix_backup_hash_seconds"] == 220
    assert found.metrics["phoenix_backup_hash_window_seconds"] == 300
    assert "220 s" in seen(hashed(1, 220), dump(2, "failed", manifest={}), at=0.0).problems[1]
    assert seen(dump(1), at=0.0).metrics["phoenix_backup_hash_seconds"] == 0  # of an earlier version


def test_the_time_of_the_verification_is_watched_before_its_limit() -> None:
    """The dump's own, and that of the oplog which leads to it: one unit does both."""
    assert seen(dump(1, proof_seconds=3 * HOUR, chain={"seconds": 2 * HOUR}), at=0.0).problems == []
    found = seen(dump(1, proof_seconds=3 * HOUR, chain={"seconds": 3 * HOUR}), at=0.0)
    assert "takes 6.0 h of the 8 h" in found.problems[0]
    assert found.metrics["phoenix_backup_window_ratio"] == 0.75


def test_more_time_is_given_to_the_units_and_to_what_is_watched() -> None:
    """What takes 20 h is neither ended, nor late or never proven, where that is set."""
    good, pending = dump(1, proof_seconds=13 * HOUR), dump(2, "unproven", elapsed=DAY)
    found = watch.report([good, pending], 38 * HOUR, 38 * HOUR, 10**9, 26 * HOUR, 10**6, proof=20 * HOUR)
    assert found.problems == []
    assert "takes 13.0 h of the 8 h" in " ".join(seen(good, at=DAY).problems)
    units = TOP / "roles" / "backup" / "templates"
    for name, hours in (("prove", 20), ("scratch@", 20), ("", 29)):
        unit = f"phoenix-backup{'-' if name else '@'}{name}.service.j2"
        text = rendered(units / unit, {"backup_proof_hours": 20, "backup_longest_hours": 9})
        assert f"TimeoutStartSec={hours}h" in text, unit


def test_the_time_of_a_dump_is_watched_before_its_limit() -> None:
    """Its transfer, and reading its moment."""
    slow = {**manifest(100), "dump_seconds": 5.5 * HOUR, "hash_seconds": 500, "window_seconds": 3000}
    found = seen(dump(1, manifest=slow), at=0.0)
    assert "a dump takes 5.6 h of the 8 h" in found.problems[0] and len(found.problems) == 1
