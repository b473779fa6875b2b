"""Which dumps are admitted, and how they arrive."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from phoenix.backup import frames, intake_dumps, room, store
from tests.unit.backup.builders import HOUR, config, dump, manifest


@pytest.mark.parametrize(
    ("known", "kind", "request_id", "ready", "answer"),
    [
        ([], "nightly", "", True, "go"),
        ([], "nightly", "", False, "wait"),
        ([dump(1, elapsed=99 * HOUR)], "nightly", "", True, "have"),
        ([dump(1, elapsed=99 * HOUR)], "nightly", "", False, "have"),
        ([dump(1, "unproven", elapsed=99 * HOUR)], "nightly", "", True, "have"),
        ([dump(1, "bad", elapsed=99 * HOUR)], "nightly", "", True, "go"),
        ([dump(1, "failed", elapsed=99 * HOUR)], "nightly", "", True, "go"),
        ([dump(1, elapsed=80 * HOUR)], "nightly", "", True, "go"),  # last night's
        ([dump(1, kind="manual", elapsed=99 * HOUR)], "nightly", "", True, "go"),
        ([dump(1, elapsed=99 * HOUR)], "manual", "x", True, "go"),
        ([dump(1, kind="manual", request="x")], "manual", "x", True, "have"),
    ],
)
def test_what_is_admitted(known: list[store.Dump], kind: str, request_id: str, ready: bool, answer: str) -> None:
    assert intake_dumps.admit(known, kind, request_id, ready, 100 * HOUR, 12 * HOUR)[0] == answer


def test_room_for_the_next_dump_and_its_proof() -> None:
    assert intake_dumps.space_needed([], 1000) == 1000 + room.JOURNAL
    assert intake_dumps.space_needed([dump(1)], 1000) == 1000 + room.JOURNAL + int(1.5 * (3000 + 10000))
    known = [dump(1), dump(2, "failed", manifest={})]
    assert intake_dumps.space_needed(known, 1000) == 1000 + room.JOURNAL + int(1.5 * 13000)


def arrive(root: Path, content: bytes, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> list[Any]:
    read, write = os.pipe()
    os.write(write, frames.HEAD.pack(b"D", len(content)) + content)
    if told:
        text = json.dumps(told).encode()
        os.write(write, frames.HEAD.pack(b"E", len(text)) + text)
    os.close(write)
    real = frames.receive
    monkeypatch.setattr(frames, "receive", lambda handle, *limits: real(read, *limits))
    held = store.Store(config(root))
    held.prepare()
    capsys.readouterr()
    intake_dumps.receive(held, "db2", {"kind": "manual", "request": "x", "ready": True})
    monkeypatch.setattr(frames, "receive", real)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_dump_is_stored_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    content = b"archive"
    told = {**manifest(5), "fleet": "fleet.example", "replica_set": "phoenix", "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest()}  # fmt: skip
    bad: list[dict[str, Any]] = [
        {"sha256": "0"},
        {"size": 1},
        {"fleet": "another"},
        {"namespaces": {"a.b": 1}},
        {"member": "a\nb"},
        {"left_out": ["a\nb"]},
        {"left_out": 1},
        {"moment": []},
    ]
    for wrong in ({}, *({**told, **one} for one in bad)):
        answers = arrive(tmp_path, content, wrong, monkeypatch, capsys)
        assert [one["answer"] for one in answers] == ["go", "refused"]
        assert not list((tmp_path / "dumps").iterdir()) and not list((tmp_path / "incoming").iterdir())
    assert len(list((tmp_path / "failures").iterdir())) == 9
    answers = arrive(tmp_path, content, told, monkeypatch, capsys)
    assert [one["answer"] for one in answers] == ["go", "stored"]
    (found,) = [one for one in store.Store(config(tmp_path)).dumps() if one.folder]
    assert found.state == "unproven" and found.request == "x" and found.number == 10
    # The same request again finds it there, and two at once find it busy.
    assert arrive(tmp_path, content, told, monkeypatch, capsys)[0]["answer"] == "have"
    held = store.Store(config(tmp_path)).claim()
    assert held is not None
    assert arrive(tmp_path, content, told, monkeypatch, capsys)[0]["answer"] == "busy"
    held.close()


def test_a_full_store_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(store.Store, "free", lambda self: -1)
    assert arrive(tmp_path, b"", {}, monkeypatch, capsys)[0]["answer"] == "full"
    assert store.Store(config(tmp_path)).dumps()[0].state == "full"
