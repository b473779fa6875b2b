"""The oplog in the store: how it is cut into segments, what the chain accepts, and which moments it leads to."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.backup import REPLAYED
from phoenix.backup import frames, prove, scratch, store, watch
from phoenix.backup.archive import Moment
from phoenix.backup.oplog import chain, intake, segment, ship
from phoenix.backup.oplog.chain import Chain, Range, Tail
from phoenix.backup.serve import serve
from tests.unit.backup.builders import bson, config, dump, manifest

START = 1_790_000_000


def entry(seconds: int, ordinal: int = 1, text: str = "") -> bytes:
    return bson(op="i", ns="app.items", ts=(START + seconds, ordinal), o={"x": text})


def based(number: int, seconds: int, state: str = "good", **more: Any) -> store.Dump:
    """A dump whose moment is so many seconds after the start."""
    return dump(number, state, manifest={**manifest(100), "moment": [START + seconds, 5]}, **more)


def fresh(root: Path) -> Chain:
    (root / "oplog").mkdir()
    return Chain(root)


def fill(there: Chain, entries: list[bytes], limit: int = 1) -> Tail | None:
    """Ship the entries from the chain's end on, as a member does."""
    tail = there.tail()
    end = ship.End(tail.last, tail.sha256, tail.entry) if tail else begin(entries[0])
    since = [one for one in entries if segment.moment(one) >= end.last]
    for content, _ in ship.segments(since, end, limit):
        _, tail = there.add(content, tail)
    return tail


def begin(first: bytes) -> ship.End:
    return ship.End(segment.moment(first), "", segment.digest(first))


@settings(max_examples=25, deadline=None)  # each segment is flushed to the disk
@given(
    st.lists(st.integers(1, 7200), min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 400)), max_size=6),
    st.integers(0, 59),
    st.integers(0, 60),
)
def test_however_it_is_cut_the_chain_gives_all_entries(
    steps: list[int], shipped: list[tuple[int, int]], since: int, length: int
) -> None:
    """Members that take turns, each with what it has by then, and limits of their own."""
    seconds, entries = 0, []
    for step in steps:
        seconds += step
        entries.append(entry(seconds, text="x" * (step % 50)))
    with tempfile.TemporaryDirectory() as folder:
        there = fresh(Path(folder))
        for known, limit in (*sorted(shipped), (len(entries), 100)):
            fill(there, entries[:known], limit)
        moments = [segment.moment(one) for one in entries]
        assert there.ranges() == [Range(moments[0], moments[-1])]
        first, last = sorted((since % len(entries), (since + length) % len(entries)))
        found = dict(there.entries(moments[first], moments[last]))
        assert {moment: found[moment] for moment in moments[first:last]} == dict(
            zip(moments[first:last], entries[first:last], strict=True)
        )
        assert list(found) == sorted(found) and all(moment < moments[last] for moment in found)
        end = moments[-1][0]
        assert moments[first:] == [
            one for one in dict(there.entries(moments[first], (end + 1, 0))) if one >= moments[first]
        ]
        with pytest.raises(chain.Unreachable):
            list(there.entries(moments[first], (end + 2, 0)))


def test_a_segment_starts_with_the_chains_last_entry_or_there_is_a_gap() -> None:
    entries = [entry(number) for number in range(5)]
    end = begin(entries[0])
    assert [reached.last for _, reached in ship.segments(entries, end, 10**6)] == [(START + 4, 1)]
    cut = [segment.unpack(content)[0] for content, _ in ship.segments(entries, end, 1)]
    assert [(one.first[0] - START, one.last[0] - START) for one in cut] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    for others in (entries[1:], [entry(0, text="other"), *entries[1:]], []):
        with pytest.raises(ship.Lost):
            list(ship.segments(others, end, 1))
    # Nothing new is nothing to send, and a new range may have one entry.
    known = ship.End(end.last, "sha", end.entry)
    assert list(ship.segments(entries[:1], known, 1)) == []
    assert len(list(ship.segments(entries[:1], end, 1))) == 1


def test_what_does_not_continue_the_chain_is_refused(tmp_path: Path) -> None:
    there = fresh(tmp_path)
    tail = fill(there, [entry(1), entry(2)])
    assert tail

    def refused(entries: list[bytes], previous: str, why: str) -> None:
        with pytest.raises(segment.Damaged, match=why):
            there.add(segment.pack(entries, previous)[1], tail)
        assert there.ranges() == [Range((START + 1, 1), (START + 2, 1))]

    refused([entry(2), entry(3)], "0" * 64, "does not follow")
    refused([entry(1), entry(3)], tail.sha256, "does not follow")
    refused([entry(2, text="other"), entry(3)], tail.sha256, "begins with another entry")
    refused([entry(2)], tail.sha256, "adds nothing")
    refused([entry(2), entry(2)], tail.sha256, "not in order")
    refused([entry(1), entry(3)], "", "begins a range before")
    _, content = segment.pack([entry(2), entry(3)], tail.sha256)
    for spoiled in (content[:-1], content[:-9] + b"x" + content[-8:], b"{}\n" + content, b"", content + b"x"):
        with pytest.raises(segment.Damaged):
            there.add(spoiled, tail)
    header, end = there.add(content, tail)
    assert (header.entries, end.last) == (2, (START + 3, 1))


def test_a_header_that_lies_is_refused() -> None:
    header, content = segment.pack([entry(1), entry(2)], "")
    body = content.partition(b"\n")[2]
    changes: list[dict[str, Any]] = [
        {"entries": 3},
        {"last": [START + 9, 1]},
        {"first": [START, 1]},
        {"sha256": "0"},
        {"first": []},
    ]
    for change in changes:
        line = json.dumps({**vars(header), **change}).encode()
        with pytest.raises(segment.Damaged):
            segment.unpack(line + b"\n" + body)


def test_a_segment_that_arrives_meanwhile_is_not_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the last second more may come, after the renames were followed."""
    there, entries = fresh(tmp_path), [entry(number) for number in range(3)]
    fill(there, entries)
    limit = (START + 3, 0)
    replayed: list[Moment] = []

    @contextlib.contextmanager
    def serving(*_: Any) -> Iterator[list[str]]:
        fill(there, [*entries, entry(2, 2)])
        yield []

    def replay(_: Any, found: Iterable[tuple[Moment, bytes]], *__: Any) -> int:
        replayed.extend(moment for moment, _ in found)
        return len(replayed)

    monkeypatch.setattr(scratch, "serving", serving)
    monkeypatch.setattr(scratch, "check_fleet", lambda *_: None)
    monkeypatch.setattr(scratch, "client", lambda _: io.BytesIO())
    monkeypatch.setattr(scratch, "replay", replay)
    base = dump(1, manifest={**manifest(100), "moment": [START, 1]})
    with scratch.holding(store.Store(config(tmp_path)), base, "app.items", limit) as changes:
        assert changes == 3
    # As the benchmark reads it.
    assert REPLAYED.findall(capsys.readouterr().out)[0][0] == "3"
    assert replayed == [(START + number, 1) for number in range(3)]
    assert len(list(there.entries((START, 1), limit))) == 4


def test_damage_on_the_disk_is_found_and_never_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = fresh(tmp_path)
    fill(there, [entry(number) for number in range(6)])
    middle = next(path for first, _, path in there.names() if first[0] == START + 3)
    kept = middle.read_bytes()
    middle.write_bytes(kept[:-20] + bytes(20))
    with pytest.raises(segment.Damaged, match="the checksum is another"):
        list(there.entries((START, 1), (START + 5, 1)))
    # Replaced by another segment of the same name: the next one does not follow it.
    middle.write_bytes(segment.pack([entry(3, text="other"), entry(4)], "0" * 64)[1])
    with pytest.raises(segment.Damaged, match="does not follow"):
        list(there.entries((START, 1), (START + 5, 1)))
    middle.write_bytes(kept)
    # The newest one is sent again by a member that has its entries.
    newest = there.names()[-1][2]
    newest.write_bytes(b"")
    tail = there.tail()
    assert tail and tail.last == (START + 4, 1) and "is removed" in capsys.readouterr().err
    fill(there, [entry(number) for number in range(6)])
    assert there.ranges() == [Range((START, 1), (START + 5, 1))]


def test_only_what_leads_on_from_a_kept_dump_is_kept(tmp_path: Path) -> None:
    there = fresh(tmp_path)
    fill(there, [entry(number * 60) for number in range(200)])
    before = len(there.names())
    gone = there.prune((START + 6000, 1))
    assert gone == before - len(there.names()) > 90
    assert there.ranges()[0].first <= (START + 6000 - chain.MARGIN, 1)
    assert [first for first, *_ in there.names()] == [(START + second, 1) for second in range(5820, 11940, 60)]
    assert not [folder for folder in there.root.iterdir() if not any(folder.iterdir())]
    list(there.entries((START + 6000, 1), (START + 11940, 1)))
    assert there.prune((0, 0)) == 0


RANGES = [Range((START, 1), (START + 100, 1)), Range((START + 200, 1), (START + 300, 1))]


@pytest.mark.parametrize(
    ("seconds", "dumps", "base"),
    [
        (20, [based(1, 10)], 1),
        (20, [based(1, 10), based(2, 15)], 2),
        (20, [based(1, 10), based(2, 30)], 1),
        (20, [based(1, 10), based(2, 15, "bad")], 1),
        (20, [based(1, 10), based(2, 15, "unproven")], 1),
        (11, [based(1, 10)], 1),
        (10, [based(1, 10)], None),  # its own second: what was written in it can't be told apart
        (100, [based(1, 10)], 1),
        (101, [based(1, 10)], None),
        (250, [based(1, 10)], None),
        (250, [based(1, 150)], None),
        (250, [based(1, 10), based(2, 210)], 2),
        (301, [based(1, 10), based(2, 210)], None),
        (20, [], None),
    ],
)
def test_the_dump_to_begin_with(seconds: int, dumps: list[store.Dump], base: int | None) -> None:
    found = chain.base(RANGES, dumps, (START + seconds, 0))
    assert (found and found.number) == base
    inside = any(first <= START + seconds <= last for first, last in chain.windows(RANGES, dumps))
    assert inside is (base is not None), "what is called restorable is what can be restored"


def test_every_second_until_now_is_covered_while_the_oplog_is_shipped() -> None:
    dumps, end = [based(1, 10)], RANGES[0].last[0]
    assert chain.covered(RANGES[:1], dumps, end + chain.FRESH)
    assert not chain.covered(RANGES[:1], dumps, end + chain.FRESH + 1), "nothing is shipped"
    assert not chain.covered(RANGES, dumps, RANGES[-1].last[0]), "no dump since the gap"
    assert not chain.covered([], dumps, 0.0)


def test_refusals_name_what_can_be_restored() -> None:
    dumps = [based(1, 10), based(2, 210)]
    can = f"what can be restored: {chain.show(START + 11)} to {chain.show(START + 100)} and {chain.show(START + 211)}"
    for seconds, why in ((-5, "before the first"), (150, "has a gap"), (320, r"not in the store \(yet\)")):
        with pytest.raises(chain.Unreachable, match=why) as refused:
            chain.choose(RANGES, dumps, chain.show(START + seconds), START + 400)
        assert can in str(refused.value)
    with pytest.raises(chain.Unreachable, match="in the future"):
        chain.choose(RANGES, dumps, chain.show(START + 250), START + 240)
    for wanted in ("", "now", "2026-11-25", "2026-11-25T10:00:00", "2026-11-25T10:00:00+01:00", "2026-13-25T10:00:00Z"):
        with pytest.raises(chain.Unreachable, match="is not a time in UTC"):
            chain.choose(RANGES, dumps, wanted, START)
    found, limit = chain.choose(RANGES, dumps, chain.show(START + 250), START + 400)
    assert (found.number, limit) == (2, (START + 250, 0))
    with pytest.raises(chain.Unreachable, match="no moment can be restored yet"):
        chain.choose([], dumps, chain.show(START + 250), START + 400)


def test_the_latest_is_all_that_follows_the_newest_good_dump() -> None:
    one, two = based(1, 10), based(2, 210)
    assert chain.choose(RANGES, [one, two], chain.LATEST, START) == (two, (RANGES[1].last[0] + 1, 0))
    # What a new replica set has shipped since begins another range.
    assert chain.choose(RANGES, [one], chain.LATEST, START) == (one, (RANGES[0].last[0] + 1, 0))
    assert chain.choose(RANGES, [one, based(2, 210, "empty")], chain.LATEST, START)[0] == one
    for dumps in ([], [based(1, 150)]):
        with pytest.raises(chain.Unreachable, match="no oplog follows"):
            chain.choose(RANGES, dumps, chain.LATEST, START)


@pytest.mark.parametrize(
    ("dumps", "now", "result", "request_id"),
    [
        ([based(1, 10)], 300, 2, f"gap-{START + 200}"),
        ([based(1, 10), based(2, 210, "bad")], 300, 2, f"gap-{START + 200}"),
        ([based(1, 10), based(2, 210, "unproven")], 300, 2, ""),
        ([based(1, 10), based(2, 210)], 300, 1, ""),
        ([based(1, 10), based(2, 210)], 300 + 86400, 0, ""),
    ],
)
def test_a_gap_wants_a_dump(dumps: list[store.Dump], now: float, result: int, request_id: str) -> None:
    assert chain.after_gap(RANGES, dumps, START + now) == (result, request_id)
    assert chain.after_gap(RANGES[:1], dumps, START + now) == (0, "")


def test_the_report_names_windows_gaps_and_what_does_not_lead_on() -> None:
    found = watch.oplog_report(RANGES, [based(1, 10)], START + 304)
    assert f"restorable: {chain.show(START + 11)} to {chain.show(START + 100)}; the oplog is 4 s behind" in found.line
    assert f"a gap from {chain.show(START + 100)} to {chain.show(START + 200)}" in found.line
    assert found.problems == ["there is no good dump since the oplog's last gap"]
    bad = based(2, 210, chain={"state": "bad", "base": "x", "reason": "app.items is missing"})
    found = watch.oplog_report(RANGES, [based(1, 10), bad], START + 304)
    assert found.problems == [f"the oplog does not lead from x to {bad.name}: app.items is missing"]
    assert found.metrics == {"phoenix_backup_chain_result": 1.0}
    assert watch.oplog_report([], [], START).problems == []


def test_the_night_is_proven_from_the_night_before() -> None:
    known = [based(1, 10), based(2, 50, kind="manual"), based(3, 60, "shrunken"), based(4, 90)]
    for number, kind, earlier in ((4, "nightly", 1), (2, "manual", 1), (1, "nightly", None)):
        one = based(number, known[number - 1].manifest["moment"][0] - START, kind=kind)
        found = prove.predecessor(one, known)
        assert (found and found.number) == earlier
    # Without another night: the newest.
    found = prove.predecessor(known[3], known[1:])
    assert found and found.number == 2


def test_other_hosts_ship_no_oplog(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve(store.Store(config(tmp_path)), "app1", "oplog") == 1
    assert json.loads(capsys.readouterr().out)["answer"] == "refused"


def receive(root: Path, sent: bytes, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> list[dict[str, Any]]:
    real = frames.receive
    (root / "sent").write_bytes(sent)
    held = store.Store(config(root))
    held.prepare()
    with (root / "sent").open("rb") as stream:
        monkeypatch.setattr(frames, "receive", lambda handle, *limits: real(stream.fileno(), *limits))
        intake.receive(held)
    monkeypatch.setattr(frames, "receive", real)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def frame(kind: bytes, content: bytes) -> bytes:
    return frames.HEAD.pack(kind, len(content)) + content


def test_each_segment_is_acknowledged_once_it_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    first, second = [
        content for content, _ in ship.segments([entry(number) for number in range(3)], begin(entry(0)), 1)
    ]
    answers = receive(tmp_path, frame(b"D", first) + frame(b"D", second) + frame(b"E", b""), monkeypatch, capsys)
    assert [one["answer"] for one in answers] == ["go", "stored", "stored"]
    assert answers[0]["last"] is None and answers[2]["sha256"] == segment.digest(second)
    # Sent again, it is refused; the next session is given where to go on.
    answers = receive(tmp_path, frame(b"D", second), monkeypatch, capsys)
    assert [one["answer"] for one in answers] == ["go", "refused"]
    assert answers[0]["last"] == [START + 2, 1] and answers[0]["sha256"] == segment.digest(second)
    assert Chain(tmp_path).ranges() == [Range((START, 1), (START + 2, 1))]


def test_a_full_store_refuses_and_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    _, content = segment.pack([entry(0)], "")
    monkeypatch.setattr(store.Store, "free", lambda self: -1)
    answers = receive(tmp_path, frame(b"D", content), monkeypatch, capsys)
    assert answers[-1]["answer"] == "refused" and "free" in answers[-1]["reason"]
    assert Chain(tmp_path).ranges() == []


def test_signs_of_life_while_another_ships(tmp_path: Path) -> None:
    path = tmp_path / "sent"
    path.write_bytes(frame(b"A", b"") * 2)
    with path.open("rb") as stream:
        assert frames.alive(stream.fileno()) and frames.alive(stream.fileno())
        assert not frames.alive(stream.fileno())
    path.write_bytes(frame(b"D", b"x"))
    with path.open("rb") as stream, pytest.raises(frames.Broken, match="its turn"):
        frames.alive(stream.fileno())


class FakeOplog(ship.Oplog):
    """A member's oplog in memory."""

    def __init__(self, entries: list[bytes], committed: Moment) -> None:
        self.entries, self.at = entries, committed

    def committed(self) -> Moment:
        return self.at

    def read(self, since: Moment, until: Moment) -> Any:
        return (one for one in self.entries if since <= segment.moment(one) <= until)


class FakeSession:
    """The store's side, without the connection."""

    def __init__(self, root: Path) -> None:
        self.frames, self.chain, self.answered = self, Chain(root), ""

    def send(self, kind: bytes, content: bytes) -> None:
        assert kind == frames.DATA
        self.answered = self.chain.add(content, self.chain.tail())[1].sha256

    def answers(self, seconds: float) -> bool:
        return seconds > 0

    def answer(self) -> dict[str, Any]:
        return {"answer": "stored", "sha256": self.answered, "dump": ""}


def shipment(root: Path, oplog: ship.Oplog, newest: Moment | None = None) -> ship.Shipment:
    (root / "oplog").mkdir(exist_ok=True)
    tail = Chain(root).tail()
    go = {"last": tail and list(tail.last), "sha256": tail and tail.sha256, "entry": tail and tail.entry,
          "start": newest and list(newest)}  # fmt: skip
    settings: Any = type("Settings", (), {"oplog_bytes": 200})
    return ship.Shipment(settings, FakeSession(root), oplog, go)


def test_only_what_a_majority_has_is_shipped(tmp_path: Path) -> None:
    oplog = FakeOplog([entry(number) for number in range(10)], (START + 4, 1))
    one = shipment(tmp_path, oplog)
    assert one.ship() and Chain(tmp_path).ranges() == [Range((START + 4, 1), (START + 4, 1))]
    assert one.ship() == 0
    oplog.at = (START + 7, 1)
    assert one.ship() and Chain(tmp_path).ranges() == [Range((START + 4, 1), (START + 7, 1))]
    # A member that is behind the one that shipped before waits, and no gap is made.
    behind = FakeOplog(oplog.entries[:6], (START + 5, 1))
    assert shipment(tmp_path, behind).ship() == 0
    assert len(Chain(tmp_path).ranges()) == 1


def test_a_range_begins_with_the_newest_dump_where_the_oplog_has_it(tmp_path: Path) -> None:
    oplog = FakeOplog([entry(number) for number in range(10)], (START + 9, 1))
    shipment(tmp_path, oplog, (START + 2, 1)).ship()
    assert Chain(tmp_path).ranges() == [Range((START + 2, 1), (START + 9, 1))]
    # The oplog has rolled over: the rest begins a range of its own, not with the dump of before the gap.
    later = FakeOplog([entry(number) for number in range(20, 30)], (START + 29, 1))
    shipment(tmp_path, later, (START + 2, 1)).ship()
    assert [one.first[0] - START for one in Chain(tmp_path).ranges()] == [2, 29]
    # Other entries under the same time-stamp: another history.
    other = FakeOplog([entry(29, text="other"), entry(31)], (START + 31, 1))
    shipment(tmp_path, other).ship()
    assert [one.first[0] - START for one in Chain(tmp_path).ranges()] == [2, 29, 31]


def test_the_dump_after_a_gap_is_started_once_and_again_if_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    clock = [1000.0]

    class Process:
        code: int | None = None

        def poll(self) -> int | None:
            return self.code

    def start(command: list[str]) -> Process:
        started.append(command)
        return Process()

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    dumps = ship.DumpAfterGap()
    dumps.see_to("")
    assert started == []
    dumps.see_to("gap-1")
    dumps.see_to("gap-1")
    assert started == [[ship.COMMAND, "backup", "dump", "--unit", "manual-gap-1"]]
    Process.code = 1
    clock[0] += ship.DUMP_AGAIN - 1
    dumps.see_to("gap-1")
    assert len(started) == 1
    clock[0] += 1
    dumps.see_to("gap-1")
    assert len(started) == 2
