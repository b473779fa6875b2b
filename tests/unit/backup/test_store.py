"""Ten nights in a real store."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from phoenix.backup import retention, store
from tests.unit.backup.builders import DAY, HOUR, config, manifest
from tests.unit.shared import TOP

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
    """Simulate ten nights in a store below root; return the table of what is kept, and why."""
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
