"""What may be restored, and what a restore replaces."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from phoenix.backup import files, plan, restore, scratch, store
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
    assert not running and not note.exists()
    stuck = True
    again = restore._scratch(kept, one, moment, "app.items")
    with pytest.raises(Refused, match=r"serves .* instead of"), again:
        pass
    assert not running and not note.exists()
