"""A full disk: what is to stay free stays free, nothing goes round in circles, and it is said."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from phoenix.backup import cli, files, frames, intake_dumps, intake_logs, prove, room, store
from tests.unit.backup.builders import config, manifest


def filling(root: Path, monkeypatch: pytest.MonkeyPatch, free: int) -> store.Store:
    """A store whose disk has so many bytes free before anything arrives, 1000 of which are to stay."""
    held = store.Store(replace(config(root), min_free=1000))
    held.prepare()
    monkeypatch.setattr(room, "JOURNAL", 0)
    arriving = [root / "incoming", root / "logs"]
    monkeypatch.setattr(
        store.Store,
        "free",
        lambda self: free - sum(one.stat().st_size for top in arriving for one in top.rglob("*") if one.is_file()),
    )
    return held


def frame(kind: bytes, content: bytes) -> bytes:
    return frames.HEAD.pack(kind, len(content)) + content


def speak(monkeypatch: pytest.MonkeyPatch, *said: bytes) -> None:
    """Have a sender say this and go."""
    read, write = os.pipe()
    os.write(write, b"".join(said))
    os.close(write)
    real = frames.receive
    monkeypatch.setattr(frames, "receive", lambda handle, *limits: real(read, *limits))


def test_a_dump_ends_where_the_space_of_others_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = filling(tmp_path, monkeypatch, free=9000)
    monkeypatch.setattr(intake_dumps, "space_needed", lambda known, min_free: min_free)
    speak(monkeypatch, *[frame(frames.DATA, b"x" * 2000)] * 20)
    intake_dumps.receive(held, "db2", {"kind": "manual", "request": "x", "ready": True})
    answers = [json.loads(line)["answer"] for line in capsys.readouterr().out.splitlines()]
    assert answers == ["go", "full"] and held.dumps()[0].state == "full"
    assert not list((tmp_path / "incoming").iterdir())


def test_a_log_file_ends_there_too_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = filling(tmp_path, monkeypatch, free=9000)
    speak(
        monkeypatch, frame(frames.FILE, b'{"name": "access.log-1"}'), *[frame(frames.DATA, b"x" * 20000)] * 3,
        frame(frames.END, json.dumps({"sha256": hashlib.sha256(b"x" * 60000).hexdigest()}).encode()),
    )  # fmt: skip
    intake_logs.receive(held, "lb1")
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["answer"] for one in answers] == ["send", "refused"] and "are to stay free" in answers[1]["reason"]
    assert list((tmp_path / "logs" / "lb1").iterdir()) == []


def test_a_hosts_logs_leave_what_the_next_dump_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else any host could stop the backups by what it sends."""
    held = filling(tmp_path, monkeypatch, free=9000)
    folder = tmp_path / "dumps" / "20261124T010000Z-db2"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest(40)))  # 1200 bytes of 4000, and 1.5 times both are needed
    speak(
        monkeypatch,
        *(frame(frames.FILE, json.dumps({"name": f"log-{size}", "size": size}).encode()) for size in (300, 100)),
    )
    intake_logs.receive(held, "lb1")
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()][:2]
    assert [one["answer"] for one in answers] == ["refused", "send"]
    assert answers[0]["reason"].endswith("9000 bytes are free, 8800 are to stay free, and 300 are to be added")
    held.keep_free(300)  # such as of the oplog
    # What the scratch server takes comes back, and a dump that arrives has its room already.
    (tmp_path / "scratch" / "data").write_bytes(b"x" * 4096)
    assert intake_logs._floor(held) == 8800 - 4096
    (tmp_path / "incoming" / "dump").mkdir()
    assert intake_logs._floor(held) == 0


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_watch_is_reached_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "store"
    root.mkdir()
    (tmp_path / "store.json").write_text(json.dumps(asdict(config(root))))
    monkeypatch.setattr(cli, "become_owner", lambda folder: None)
    assert cli.main(["--config", str(tmp_path), "tick"]) == 0
    monkeypatch.setattr(files, "write", full)
    assert cli.main(["--config", str(tmp_path), "tick"]) == 0
    assert "can't be recorded" in capsys.readouterr().err


def test_a_proof_on_a_full_disk_is_put_off_and_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = store.Store(config(tmp_path))
    held.prepare()
    folder = tmp_path / "dumps" / "20261124T010000Z-db2"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest(5)))
    (folder / store.UNPROVEN).write_text("1")
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(files, "write", full)
    assert prove.run(held) == 1
    assert slept == [prove.PUT_OFF]
    assert (folder / store.UNPROVEN).read_text() == "1"
