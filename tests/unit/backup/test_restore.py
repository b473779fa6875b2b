"""What may be restored, and what a restore replaces."""

from __future__ import annotations

import contextlib
import fcntl
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from phoenix.backup import files, plan, prove, restore, scratch, store
from phoenix.backup.order import Refused
from tests.unit.backup.builders import config, dump


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
    assert plan.choose(known, "newest") is known[1]
    assert plan.choose(known, known[4].name) is known[4]
    assert plan.choose(known, known[5].name) is known[5]
    for wrong in (known[2].name, known[3].name, known[6].name, "../dumps", "20200101T000000Z-db9"):
        with pytest.raises(Refused):
            plan.choose(known, wrong)
    with pytest.raises(Refused, match="no good dump"):
        plan.choose([dump(1, "bad")], "newest")


def test_a_single_collection_touches_nothing_else() -> None:
    assert list(plan.wanted(dump(1), "app.items")) == ["app.items"]
    with pytest.raises(Refused, match="no collection app"):
        plan.wanted(dump(1), "app.other")
    live = {"app.items": 1, "app.later": 2, "else.where": 3}
    assert plan.surplus(live, {"app.items": 1}, "") == ["app.later"]
    assert plan.surplus(live, {"app.items": 1}, "app.items") == []


def test_the_scratch_server_serves_this_very_scope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restore that was killed left a unit of the same name, which has but one collection."""
    kept = store.Store(config(tmp_path))
    kept.prepare()
    note, served = tmp_path / scratch.NOTE, tmp_path / scratch.SERVED
    running: set[str] = set()
    stuck = False

    def systemctl(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        verb, unit = command[1:]
        if verb in ("restart", "stop"):
            running.discard(unit)
        if verb in ("start", "restart") and unit not in running:
            running.add(unit)
            if not stuck:
                files.write(served, note.read_text())
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", systemctl)
    one, moment = dump(1), (1700000000, 0)
    running.add(f"phoenix-backup-scratch@{one.name}:{moment[0]}.service")
    files.write(served, f'{{"instance": "{one.name}:{moment[0]}", "collection": "app.items"}}')
    with restore._scratch(kept, one, moment, ""):
        assert files.read_json(served) == {"instance": f"{one.name}:{moment[0]}", "collection": ""}
        with note.open("rb") as noted:
            assert not scratch._abandoned(noted), "by which the server sees that its restore lives"
    assert not running and not note.exists()
    stuck = True
    again = restore._scratch(kept, one, moment, "app.items")
    with pytest.raises(Refused, match=r"serves .* instead of"), again:
        pass
    assert not running and not note.exists()


HOLDER = """\
import fcntl, sys, time
note = open(sys.argv[1], "rb")
fcntl.flock(note, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(999)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A restore that keeps its note locked, as another process."""
    files.write(tmp_path / scratch.NOTE, json.dumps({"instance": dump(1).name, "collection": "app.items"}))
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path / scratch.NOTE], stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"locked\n"
        yield process
        process.kill()


@pytest.mark.parametrize("killed", ["while it serves", "while it waits for another's", "", "before it began"])
def test_a_scratch_server_ends_with_the_restore_that_it_is_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holder: subprocess.Popen[bytes], killed: str
) -> None:
    """A restore that is killed can't end it, and the proofs and another restore would wait for its end."""
    kept = store.Store(config(tmp_path))
    kept.prepare()
    monkeypatch.setattr(scratch, "ABANDONED_SECONDS", 0.02)
    monkeypatch.setattr(store.Store, "dumps", lambda _: [dump(1)])
    asked = list[str]()

    @contextlib.contextmanager
    def holding(_store: object, _dump: object, collection: str, _limit: object, **_: object) -> Iterator[int]:
        asked.append(collection)
        yield 0

    abandoned = scratch._abandoned

    def lose() -> None:
        holder.kill()
        time.sleep(30)

    def first(note: IO[bytes]) -> bool:
        found = abandoned(note)
        holder.kill()
        return found

    monkeypatch.setattr(scratch, "holding", holding)
    monkeypatch.setattr(prove, "_sleep", lose if killed == "while it serves" else lambda: time.sleep(1))
    former = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if killed == "while it serves":
            with pytest.raises(SystemExit):
                prove.hold(kept, dump(1).name)
        elif killed == "while it waits for another's":
            monkeypatch.setattr(scratch, "_abandoned", first)
            with (tmp_path / "scratch.lock").open("a") as other:
                fcntl.flock(other, fcntl.LOCK_EX)
                with pytest.raises(SystemExit):
                    prove.hold(kept, dump(1).name)
        else:
            if killed:
                holder.kill()
                holder.wait()
            assert prove.hold(kept, dump(1).name) == 0
    finally:
        signal.signal(signal.SIGTERM, former)
    assert asked == ([] if "waits" in killed else ["app.items"])
