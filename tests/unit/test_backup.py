"""The backup's decisions: who dumps, what is admitted, what counts, what goes; and what it reads and writes."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix.backup import (
    archive,
    clock,
    fingerprint,
    frames,
    intake_dumps,
    intake_logs,
    logs,
    member,
    prove,
    restore,
    retention,
    sender,
    store,
    watch,
)
from phoenix.backup.serve import serve
from phoenix.common import prometheus
from tests.unit.shared import TOP

DAY = retention.DAY
HOUR = 3600.0


# --- who dumps


def members(*rows: tuple[str, str, float]) -> list[member.Member]:
    return [member.Member(*row) for row in rows]


@pytest.mark.parametrize(
    ("own", "rows", "dumps"),
    [
        ("b", [("a", "primary", 100.0), ("b", "secondary", 99.0), ("c", "secondary", 100.0)], True),
        ("a", [("a", "primary", 100.0), ("b", "secondary", 99.0)], False),
        ("a", [("a", "primary", 100.0), ("b", "secondary", 20.0)], True),  # the secondary is behind
        ("b", [("a", "primary", 100.0), ("b", "secondary", 20.0)], False),
        ("a", [("a", "primary", 100.0)], True),  # the others do not answer
        ("a", [("a", "other", 100.0), ("b", "secondary", 100.0)], False),
        ("a", [("b", "secondary", 100.0)], False),  # this member does not answer
        ("b", [("b", "secondary", 100.0), ("c", "secondary", 100.0)], True),  # an election: nobody is primary
    ],
)
def test_who_dumps(own: str, rows: list[tuple[str, str, float]], dumps: bool) -> None:
    decision = member.decide(own, members(*rows), max_lag=30)
    assert decision.dump is dumps, decision.reason


@given(
    st.lists(
        st.tuples(st.sampled_from("abcde"), st.sampled_from(["primary", "secondary", "other"]), st.floats(0, 100)),
        unique_by=lambda row: row[0],
        max_size=5,
    )
)
def test_never_the_primary_beside_a_healthy_secondary(rows: list[tuple[str, str, float]]) -> None:
    known = members(*rows)
    chosen = [one for one in known if member.decide(one.address, known, 30).dump]
    newest = max((one.written for one in known), default=0.0)
    healthy = [one for one in known if one.role == "secondary" and newest - one.written <= 30]
    if healthy:
        assert chosen == healthy
    else:
        assert all(one.role == "primary" for one in chosen)


# --- what is admitted


def dump(number: int, state: str = "good", kind: str = "nightly", elapsed: float = 0.0, **more: Any) -> store.Dump:
    folder = None if state in ("failed", "full") else Path("/nonexistent")
    values: dict[str, Any] = {"name": f"2026112{number}T010000Z-db2", "received": elapsed, "host": "db2", "request": "",
                              "reason": "", "folder": folder, "manifest": manifest(100)}  # fmt: skip
    return store.Dump(**{**values, "number": number, "elapsed": elapsed, "kind": kind, "state": state, **more})


def manifest(documents: int) -> dict[str, Any]:
    one = fingerprint.Collection(documents, documents * 100, "00", ["_id_"])
    said = {"moment_utc": "2026-11-24T01:30:00Z", "member": "db2", "server_version": "6.0.5"}
    spaces = fingerprint.to_json({"app.items": one})
    return {"namespaces": spaces, "size": documents * 30, "dump_seconds": 1.5, **said}


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
    assert intake_dumps.space_needed([], 1000) == 1000
    assert intake_dumps.space_needed([dump(1)], 1000) == 1000 + int(1.5 * (3000 + 10000))
    assert intake_dumps.space_needed([dump(1), dump(2, "failed", manifest={})], 1000) == 1000 + int(1.5 * 13000)


def test_a_key_may_only_add(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("", "rm -rf /", "dump", "list", "await ../../etc", "logs now", "prove", "status"):
        assert serve(store.Store(config(tmp_path)), "db2", command) == 1
        assert json.loads(capsys.readouterr().out)["answer"] == "refused"


# --- retention


def kept(number: int, day: float, state: str = "good", safety: bool = False) -> retention.Kept:
    return retention.Kept(f"n{number}", number, day * DAY, state, safety)


def left(verdicts: list[retention.Verdict]) -> list[str]:
    return [one.name for one in verdicts if one.keep]


def test_seven_days_are_kept() -> None:
    nights = [kept(day, day) for day in range(1, 11)]
    assert left(retention.decide(nights, 10 * DAY, 7)) == [f"n{day}" for day in range(3, 11)]


def test_nothing_goes_while_the_newest_is_not_good() -> None:
    for state in ("failed", "bad", "unproven", "shrunken", "empty", "full"):
        nights = [*[kept(day, day) for day in range(1, 11)], kept(11, 11, state)]
        assert len(left(retention.decide(nights, 30 * DAY, 7))) == 11


def test_the_last_good_one_stays_however_old() -> None:
    assert left(retention.decide([kept(1, 1), kept(2, 2, "bad"), kept(3, 3)], 400 * DAY, 7)) == ["n3"]


def test_safety_dumps_go_after_their_time_and_count_for_nothing() -> None:
    nights = [kept(1, 1), kept(2, 2, safety=True), kept(3, 20, "shrunken", safety=True)]
    assert left(retention.decide(nights, 20 * DAY, 7)) == ["n1", "n3"]


STATES = st.sampled_from(["good", "failed", "bad", "unproven", "shrunken", "empty", "full"])


@given(
    st.lists(st.tuples(st.floats(0, 40), STATES, st.booleans()), max_size=20),
    st.floats(0, 60),
    st.integers(1, 30),
)
def test_what_retention_never_does(rows: list[tuple[float, str, bool]], now_day: float, days: int) -> None:
    nights = [kept(number, day, state, safety) for number, (day, state, safety) in enumerate(rows)]
    gone = [
        one
        for one, verdict in zip(nights, retention.decide(nights, now_day * DAY, days), strict=True)
        if not verdict.keep
    ]
    counted = [one for one in nights if not one.safety]
    good = [one for one in counted if one.state == "good"]
    for one in gone:
        assert now_day * DAY - one.elapsed > days * DAY, "deleted early"
        assert counted[-1].state == "good", "deleted although the newest is not good"
        assert one is not good[-1], "the last good one deleted"


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.floats(1, 200000),  # true seconds that pass
            st.sampled_from(["run", "reboot", "off", "lost"]),
            st.floats(-4e9, 4e9),  # where somebody sets the clock: it must not matter
        ),
        max_size=30,
    )
)
def test_running_time_is_never_ahead_of_the_true_time(steps: list[tuple[float, str, float]]) -> None:
    """So nothing is ever taken for older than it is, and nothing goes early; nor does it run backwards."""
    true, since_boot, boot = 0.0, 0.0, 0
    reading = clock.advance(None, "0", 0.0)
    marks = [(true, reading.elapsed)]
    for seconds, event, _wall in steps:
        true += seconds
        since_boot += seconds
        if event in ("reboot", "off"):
            since_boot, boot = 0.0, boot + 1
            true += 5000.0 if event == "off" else 30.0
        # A lost reading is made up for by the newest mark in the store, or by nothing.
        floor = marks[-1][1]
        last = None if event == "lost" else reading
        reading = clock.advance(last, str(boot), since_boot, floor)
        for then, mark in marks:
            assert reading.elapsed - mark <= true - then + 1e-6
        assert reading.elapsed >= marks[-1][1]
        marks.append((true, reading.elapsed))


# --- ten nights in a real store


def config(root: Path) -> store.Config:
    return store.Config(
        str(root), "fleet.example", "phoenix", 7, 26 * HOUR, 0, 12 * HOUR, 1.0, 0.25, str(root / "m"), 27017, ""
    )


# State of the night's dump, hours by which the clock is wrong that night, and what happened.
NIGHTS = [
    ("good", 0, ""),
    ("good", 0, ""),
    ("failed", 0, "the secondary was lost in the middle, and nobody took over"),
    ("good", 0, "taken by another member after a first one failed"),
    ("bad", 0, "the proof found other content"),
    ("good", 87600, "the clock stood ten years ahead"),
    ("good", -12, "the clock was set back, twelve hours behind"),
    ("shrunken", 0, "somebody had emptied a collection"),
    ("full", 0, "the store was full"),
    ("good", 0, "space was made, the collection restored"),
]


def ten_nights(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Ten nights in a store below root; returns the table of what is left, and why."""
    held, nights, lines = store.Store(config(root)), {}, []
    held.prepare()
    for night, (state, wrong_hours, what) in enumerate(NIGHTS, start=1):
        wall = 1793496600 + night * DAY + wrong_hours * HOUR
        monkeypatch.setattr(time, "time", lambda wall=wall: wall)
        monkeypatch.setattr(time, "clock_gettime", lambda _, night=night: 4000.0 + night * DAY)
        name = time.strftime("%Y%m%dT%H%M%SZ-db2", time.gmtime(wall))
        nights[name] = night
        if state in ("failed", "full"):
            held.fail(name, "nightly", "db2", "", state, what)
        else:
            with held.books() as elapsed:
                folder = root / "dumps" / name
                folder.mkdir()
                receipt = {"number": held.next_number(), "elapsed": elapsed, "received": wall, "kind": "nightly",
                           "host": "db2", "request": ""}  # fmt: skip
            (folder / "manifest.json").write_text(json.dumps(manifest(100)))
            held.receipt(name).write_text(json.dumps(receipt))
            (folder / "proof.json").write_text(json.dumps({"state": state, "reason": what}))
        if state == "good":
            held.prune()
        with held.books() as elapsed:
            verdicts = retention.decide(
                [retention.Kept(one.name, one.number, one.elapsed, one.state) for one in held.dumps()], elapsed, 7
            )
        here = [one for one in verdicts if (root / "dumps" / one.name).exists()]
        young = " ".join(str(nights[one.name]) for one in here if "old," not in one.reason)
        old = "; ".join(f"{nights[one.name]}: {one.reason}" for one in here if "old," in one.reason)
        lines.append(f"| {night} | {state} | {what} | {young} | {old} |")
    return "\n".join(lines) + "\n"


def test_ten_nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = ten_nights(tmp_path, monkeypatch)
    assert table in (TOP / "docs" / "backup.md").read_text(encoding="utf-8"), f"docs/backup.md lacks:\n{table}"
    # The tenth night's good dump lets the first two go, which the ninth could not.
    assert len(list((tmp_path / "dumps").iterdir())) == 6


# --- what the archive says about its moment


def bson(**fields: Any) -> bytes:
    """Documents of the few kinds that the tests need."""
    body = b""
    for name, value in fields.items():
        key = name.encode() + b"\0"
        if isinstance(value, bool):
            body += b"\x08" + key + bytes([value])
        elif isinstance(value, tuple):
            body += b"\x11" + key + struct.pack("<II", value[1], value[0])
        elif isinstance(value, dict):
            body += b"\x03" + key + bson(**value)
        elif isinstance(value, bytes):
            body += b"\x05" + key + struct.pack("<I", len(value)) + b"\0" + value
        elif isinstance(value, int):
            body += b"\x12" + key + struct.pack("<q", value)
        else:
            text = str(value).encode() + b"\0"
            body += b"\x02" + key + struct.pack("<I", len(text)) + text
    return struct.pack("<I", len(body) + 5) + body + b"\0"


END = archive.TERMINATOR


def block(collection: str, *documents: bytes) -> bytes:
    return (
        bson(db="" if collection == "oplog" else "app", collection=collection, EOF=False, CRC=0)
        + b"".join(documents)
        + END
    )


def archived(*blocks: bytes) -> bytes:
    return gzip.compress(b"magic" + bson(concurrent=1) + END + b"".join(blocks))


OPLOG = block(
    "oplog",
    bson(lsid={"ts": (9, 9)}, op="i", o={"ts": (8, 8), "x": 1}, ts=(5, 1)),
    bson(op="u", o={"ts": (9, 9)}, ts=(5, 2), wall=3),
) + bson(db="", collection="oplog", EOF=True, CRC=77) + END  # fmt: skip


@pytest.mark.parametrize("step", [1, 7, 64, 100000])
def test_the_moment_is_the_last_entry_of_the_oplog(step: int) -> None:
    packed = archived(block("items", bson(ts=(99, 99)), bson(x=1)), OPLOG)
    end = archive.OplogEnd()
    for at in range(0, len(packed), step):
        end.feed(packed[at : at + step])
    end.close()
    assert end.moment == (5, 2)


def test_a_document_that_looks_like_an_oplog_does_not_matter() -> None:
    decoy = END + bson(db="", collection="oplog", EOF=False, CRC=0) + bson(ts=(99, 99))
    packed = archived(block("items", bson(x=decoy), bson(y=1)), OPLOG)
    end = archive.OplogEnd()
    end.feed(packed)
    end.close()
    assert end.moment == (5, 2)


def test_half_an_archive_is_none() -> None:
    packed = archived(block("items", bson(x=1)), OPLOG)
    end = archive.OplogEnd()
    end.feed(packed[:-20])
    with pytest.raises(ValueError, match="cut off"):
        end.close()
    without = archive.OplogEnd()
    without.feed(archived(block("items", bson(x=1))))
    with pytest.raises(ValueError, match="no oplog"):
        without.close()


# --- fingerprints


def test_a_fingerprint_depends_on_content_and_not_on_order() -> None:
    def digest(*documents: bytes) -> tuple[int, str]:
        one = fingerprint.Digest()
        for batch in documents:
            one.feed(batch)
        return one.documents, one.hexdigest()

    first, second = bson(_id=1, a="x"), bson(_id=2, a="y")
    assert digest(first + second) == digest(second, first)
    assert digest(first + second)[0] == 2
    assert digest(first, first) != digest(first)
    assert digest(bson(_id=1, a="y"), bson(_id=2, a="x")) != digest(first, second)


def test_differences_are_told() -> None:
    one = fingerprint.Collection(3, 300, "aa", ["_id_"])
    assert fingerprint.differences({"a.b": one}, {"a.b": one}) == []
    assert fingerprint.differences({"a.b": one}, {}) == ["a.b is missing"]
    assert fingerprint.differences({}, {"a.b": one}) == ["a.b is not in the manifest"]
    fewer = fingerprint.Collection(2, 200, "bb", ["_id_"])
    assert "2 documents instead of 3" in fingerprint.differences({"a.b": one}, {"a.b": fewer})[0]
    other = fingerprint.Collection(3, 300, "bb", ["_id_", "n_1"])
    assert len(fingerprint.differences({"a.b": one}, {"a.b": other})) == 2
    capped = fingerprint.Collection(None, None, None, ["_id_"])
    assert fingerprint.differences({"a.b": capped}, {"a.b": one}) == []
    assert fingerprint.from_json(fingerprint.to_json({"a.b": one})) == {"a.b": one}


# --- the proof's verdict, and what the store says


def test_only_what_equals_its_manifest_is_good() -> None:
    assert prove.judge(dump(2), ["app.items is missing"], [])[0] == "bad"
    assert prove.judge(dump(2), [], [])[0] == "good"
    assert prove.judge(dump(2, manifest=manifest(0)), [], [])[0] == "empty"
    assert prove.judge(dump(2, manifest=manifest(49)), [], [dump(1)])[0] == "shrunken"
    assert prove.judge(dump(2, manifest=manifest(50)), [], [dump(1)])[0] == "good"
    # A shrunken one is no measure for the next, nor is a safety dump.
    known = [dump(1), dump(2, "shrunken", manifest=manifest(10)), dump(3, kind="safety", manifest=manifest(10))]
    assert prove.judge(dump(4, manifest=manifest(10)), [], known)[0] == "shrunken"


def watched(*known: store.Dump, now: float = 0.0, elapsed: float | None = None, free: int = 10**9) -> watch.Report:
    return watch.report(known, now, now if elapsed is None else elapsed, free, 26 * HOUR, 10**6)


def test_the_watch_says_what_is_wrong() -> None:
    assert watched(dump(1), now=25 * HOUR).problems == []
    assert "27.0 h old" in watched(dump(1), now=27 * HOUR).problems[0]
    assert watched(now=HOUR).problems == []  # a new store has its first night before it
    assert "none at all" in watched(now=27 * HOUR).problems[0]
    # A clock that was set back hides nothing.
    assert watched(dump(1), now=-5 * HOUR, elapsed=27 * HOUR).problems
    for state, result in (("failed", 1), ("empty", 1), ("bad", 2), ("unproven", 0), ("shrunken", 3), ("full", 4)):
        found = watched(dump(1), dump(2, state))
        assert found.metrics["phoenix_backup_last_result"] == result
        assert bool(found.problems) is (state != "unproven")
    never = watched(dump(1, elapsed=26 * HOUR), dump(2, "unproven"), now=27 * HOUR)
    assert "never proven" in never.problems[0] and never.metrics["phoenix_backup_last_result"] == 2
    assert watched(dump(1), free=5).metrics["phoenix_backup_last_result"] == 4
    assert watched(dump(1), dump(2, "shrunken", kind="safety")).problems == []


def test_metrics_are_prometheus_text() -> None:
    text = prometheus.exposition(watched(dump(1)).metrics)
    assert "\nphoenix_backup_newest_good_documents 100\n" in text
    assert all(line.startswith(("# TYPE phoenix_backup_", "phoenix_backup_")) for line in text.splitlines())


# --- restore


def test_what_may_be_restored() -> None:
    known = [
        dump(1),
        dump(2),
        dump(3, "bad"),
        dump(4, "unproven"),
        dump(5, "shrunken"),
        dump(6, kind="safety"),
        dump(7, "failed"),
    ]
    assert restore.choose(known, "newest") is known[1]
    assert restore.choose(known, known[4].name) is known[4]
    assert restore.choose(known, known[5].name) is known[5]
    for wrong in (known[2].name, known[3].name, known[6].name, "../dumps", "20200101T000000Z-db9"):
        with pytest.raises(restore.Refused):
            restore.choose(known, wrong)
    with pytest.raises(restore.Refused, match="no good dump"):
        restore.choose([dump(1, "bad")], "newest")


def test_a_single_collection_touches_nothing_else() -> None:
    assert list(restore.wanted(dump(1), "app.items")) == ["app.items"]
    with pytest.raises(restore.Refused, match="no collection app"):
        restore.wanted(dump(1), "app.other")
    live = {"app.items": 1, "app.later": 2, "else.where": 3}
    assert restore.surplus(live, {"app.items": 1}, "") == ["app.later"]
    assert restore.surplus(live, {"app.items": 1}, "app.items") == []


# --- frames


def through(*pieces: bytes, silence: float = 0.3) -> list[tuple[bytes, bytes]]:
    read, write = os.pipe()
    with os.fdopen(write, "wb") as stream:
        for piece in pieces:
            stream.write(piece)
    return list(frames.receive(read, silence))


def test_frames_arrive_whole_or_not_at_all() -> None:
    head = frames.HEAD.pack
    sent = head(b"D", 3) + b"abc" + head(b"A", 0) + head(b"E", 2) + b"{}"
    read, write = os.pipe()
    os.write(write, sent)
    found = frames.receive(read, 0.2)
    assert [next(found), next(found)] == [(b"D", b"abc"), (b"E", b"{}")]
    with pytest.raises(frames.Broken, match="silent"):
        next(found)
    for broken in (sent[:5], sent[:-1], head(b"D", 9) + b"abc", b"GET / HTTP/1.1\r\n"):
        with pytest.raises(frames.Broken):
            through(broken)


def test_a_sender_shows_that_it_lives() -> None:
    read, write = os.pipe()
    with os.fdopen(write, "wb", buffering=0) as stream:
        lively = frames.Sender(stream, interval=0.05)
        threading.Event().wait(0.3)
        lively.send(frames.END, b"")
        lively.close()
        assert next(frames.receive(read, 0.01)) == (b"E", b"")


# --- a dump that arrives


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


def test_a_dump_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    content = b"archive"
    told = {**manifest(5), "fleet": "fleet.example", "replica_set": "phoenix", "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest()}  # fmt: skip
    bad: list[dict[str, Any]] = [
        {"sha256": "0"},
        {"size": 1},
        {"fleet": "another"},
        {"namespaces": {"a.b": 1}},
        {"member": "a\nb"},
    ]
    for wrong in ({}, *({**told, **one} for one in bad)):
        answers = arrive(tmp_path, content, wrong, monkeypatch, capsys)
        assert [one["answer"] for one in answers] == ["go", "refused"]
        assert not list((tmp_path / "dumps").iterdir()) and not list((tmp_path / "incoming").iterdir())
    assert len(list((tmp_path / "failures").iterdir())) == 6
    answers = arrive(tmp_path, content, told, monkeypatch, capsys)
    assert [one["answer"] for one in answers] == ["go", "stored"]
    (found,) = [one for one in store.Store(config(tmp_path)).dumps() if one.folder]
    assert found.state == "unproven" and found.request == "x" and found.number == 7
    # The same request again finds it there, and two at once find it busy.
    assert arrive(tmp_path, content, told, monkeypatch, capsys)[0]["answer"] == "have"
    held = store.Store(config(tmp_path)).claim()
    assert held is not None
    assert arrive(tmp_path, content, told, monkeypatch, capsys)[0]["answer"] == "busy"
    held.close()


def test_a_full_store_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(store.Store, "free", lambda self: -1)
    assert arrive(tmp_path, b"", {}, monkeypatch, capsys)[0]["answer"] == "full"
    assert store.Store(config(tmp_path)).dumps()[0].state == "full"


def test_a_tools_complaint_is_found() -> None:
    time = "2026-11-24T13:14:00.979+0000"
    lines = [f"{time}\t[####]  app.items  1/1  (100.0%)", f"{time}\tFailed: oplog overflow: unable to capture", ""]
    assert sender.complaint(lines) == "Failed: oplog overflow: unable to capture"
    assert sender.complaint(["killed"]) == "killed"


# --- logs


def test_a_rotated_file_is_sent_once_though_it_is_compressed_later() -> None:
    assert logs.choose([Path("/a/x.log-1"), Path("/a/y.log-2.gz")]) == [
        ("x.log-1", Path("/a/x.log-1")),
        ("y.log-2", Path("/a/y.log-2.gz")),
    ]
    assert logs.choose([Path("/a/x.log-1.gz")])[0][0] == "x.log-1"


def test_exports_go_only_when_the_store_has_them() -> None:
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


def test_logs_of_a_host_that_fell_silent_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
