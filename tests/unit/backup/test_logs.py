"""Log files on their way to the store, and there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phoenix.backup import clock, intake_logs, logs, store
from tests.unit.backup.builders import DAY, config


def test_a_rotated_file_is_sent_once_though_it_is_compressed_later() -> None:
    assert logs.choose([Path("/a/x.log-1"), Path("/a/y.log-2.gz")]) == [
        ("x.log-1", Path("/a/x.log-1")),
        ("y.log-2", Path("/a/y.log-2.gz")),
    ]
    assert logs.choose([Path("/a/x.log-1.gz")])[0][0] == "x.log-1"


def test_exports_are_deleted_only_when_the_store_has_them() -> None:
    names = [f"a-{day}" for day in range(1, 10)]
    assert logs.drop_old(names, set(names), 7) == ["a-1", "a-2"]
    assert logs.drop_old(names, {"a-2"}, 7) == ["a-2"]
    assert logs.drop_old(names[:5], set(names), 7) == []


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("access.log-20261124-1795521600", "access.log"),
        ("access.log-20261124-1795521600.gz", "access.log"),
        ("application.log-20261124-1.gz", "application.log"),
        ("mongod.log-20261124-1", "mongod.log"),
    ],
)
def test_files_of_one_log_belong_together(name: str, stream: str) -> None:
    assert intake_logs.stream_of(name) == stream


def test_logs_of_a_silent_host_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "read", lambda path, floor=0.0: 20 * DAY)
    held = store.Store(config(tmp_path))
    held.prepare()
    folder = tmp_path / "logs" / "lb1"
    folder.mkdir()
    notes = {f"access.log-{day}": {"number": day, "elapsed": day * DAY, "received": 0} for day in (1, 2, 15)}
    notes["error.log-1"] = {"number": 4, "elapsed": DAY, "received": 0}
    for name in notes:
        (folder / name).touch()
    (folder / ".received.json").write_text(json.dumps(notes))
    gone = intake_logs.prune(held, folder)
    assert sorted(one.name for one in gone) == ["access.log-1", "access.log-2"]
    assert sorted(path.name for path in folder.glob("*.log*")) == ["access.log-15", "error.log-1"]
